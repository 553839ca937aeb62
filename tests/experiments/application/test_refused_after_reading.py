"""A command that is refused after it has read its input changes nothing of the finished run in its directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data.errors import InputError
from experiments.application.choices import CONF
from experiments.application.run_directory import CONFIG, run_directory
from experiments.stages.simulate import simulate
from experiments.stages.train import train

MOLECULES = "smiles,gap\nCCO,1\nno molecule,2\n"
FRAMES = "1\nenergy=1.0 Properties=species:S:1:pos:R:3\nH 0 0 0\n2\nenergy=x Properties=species:S:1:pos:R:3\nH 0 0 0\n"
#: Name -> stage, what runs it, key of the file, file, arguments; each is refused once its file was read.
REFUSED = {
    "train molecules": (
        "train",
        train,
        "data.file",
        ("a.csv", MOLECULES),
        ["task=molecules/properties", "data.target=gap"],
    ),
    "train frames": ("train", train, "data.train", ("a.xyz", FRAMES), ["task=molecules/potentials"]),
    "simulate": ("simulate", simulate, "inputs", ("a.csv", "smiles\nno molecule\n"), ["simulator=xtb"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_of_a_finished_run_changes(name: str, tmp_path: Path) -> None:
    stage, function, key, (file, content), arguments = REFUSED[name]
    path, run_dir = tmp_path / file, tmp_path / "run"
    path.write_text(content)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(stage, [*arguments, f"{key}={path}", f"run.dir={run_dir}"])
    OmegaConf.resolve(config)
    # The run that was finished there.
    with run_directory(config, run_dir, stage):
        for kept in ("rejects.csv", "metrics.json", "split.json"):
            (run_dir / kept).write_text("of the finished run\n")
        (run_dir / "reading.json").write_text(json.dumps([]))
    assert (run_dir / CONFIG).exists()

    def contents() -> dict[str, bytes]:
        kept = (p for p in run_dir.rglob("*") if p.is_file() and p.name not in ("rejects_of_refused.csv", ".lock"))
        return {str(p.relative_to(run_dir)): p.read_bytes() for p in kept}

    before = contents()
    with pytest.raises(InputError), run_directory(config, run_dir, stage):
        function(config, run_dir)
    assert contents() == before
