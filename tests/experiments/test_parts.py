"""Small tables give the intervals what they need, or are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.splits import random_split
from experiments.parts import PARTS, PartedData, split, with_calibration
from experiments.tables import TableSettings, labelled_split, read_table
from surrogates.uncertainty import fewest_points

DEFAULT = dict(zip(PARTS, (0.8, 0.05, 0.05, 0.1), strict=True))


@pytest.mark.parametrize("total", [30, 100, 179, 180, 400])
def test_the_default_parts_calibrate_tables_of_every_size(total: int) -> None:
    parts = with_calibration(DEFAULT, total)
    split = random_split(["C" * (i + 1) for i in range(total)], parts)
    assert len(split["calibration"]) == max(fewest_points(), int(0.05 * total + 1e-9))
    assert sum(len(split[name]) for name in PARTS) == total


def test_counts_and_none_at_all_are_left_as_they_were_given() -> None:
    for calibration in (5, 0, 0.0):
        parts = {**DEFAULT, "train": 50, "calibration": calibration}
        assert with_calibration(parts, 100) == parts


def test_a_table_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="15 samples are too few"):
        with_calibration(DEFAULT, 15)


def sparse_table(path: Path, total: int, labelled: int) -> Path:
    """Chains with a `gap` each, and a `dip` of the last few."""
    rows = [f"{'C' * (i + 1)},{i},{i if i >= total - labelled else ''}" for i in range(total)]
    path.write_text("smiles,gap,dip\n" + "\n".join(rows) + "\n")
    return path


def test_each_target_of_a_sparse_table_gets_labels_to_calibrate_with(tmp_path: Path) -> None:
    settings = TableSettings(target=["gap", "dip"])
    labels = read_table(sparse_table(tmp_path / "a.csv", 120, 40), "smiles", ["gap", "dip"], [], None)
    assert (labels.reading.used, labels.reading.total) == (120, 120)
    assert "40 of 120 rows" in labels.reading.quantities["dip"]
    split = labelled_split(labels, settings)
    assert sorted(i for name in PARTS for i in split[name]) == list(range(120))
    for values in labels.values.values():
        assert np.isfinite(values[np.asarray(split["calibration"])]).sum() >= fewest_points()
    full = read_table(sparse_table(tmp_path / "b.csv", 120, 120), "smiles", ["gap", "dip"], [], None)
    assert full.fingerprint != labels.fingerprint
    assert len(labelled_split(full, settings)["calibration"]) == fewest_points()


def test_rows_of_the_same_molecule_and_labels_that_differ_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("smiles,gap,dip\nCCO,1.0,5\nOCC,1.25,5\nC([2H])O,2,\nCO,2,7\nCCC,3,1\nCCC,,2\nN,4,\n")
    repeated, gap, dip = read_table(path, "smiles", ["gap", "dip"], [], None).reading.assumed
    assert repeated.startswith("6 rows repeat 3 molecules")
    assert gap == "labels of gap that differ are kept: 1 of these, by up to 0.25"
    assert dip == "labels of dip that differ are kept: 1 of these, by up to 1"
    assert not read_table(sparse_table(tmp_path / "b.csv", 9, 9), "smiles", ["gap", "dip"], [], None).reading.assumed


def test_a_target_with_too_few_labels_is_named(tmp_path: Path) -> None:
    labels = read_table(sparse_table(tmp_path / "a.csv", 60, 3), "smiles", ["gap", "dip"], [], None)
    with pytest.raises(InputError, match="3 labels of dip are too few"):
        labelled_split(labels, TableSettings(target=["gap", "dip"]))
    kept = labelled_split(labels, TableSettings(target=["gap", "dip"], parts=[0.9, 0.05, 0, 0.05]))
    assert not len(kept["calibration"])


@pytest.mark.parametrize(("samples", "calibration"), [(40, 9), (179, 9), (200, 10)])
def test_few_samples_of_fields_or_numbers_calibrate_as_those_of_tables_do(samples: int, calibration: int) -> None:
    parts = split(samples, PartedData(file="", parts=[0.8, 0.05, 0.05, 0.1]))
    assert len(parts["calibration"]) == calibration
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(samples))
