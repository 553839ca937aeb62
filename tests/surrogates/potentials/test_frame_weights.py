"""Weights by `config_type`: frames count in the loss as often as they weigh, and in scores as they are."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_potential import SMALL, potential, scattered

from data.errors import InputError
from data.formats.rows import Row
from data.molecules.writing import write_extxyz
from data.structures.batches import Shape, pad
from data.structures.structures import Structures
from surrogates.potentials.energy import EnergyForcesLoss
from surrogates.potentials.frame_weights import FrameWeights
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.training_frames import Files, fingerprint, split_frames

RNG = np.random.default_rng(0)


def labelled(count: int) -> Structures:
    table = scattered(count, 4, fewest=4)
    return replace(table, energy=RNG.normal(size=count), forces=RNG.normal(size=table.positions.shape))


@functools.cache
def compiled() -> Any:
    model = potential(SMALL["painn"]).model
    return jax.jit(lambda batch: EnergyForcesLoss()(model, batch, jax.random.key(0), jax.numpy.zeros(())))


def loss(table: Structures) -> tuple[float, dict[str, Any]]:
    # One padded shape for all tables, which is compiled once.
    value, sums = compiled()(pad(table, np.arange(len(table)), Shape(3, 4, None), 3.0))
    return float(value), {name: float(total) for name, (total, _) in sums.items()}


def test_a_weight_of_two_is_a_frame_that_stands_there_twice() -> None:
    table = labelled(2)
    twice, sums = loss(replace(table, weight=np.array([2.0, 1.0])))
    assert twice == pytest.approx(loss(table.take(np.array([0, 0, 1])))[0], rel=1e-6)
    # A scale common to all weights is none, and a weight of 0 leaves a frame out of the loss, but not of the errors.
    assert loss(replace(table, weight=np.array([0.2, 0.1])))[0] == pytest.approx(twice, rel=1e-6)
    alone, all_the_same = loss(replace(table, weight=np.array([0.0, 3.0])))
    assert alone == pytest.approx(loss(table.take(np.array([1])))[0], rel=1e-6)
    assert all_the_same["energy_mae_ev"] == pytest.approx(sums["energy_mae_ev"], rel=1e-6)


def test_frames_are_weighted_by_their_kind_and_scores_are_not(tmp_path: Path) -> None:
    table = labelled(6)
    kinds = ["slab", None, "bulk", "slab", "bulk", None]
    rows = []
    for i, kind in enumerate(kinds):
        atoms = slice(table.atom_start[i], table.atom_start[i + 1])
        entries = {"energy": table.energy[i], "forces": table.forces[atoms]} | ({"config_type": kind} if kind else {})
        rows.append(Row(i, None, table.numbers[atoms], table.positions[atoms], entries))
    write_extxyz(tmp_path / "a.xyz", rows)
    weights = FrameWeights({"Default": 0.5, "slab": 4.0})
    readings: list[Any] = []
    read = read_structures(tmp_path / "a.xyz", None, weights=weights, readings=readings)
    assert read.weight.tolist() == [4.0, 0.5, 0.5, 4.0, 0.5, 0.5]
    assert readings[0].quantities["weights"] == "slab 4 (2 frames); others 0.5 (4 frames)"
    train, valid, calibration, _ = split_frames(read, None, Files((tmp_path / "a.xyz",), 0.34, calibration=0.34))
    assert calibration is not None
    assert {*valid.weight, *calibration.weight} == {1.0}
    assert set(train.weight) <= {0.5, 4.0}
    # The identity of a training changes with its weights, and that of one without weights is the one of before.
    assert fingerprint(read) != fingerprint(read.unweighted())
    weights.refuse_unused()


@pytest.mark.parametrize(
    ("weights", "problem"),
    [({"slab": -1.0}, "0 or more, got -1"), ({"Default": 0.0}, "no frame counts"), ({"gas": 2.0}, "config_type=gas")],
)
def test_weights_that_mean_nothing_are_refused(weights: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        FrameWeights(weights).refuse_unused()
