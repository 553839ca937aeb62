"""Small tables give the intervals what they need, or are refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import InputError
from data.fields.layout import Layout
from data.fields.samples import Fields
from data.meshes.graphs import Mesh
from data.meshes.mesh_samples import MeshLayout, MeshSamples
from data.parameters import ParameterLayout, ParameterTable
from data.reading_summary import Reading
from data.spec import Coordinate, Variable
from data.splits import random_split
from data.structures.structures import Structures
from surrogates.forecasts.task import split_in_time
from surrogates.learning.conformal import fewest_points
from surrogates.learning.part_sizes import PARTS, with_calibration
from surrogates.learning.sample_parts import PartedData, say_learned_inputs, split
from surrogates.potentials.training_frames import Files, split_frames
from surrogates.properties.property_split import labelled_split
from surrogates.properties.property_table import PropertyData, PropertyTable, read_table

DEFAULT_LIST = [0.8, 0.05, 0.05, 0.1]
DEFAULT = dict(zip(PARTS, DEFAULT_LIST, strict=True))


@pytest.mark.parametrize("total", [30, 100, 179, 180, 400])
def test_the_default_parts_calibrate_tables_of_every_size(total: int) -> None:
    parts = with_calibration(DEFAULT, total)
    split = random_split([f"?{i}" for i in range(total)], parts)
    assert len(split["calibration"]) == max(fewest_points(), int(0.05 * total + 1e-9))
    assert sum(len(split[name]) for name in PARTS) == total


def test_counts_and_none_at_all_are_left_as_they_were_given() -> None:
    for calibration in (5, 0, 0.0):
        parts = {**DEFAULT, "train": 50, "calibration": calibration}
        assert with_calibration(parts, 100) == parts


def test_a_table_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match=r"15 samples are too few.*: these parts need 21 or more"):
        with_calibration(DEFAULT, 15)
    with pytest.raises(InputError, match="20 samples are too few"):
        with_calibration(DEFAULT, 20)
    assert with_calibration(DEFAULT, 21)["train"] == fewest_points()


def sparse_table(path: Path, total: int, labelled: int) -> Path:
    """Chains with a `gap` each, and a `dip` of the last few."""
    rows = [f"{'C' * (i + 1)},{i},{i if i >= total - labelled else ''}" for i in range(total)]
    path.write_text("smiles,gap,dip\n" + "\n".join(rows) + "\n")
    return path


def test_each_target_of_a_sparse_table_gets_labels_to_calibrate_with(tmp_path: Path) -> None:
    settings = PropertyData(target=["gap", "dip"])
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
        labelled_split(labels, PropertyData(target=["gap", "dip"]))
    kept = labelled_split(labels, PropertyData(target=["gap", "dip"], parts=[0.9, 0.05, 0, 0.05]))
    assert not len(kept["calibration"])


@pytest.mark.parametrize(("samples", "calibration"), [(40, 9), (179, 9), (200, 10)])
def test_few_samples_of_fields_or_numbers_calibrate_as_those_of_tables_do(samples: int, calibration: int) -> None:
    parts = split([str(i) for i in range(samples)], PartedData(file="", parts=[0.8, 0.05, 0.05, 0.1]))
    assert len(parts["calibration"]) == calibration
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(samples))


# --- the same inputs again


@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_samples_of_the_same_inputs_are_in_one_part(times: int) -> None:
    keys = [str(i % (63 // times)) for i in range(63)]
    parts = split(keys, PartedData(file="", parts=[0.7, 0.1, 0.1, 0.1], seed=1))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(63))
    inputs = [{keys[i] for i in parts[name]} for name in PARTS]
    assert sum(map(len, inputs)) == len(set(keys))
    assert len(parts["calibration"]) >= fewest_points()
    assert len(parts["train"]) >= 28


def test_samples_of_different_inputs_are_split_as_before() -> None:
    parts = split([str(i) for i in range(40)], PartedData(file="", parts=[20, 5, 10, 5], seed=3))
    order = np.random.default_rng(3).permutation(40)
    for name, rows in zip(PARTS, (order[:20], order[20:25], order[25:35], order[35:]), strict=True):
        assert parts[name].tolist() == sorted(rows.tolist())


def test_too_few_different_inputs_to_calibrate_with_are_refused() -> None:
    with pytest.raises(InputError, match="1 different inputs among 60 samples leave 0 to calibrate with, where 9"):
        split(["same"] * 60, PartedData(file="", parts=DEFAULT_LIST))


def repeated_fields() -> Fields:
    x = np.arange(8.0) / 8
    k = np.repeat([1.0, 2.0, -0.0, 0.0], 2)[:, None] * np.cos(x)
    layout = Layout(
        variable("u", "x"), None, (variable("k", "x"),), (), (Coordinate("x", tuple(x), "1", "x"),), (True,)
    )
    return Fields(layout, np.arange(64.0).reshape(8, 1, 8, 1), k[..., None], np.zeros((8, 0)), "", np.zeros(8))


def variable(name: str, *dims: str) -> Variable:
    return Variable(name, dims, "1", "float64", name)


def repeated_numbers() -> ParameterTable:
    layout = ParameterLayout((variable("q"),), (variable("p"),), (), {})
    values = np.repeat([1.0, 2.0, -0.0, 0.0], 2)[:, None]
    return ParameterTable(layout, values, np.arange(8.0)[:, None], "", np.zeros(8), {})


def repeated_meshes() -> MeshSamples:
    geometry = tuple(map(variable, ("nodes", "elements", "boundary")))
    layout = MeshLayout(geometry, (variable("q"),), (), (variable("drag"),), (), 1, {})
    triangle, one = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0, 1, 2]])
    meshes = [
        Mesh(triangle, one, np.zeros(3, int), np.array([q]), None, np.array([float(i)]))
        for i, q in enumerate(np.repeat([1.0, 2.0, -0.0, 0.0], 2))
    ]
    return MeshSamples(layout, tuple(meshes), "", np.zeros(8))


@pytest.mark.parametrize("samples", [repeated_fields(), repeated_numbers(), repeated_meshes()])
def test_inputs_that_come_again_have_one_key_whatever_their_labels_are(
    samples: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keys = samples.input_keys()
    assert [keys.index(key) for key in keys] == [0, 0, 2, 2, 4, 4, 4, 4]
    say_learned_inputs(set(keys[:2]), {"other": samples})
    assert "2 of 8 samples of other have inputs of the training part" in caplog.text


# --- few samples


def test_a_part_that_was_asked_for_and_is_empty_is_said_with_its_number(caplog: pytest.LogCaptureFixture) -> None:
    parts = split([str(i) for i in range(12)], PartedData(file="", parts=[0.86, 0.05, 0, 0.09]))
    assert not len(parts["valid"])
    assert "part valid is empty: 0.05 of 12 samples is none, which takes 20; no validation chooses" in caplog.text
    assert len(parts["test"]) == 1
    assert "the part test is empty" not in caplog.text


@pytest.mark.parametrize(
    "refused",
    [
        lambda: split(["a"], PartedData(file="", parts=[1, 0, 0, 0]), least=2),
        lambda: split_in_time(1, [1, 0, 0, 0]),
        lambda: labelled_split(
            PropertyTable(["C"], {"gap": np.ones(1)}, {"gap": "1"}, "", Reading("", "")),
            PropertyData(parts=[1, 0, 0, 0]),
        ),
    ],
)
def test_one_sample_is_refused_with_the_number_that_is_needed(refused: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"1 (sample|state|molecule) of 1 in the training part, where 2 or more"):
        refused()


def test_one_trajectory_or_frame_is_said(caplog: pytest.LogCaptureFixture) -> None:
    split(["a"], PartedData(file="", parts=[1, 0, 0, 0]))
    assert "there is only 1 training sample" in caplog.text


def test_frames_that_leave_a_part_empty_are_refused_with_the_number() -> None:
    pairs = Structures.from_arrays([np.array([1, 1])] * 11, [np.array([[0.0, 0, 0], [0, 0, 0.7]])] * 11)
    with pytest.raises(InputError, match="leaves none for it, or none to train on: it takes 11 frames"):
        split_frames(pairs.take(np.arange(10)), None, Files((), 0.05))
    assert len(split_frames(pairs, None, Files((), 0.05))[3]["valid"]) == 1
