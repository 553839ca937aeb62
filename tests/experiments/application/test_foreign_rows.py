"""Every stage that reads molecules passes over those that would end it, says which they are, and goes on."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import data.molecules.smiles
from data.errors import InputError
from data.molecules.files import read
from data.molecules.tally import TableTally
from data.rejects import RejectLog
from data.spec import SimulationError, Spec
from experiments.pages.molecules import drawing
from experiments.screening.library_writing import prepare
from experiments.stages.active import starts
from experiments.stages.pipeline import draw
from experiments.stages.simulate import requests
from simulators.chemistry.conformers import ConformerConfig, embed
from simulators.chemistry.from_smiles import FromSmiles
from simulators.chemistry.standardise import standard_smiles
from simulators.chemistry.variables import GEOMETRY
from surrogates.properties.property_table import read_table

CHAIN = "C" * 30_000
TOO_LONG = "30,000 characters; a SMILES has at most 5,000"
GOOD = ["CCO", "CCN", "CCC", "CCF"]
BAD = {3: (CHAIN, TOO_LONG), 5: ("\0CCO", "has a NUL byte"), 6: ("C1CC", "not a SMILES: syntax error")}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = ["CCO", CHAIN, "CCN", "\0CCO", "C1CC", "CCC", "CCF"]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["smiles,gap", *(f"{row},{i}" for i, row in enumerate(rows))]) + "\n")
    return path


def reasons_by_line(path: Path) -> dict[int, str]:
    with path.open(newline="") as file:
        return {int(row["line"]): row["reason"] for row in csv.DictReader(file)}


REASONS = {line: reason for line, (_, reason) in BAD.items()}


def test_train_and_evaluate_read_the_other_rows(table: Path, tmp_path: Path) -> None:
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        labels = read_table(table, "smiles", ["gap"], ["eV"], rejects)
    assert labels.smiles == GOOD
    assert labels.values["gap"].tolist() == [0, 2, 5, 6]
    assert reasons_by_line(tmp_path / "rejects.csv") == REASONS


def test_prepare_reads_the_other_rows(table: Path, tmp_path: Path) -> None:
    summary = prepare(table, tmp_path / "library", workers=1, standardise=["neutral"], progress=False)
    assert (summary.valid, summary.molecules) == (4, 7)
    assert reasons_by_line(tmp_path / "library" / "rejects.csv") == REASONS


def test_a_pipeline_draws_from_the_other_rows(table: Path, tmp_path: Path) -> None:
    settings: Any = SimpleNamespace(
        smiles="smiles",
        seed=0,
        cheap=SimpleNamespace(count=1),
        expensive=SimpleNamespace(calibration=1, test=1, train=1),
        recheck=SimpleNamespace(random=1),
    )
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        drawn = draw(table, settings, rejects=rejects)
    assert sorted(name for part in drawn.values() for name in part) == sorted(GOOD)
    # Rows that are too long or no text are passed over before anything is drawn, and named by the screen.
    assert reasons_by_line(tmp_path / "rejects.csv") == {6: REASONS[6]}


def test_a_simulation_is_asked_for_the_other_rows(table: Path, tmp_path: Path) -> None:
    inner: Any = SimpleNamespace(name="none", spec=Spec(GEOMETRY, ()))
    simulator = FromSmiles(inner, ConformerConfig(standardise=("neutral",)))
    tally = TableTally()
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        rows = read(table, rejects=rejects, tally=tally)
        asked = [str(r["smiles"].item()) for r in requests(rows, simulator, table, rejects, tally, [])]
    assert asked == GOOD
    assert reasons_by_line(tmp_path / "rejects.csv") == REASONS


@pytest.mark.parametrize("smiles", [CHAIN, "\0CCO"])
def test_a_molecule_that_is_named_is_refused(smiles: str, tmp_path: Path) -> None:
    reason = TOO_LONG if smiles == CHAIN else "has a NUL byte"
    with RejectLog(tmp_path / "rejects.csv") as rejects, pytest.raises(InputError, match=reason):
        starts(smiles, ConformerConfig(), rejects)
    with pytest.raises(SimulationError, match=reason):
        embed(smiles, ConformerConfig())
    assert standard_smiles([smiles, "CC[O-]"], ["neutral"]) == ["", "CCO"]
    assert "cannot read" in drawing(smiles, "a")
    assert drawing("CCO", "b").startswith("<svg")


def test_molecules_reach_rdkit_by_one_door() -> None:
    """What parses is `data.molecules.smiles`, of limited length, and in stages a process that may die."""
    root = Path(data.molecules.smiles.__file__).parents[2]
    sources = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for folder in ("data", "simulators", "surrogates", "experiments")
        for path in (root / folder).rglob("*.py")
        if "benchmarks" not in path.parts
    }
    parsers = {name for name, text in sources.items() if re.search(r"MolFrom\w+|\w*MolSupplier|CanonSmiles", text)}
    # `featurise` asks why, of what `smiles` let through; the next are of SMILES that this program wrote.
    written = {"data/identity.py", "experiments/pipelines/enumeration.py"}
    written |= {"simulators/chemistry/conformers.py", "simulators/chemistry/thermal_frames.py"}
    # This one is read by another interpreter, in a process that may die.
    elsewhere = {"simulators/chemistry/teachers/models/admet_model.py"}
    doors = {"data/molecules/smiles.py", "data/molecules/featurise.py", "data/structures/files.py"}
    assert parsers == doors | written | elsewhere
    expression = r"from data\.molecules\.featurise import .*\bencode\b"
    here = {name for name, text in sources.items() if re.search(expression, text)}
    # The first runs in a parsing process, the second in whatever process asked for one answer.
    foreign = {"experiments/screening/candidate_chunks.py", "surrogates/properties/surrogate.py"}
    # This one encodes four molecules that are written in it.
    assert here == {*foreign, "experiments/agents/profiles.py"}
