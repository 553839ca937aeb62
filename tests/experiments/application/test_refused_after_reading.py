"""A command that is refused after it has read its input changes nothing of the finished run in its directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_meshes
import small_weather
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from benchmarks.faults.small_surrogates import MAKERS
from data.errors import InputError
from experiments.application.choices import CONF
from experiments.application.run_directory import CONFIG, run_directory
from experiments.stages.active import active
from experiments.stages.distil import distil
from experiments.stages.evaluate import evaluate
from experiments.stages.grow import grow
from experiments.stages.predict import predict
from experiments.stages.prune import prune
from experiments.stages.simulate import simulate
from experiments.stages.train import train

MOLECULES = "smiles,gap\nCCO,1\nno molecule,2\n"
FRAME = "1\nenergy=1.0 Properties=species:S:1:pos:R:3\nH 0 0 0\n"
FRAMES = FRAME + "2\nenergy=x Properties=species:S:1:pos:R:3\nH 0 0 0\n"
#: Fluorine, which the small potential has not learned, with forces.
FLUORINE = "1\nenergy=1.0 Properties=species:S:1:pos:R:3:forces:R:3\nF 0 0 0 0 0 0\n"
WATER = """3
energy=1.0 Properties=species:S:1:pos:R:3
O 0 0 0.12
H 0 0.76 -0.47
H 0 -0.76 -0.47
"""
STAGES: dict[str, Callable[[DictConfig, Path], None]] = {
    "train": train, "simulate": simulate, "evaluate": evaluate, "active": active, "predict": predict, "grow": grow,
    "prune": prune,
    "distil": distil,
}  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A command that is refused once it has read its files.

    Attributes:
        stage: of the command.
        arguments: of the stage, in which {} stands for the directory of the files.
        files: name -> content, or what writes it.
        surrogate: kind of the untrained one in {}/surrogate; None for none.
        said: what the message must hold, which shows that the files were read.
    """

    stage: str
    arguments: Sequence[str]
    files: dict[str, str | Callable[[Path], object]]
    said: str
    surrogate: str | None = None


def _waves(path: Path) -> None:
    """Trajectories beside arrays of their coordinates, whose axes nothing names."""
    np.savez(path, u=np.random.default_rng(0).normal(size=(3, 4, 8)), x=np.arange(8) / 8, time=np.arange(4.0))


def _numbers(path: Path) -> None:
    rng = np.random.default_rng(0)
    pd.DataFrame({name: rng.random(3) for name in ("speed", "drag")}).to_csv(path, index=False)


REFUSED = {
    "train properties": Refused(
        "train", ["task=molecules/properties", "data.target=gap", "data.file={}/a.csv"], {"a.csv": MOLECULES}, "few"
    ),
    "train potentials": Refused("train", ["task=molecules/potentials", "data.train={}/a.xyz"], {"a.xyz": FRAMES}, ""),
    "tune potentials": Refused(
        "train",
        ["task=molecules/potentials", "data.train={}/a.xyz", "tune.surrogate={}/surrogate"],
        {"a.xyz": FLUORINE},
        "",
        "potentials",
    ),
    "train fields": Refused(
        "train",
        ["task=fluids/trajectories", "data.file={}/a.npz"],
        {"a.npz": _waves},
        "cannot be told from their sizes",
    ),
    "train meshes": Refused(
        "train",
        ["task=fluids/meshes", "data.file={}/a.zarr"],
        {"a.zarr": lambda path: small_meshes.write_store(path, small_meshes.samples(3))},
        "no variable lift in it",
    ),
    "train parameters": Refused(
        "train",
        ["task=fluids/drag", "data.file={}/a.csv", "data.target=drag"],
        {"a.csv": _numbers},
        "which of its columns decide the outputs",
    ),
    "train forecasts": Refused(
        "train",
        ["task=weather/forecasts", "data.file={}/a", "data.parts=[60,20,20,20]"],
        {"a": lambda path: small_weather.store(path, records=1, count=6)},
        "",
    ),
    "evaluate properties": Refused(
        "evaluate", ["data.test=[{}/a.csv]"], {"a.csv": "smiles,gap\nno molecule,2\n"}, "", "properties"
    ),
    "evaluate potentials": Refused("evaluate", ["data.test=[{}/a.xyz]"], {"a.xyz": FLUORINE}, "", "potentials"),
    "evaluate fields": Refused("evaluate", ["data.test=[{}/a.npz]"], {"a.npz": _waves}, "", "fields"),
    "evaluate meshes": Refused(
        "evaluate",
        ["data.test=[{}/a.zarr]"],
        {"a.zarr": lambda path: small_meshes.write_store(path, small_meshes.samples(3))},
        "",
        "meshes",
    ),
    "evaluate parameters": Refused("evaluate", ["data.test=[{}/a.csv]"], {"a.csv": _numbers}, "", "parameters"),
    "evaluate forecasts": Refused(
        "evaluate",
        ["forecasts=held_out", "forecasts.file={}/a"],
        {"a": lambda path: small_weather.store(path, records=1, count=6)},
        "",
        "forecasts",
    ),
    "predict properties": Refused(
        "predict", ["inputs={}/a.csv", "out={}/out.csv"], {"a.csv": "smiles,gap\nno molecule,2\n"}, "", "properties"
    ),
    "predict parameters": Refused(
        "predict", ["inputs={}/a.csv", "out={}/out.csv"], {"a.csv": "speed,wave_3,wave_4\n1,2,x\n"}, "", "parameters"
    ),
    "predict potentials": Refused(
        "predict", ["inputs={}/a.xyz", "out={}/out.xyz"], {"a.xyz": FLUORINE}, "no frame", "potentials"
    ),
    "predict fields": Refused(
        "predict",
        ["inputs={}/a.npz", "out={}/out.nc", "dims=[sample,channel,x]"],
        {"a.npz": lambda path: np.savez(path, initial=np.full((1, 1, 8), np.nan), speed=np.ones(1))},
        "no sample",
        "fields",
    ),
    "simulate": Refused("simulate", ["simulator=xtb", "inputs={}/a.csv"], {"a.csv": "smiles\nno molecule\n"}, ""),
    "train mixture": Refused(
        "train", ["model.kind=mixture", "data.file={}/a.csv", "data.target=gap"], {}, "understudy grow"
    ),
    "evaluate mixture": Refused("evaluate", ["data.test=[{}/a.xyz]"], {"a.xyz": FLUORINE}, "", "mixture"),
    "grow": Refused(
        "grow",
        ["data.train={}/a.xyz", "old.train=[{}/b.xyz]", "out={}/run", "expert=b"],
        {"a.xyz": FLUORINE, "b.xyz": WATER},
        "there is an expert b already",
        "potentials",
    ),
    "prune": Refused("prune", ["out={}/run"], {}, "the frames of an expert are missing", "mixture"),
    "distil": Refused(
        "distil",
        ["inputs={}/a.csv", "data.train={}/a.csv", "data.target=gap", "out={}/run"],
        {"a.csv": "smiles,gap\nno molecule,2\n"},
        "no row of it can be used",
        "properties",
    ),
    "active": Refused("active", ["start={}/a.xyz", "simulator=xtb"], {"a.xyz": "1\n\nQq 0 0 0\n"}, ""),
}


def test_every_kind_is_trained_and_evaluated() -> None:
    assert set(REFUSED) >= {f"{stage} {kind}" for stage in ("train", "evaluate") for kind in MAKERS}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_of_a_finished_run_changes(name: str, tmp_path: Path) -> None:
    case, run_dir = REFUSED[name], tmp_path / "run"
    for file, content in case.files.items():
        if isinstance(content, str):
            (tmp_path / file).write_text(content)
        else:
            content(tmp_path / file)
    arguments = [argument.format(tmp_path) for argument in case.arguments]
    if case.surrogate is not None:
        MAKERS[case.surrogate]().save(tmp_path / "surrogate")
        if case.stage in ("evaluate", "predict", "grow", "prune"):
            arguments.append(f"surrogate={tmp_path / 'surrogate'}")
        elif case.stage == "distil":
            arguments.append(f"teacher={tmp_path / 'surrogate'}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(case.stage, [*arguments, f"run.dir={run_dir}"])
    OmegaConf.resolve(config)
    # The run that was finished there.
    with run_directory(config, run_dir, case.stage):
        for kept in ("rejects.csv", "metrics.json", "split.json"):
            (run_dir / kept).write_text("of the finished run\n")
        (run_dir / "reading.json").write_text(json.dumps([]))
    assert (run_dir / CONFIG).exists()

    def contents() -> dict[str, bytes]:
        kept = (p for p in run_dir.rglob("*") if p.is_file() and p.name not in ("rejects_of_refused.csv", ".lock"))
        return {str(p.relative_to(run_dir)): p.read_bytes() for p in kept}

    before = contents()
    with pytest.raises(InputError, match=case.said), run_directory(config, run_dir, case.stage):
        STAGES[case.stage](config, run_dir)
    assert contents() == before
