"""A table of labels as a simulator."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from data.errors import InputError
from data.spec import SimulationError, dataset
from data.store.records import RecordStore
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.label_table import LabelTable

ROWS = {
    "smiles": ["CCO", "OCC", "c1ccccc1", "C[13CH3]", "C(", "N"],
    "gap": [8.0, 9.0, 5.0, 11.0, 1.0, np.nan],
    "dipole": [1.5, 1.5, 0.0, 0.0, 1.0, 1.47],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pd.DataFrame(ROWS).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "labels.csv"


def ask(table: LabelTable, smiles: str) -> xr.Dataset:
    return table.simulate(dataset(table.spec.inputs, {"smiles": smiles}))


def test_a_molecule_is_found_however_it_is_written(path: Path) -> None:
    table = LabelTable(str(path), ("gap", "dipole"), units=("eV", "Debye"))
    for smiles in ("C1=CC=CC=C1", "c1ccccc1", "[cH:3]1ccccc1"):
        answer = ask(table, smiles)
        assert answer["gap"].item() == 5.0
        assert answer["gap"].attrs["units"] == "eV"
    assert ask(table, "CC")["gap"].item() == 11.0  # an isotope changes no label


def test_several_rows_of_a_molecule_give_their_mean_and_are_counted(path: Path) -> None:
    table = LabelTable(str(path), ("gap", "dipole"))
    assert ask(table, "CCO")["gap"].item() == 8.5
    rows = table.provenance["rows"]
    assert rows["molecules_with_several_rows"] == rows["molecules_with_differing_labels"] == 1
    assert rows["left_out"] == 1  # "C("
    assert LabelTable(str(path), ("dipole",)).provenance["rows"]["molecules_with_differing_labels"] == 0


@pytest.mark.parametrize("smiles", ["CCC", "N"])
def test_a_molecule_without_a_label_is_refused(path: Path, smiles: str) -> None:
    with pytest.raises(SimulationError, match=r"not in the table|has no gap") as caught:
        ask(LabelTable(str(path), ("gap", "dipole")), smiles)
    assert caught.value.kind == "invalid_input"


def test_the_fingerprint_is_that_of_the_labels_and_not_of_the_cost(path: Path) -> None:
    table = LabelTable(str(path), ("gap",))
    assert table.fingerprint == LabelTable(str(path), ("gap",), cost_s=3.6).fingerprint
    assert table.fingerprint != LabelTable(str(path), ("dipole",)).fingerprint
    path.write_text(path.read_text().replace("5.0", "5.5"))
    assert table.fingerprint != LabelTable(str(path), ("gap",)).fingerprint
    again = pickle.loads(pickle.dumps(table))
    assert again.fingerprint == table.fingerprint
    assert ask(again, "CCO")["gap"].item() == 8.5


def test_a_campaign_counts_the_declared_cost(path: Path, tmp_path: Path) -> None:
    table = LabelTable(str(path), ("gap",), cost_s=3.6)
    requests = [dataset(table.spec.inputs, {"smiles": s}) for s in ("CCO", "CC", "CCCC")]
    config = CampaignConfig(workers=1, give_up_after=None)
    summary = run_campaign(table, requests, tmp_path / "labels.zarr", config, progress=False)
    assert summary.declared
    assert summary.core_seconds == pytest.approx(3 * 3.6)
    with RecordStore.open(tmp_path / "labels.zarr") as store:
        assert store.column("core_seconds") == pytest.approx([3.6] * 3)
        assert list(store.column("status")) == ["ok", "ok", "invalid_input"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"outputs": ()}, "no column"),
        ({"outputs": ("gap", "gap")}, "named twice"),
        ({"outputs": ("gap",), "units": ("eV", "Debye")}, "2 units for 1"),
        ({"outputs": ("gap",), "cost_s": float("nan")}, "finite"),
        ({"outputs": ("gap",), "file": "absent.csv"}, "no such file"),
    ],
)
def test_invalid_settings_are_refused(path: Path, changes: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        LabelTable(**{"file": str(path), "outputs": ("gap",), **changes})


def test_a_table_without_the_column_is_refused_by_name(path: Path) -> None:
    with pytest.raises(InputError, match="energy"):
        ask(LabelTable(str(path), ("energy",)), "CCO")
