"""A small pre-training by real xTB: two levels of theory, each with a head, a card, and no work twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.errors import InputError
from data.json_files import read_plain
from data.molecules.writing import write_csv
from experiments.cli import main as command
from experiments.pretraining.molecule_choice import MoleculeChoice
from simulators.chemistry.thermal_frames import ThermalConfig
from surrogates.learning.label_source import read_label_sources
from surrogates.potentials.surrogate import PotentialSurrogate
from understudy import pretraining
from understudy.pretraining import CARD, LevelOfTheory, PretrainingSettings, pretrain

#: A network that takes no step: the road is tested, and not what is learned on it.
SMALL = (
    "model.network.features=8", "model.network.layers=1", "model.network.basis_size=4", "model.buckets=1",
    "model.committee=0", "train.max_seconds=0",
)  # fmt: skip


def test_levels_become_heads_of_one_potential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []

    def here(stage: str, *overrides: str, run_dir: str, **settings: Any) -> None:
        """The stage in this process, which spares the start of another one."""
        lines.append([stage, *overrides, *(f"{key}={value}" for key, value in settings.items()), f"run.dir={run_dir}"])
        assert command(lines[-1]) == 0

    monkeypatch.setattr(pretraining, "run", here)
    write_csv(tmp_path / "molecules.csv", {"smiles": ["C=O", "CCO", "COC", "CO", *["[Na+].[Cl-]"] * 9]})
    settings = PretrainingSettings(
        str(tmp_path / "molecules.csv"), choice=MoleculeChoice(3, without=("CO",)),
        motion=ThermalConfig(2, (300.0,), 5), levels=("xtb", "gfn1=xtb simulator.method=GFN1-xTB"), epochs=1,
        overrides=SMALL,
    )  # fmt: skip
    surrogate = pretrain(settings, tmp_path / "body")
    assert len(lines) == 8
    potential = PotentialSurrogate.load(surrogate)
    assert list(potential.facts.heads) == ["xtb", "gfn1"]
    assert potential.facts.active == "gfn1"
    first = PotentialSurrogate.load(tmp_path / "body" / "train" / "xtb" / "surrogate")
    assert potential.began_from == first.fingerprint
    card = json.loads((surrogate / CARD).read_text())
    assert card["heads"]["gfn1"]["settings"]["method"] == "GFN1-xTB"
    assert card["molecules"] == {"train": 1, "valid": 1, "test": 1}
    assert sum(card["frames"].values()) == 6
    assert card["settings"]["choice"]["without"] == ["CO"]
    assert card["left_out"]["other elements: Na"] > 0
    sources = read_label_sources(surrogate)
    assert sources is not None
    assert [(source["head"], source["simulator"]) for source in sources] == [
        ("xtb", "xtb:GFN2-xTB"), ("gfn1", "xtb:GFN1-xTB")
    ]  # fmt: skip
    # The finished run does nothing again, and other settings are refused by name.
    assert pretrain(settings, tmp_path / "body") == surrogate
    assert len(lines) == 8
    assert read_plain(surrogate / CARD, dict[str, Any], remedy="")["frames"] == card["frames"]
    with pytest.raises(InputError, match="begun with other levels"):
        pretrain(PretrainingSettings(**{**vars(settings), "levels": ("xtb",)}), tmp_path / "body")


def test_a_level_names_a_head_and_a_simulator() -> None:
    assert LevelOfTheory.of("so3lr") == LevelOfTheory("so3lr", "so3lr")
    assert LevelOfTheory.of("dft=pyscf simulator.basis=sto-3g") == LevelOfTheory(
        "dft", "pyscf", ("simulator.basis=sto-3g",)
    )
    for text in ("", "=xtb", "a-b=xtb"):
        with pytest.raises(InputError, match="names no simulator"):
            LevelOfTheory.of(text)
    with pytest.raises(InputError, match="each level is named once"):
        PretrainingSettings("a.csv", levels=("xtb", "xtb=xtb"))
