"""Trees of rattled and relaxed frames: the forces are those of their energies, and parents are drawn by two laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import xarray as xr
from ase.units import kB

from data.spec import SimulationError
from simulators.adapter import AnswersMany
from simulators.chemistry.rattle_and_relax import TreeConfig, descent, drawn_parent, rattle_and_relax
from simulators.chemistry.variables import Geometry, answer, spec

WATER = Geometry(np.array([8, 1, 1], np.int32), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0.0]]))
STIFF = 30.0


@dataclass(frozen=True)
class Springs:
    """Springs of `STIFF` eV/Angstrom^2 between all atoms, 1 Angstrom long; it refuses atoms farther apart than 1.8."""

    name = "springs"
    provenance: Any = None
    fingerprint = "springs"
    spec = spec(("energy", "forces"), ("energy", "forces"))

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        positions = np.asarray(inputs["positions"].values)
        between = positions[:, None] - positions[None]
        far = np.linalg.norm(between, axis=2) + np.eye(len(positions))
        if far.max() > 1.8:
            raise SimulationError("not_converged", "torn apart")
        energy = 0.25 * STIFF * np.sum((far - 1) ** 2)
        forces = -STIFF * np.sum((far - 1)[..., None] * between / far[..., None], axis=1)
        return answer(self.spec, {"energy": energy, "forces": forces})


@dataclass(frozen=True)
class ManySprings(Springs):
    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        results: list[xr.Dataset | SimulationError] = []
        for one in inputs:
            try:
                results.append(self.simulate(one))
            except SimulationError as error:
                results.append(error)
        return results


def asked(seed: int, geometry: Geometry = WATER) -> xr.Dataset:
    return geometry.dataset().assign(seed=((), np.int64(seed)))


def test_frames_of_a_tree_have_the_energies_and_forces_of_the_simulator_within_its_limits() -> None:
    config = TreeConfig(frames=40, rattle_angstrom=0.1, largest_force=6.0)
    grower = rattle_and_relax(Springs(), config)
    tree = grower.simulate(asked(3))
    positions = tree["frame_positions"].values.reshape(-1, 3, 3)
    forces = tree["frame_forces"].values.reshape(-1, 3, 3)
    assert len(positions) == 41
    np.testing.assert_array_equal(positions[0], WATER.positions)
    for place, energy, force in zip(positions, tree["frame_energies"].values, forces, strict=True):
        said = Springs().simulate(WATER.dataset().assign(positions=(("atom", "axis"), place)))
        assert energy == pytest.approx(float(said["energy"]))
        np.testing.assert_allclose(force, said["forces"].values)
    # The first frame is kept whatever its forces are.
    assert np.linalg.norm(forces[1:], axis=2).max() <= 6.0
    assert int(tree["refused"]) > 0
    parents = tree["frame_parents"].values
    assert (parents < np.arange(41)).all()
    assert parents[0] == -1
    assert parents.max() > 0
    # It has at most so many trials and steps, each of which is one answer.
    trials = 40 + int(tree["refused"])
    assert trials < int(tree["evaluations"]) <= 1 + trials * (1 + config.relax_steps)
    assert grower.simulate(asked(3)).identical(tree)
    assert not np.array_equal(grower.simulate(asked(4))["frame_positions"], tree["frame_positions"])


def test_trees_that_grow_together_are_those_that_grow_alone_and_one_that_fails_stops_none() -> None:
    together = rattle_and_relax(ManySprings(), TreeConfig(frames=5))
    assert isinstance(together, AnswersMany)
    assert not isinstance(rattle_and_relax(Springs(), TreeConfig()), AnswersMany)
    torn = Geometry(WATER.numbers, 3 * WATER.positions)
    first, failed, last = together.simulate_many([asked(0), asked(1, torn), asked(2)])
    assert isinstance(failed, SimulationError)
    assert failed.kind == "not_converged"
    alone = rattle_and_relax(Springs(), TreeConfig(frames=5))
    assert alone.simulate(asked(0)).identical(first)
    assert alone.simulate(asked(2)).identical(last)
    with pytest.raises(SimulationError, match="torn apart"):
        alone.simulate(asked(1, torn))


def test_parents_are_drawn_by_generation_or_by_boltzmann_weight() -> None:
    rng, step = np.random.default_rng(0), kB * 500 * np.log(3)
    # Energies of which each has a third of the weight of the one before; one frame alone in its generation.
    energies, generations = step * np.arange(3), np.array([0, 1, 1])

    def shares(by_generation: float) -> np.ndarray:
        config = TreeConfig(temperature_kelvin=500.0, by_generation=by_generation)
        drawn = [drawn_parent(energies, generations, config, rng) for _ in range(4000)]
        return np.bincount(drawn, minlength=3) / len(drawn)

    np.testing.assert_allclose(shares(0.0), np.array([9, 3, 1]) / 13, atol=0.03)
    np.testing.assert_allclose(shares(1.0), [0.5, 0.25, 0.25], atol=0.03)
    np.testing.assert_allclose(shares(0.5), 0.5 * np.array([9, 3, 1]) / 13 + [0.25, 0.125, 0.125], atol=0.03)


def test_a_step_of_descent_lowers_the_energy_and_no_atom_moves_too_far() -> None:
    simulator, positions = Springs(), WATER.positions + np.array([[0, 0, 0.1], [0.2, 0, 0], [0, 0.1, 0]])
    before = simulator.simulate(WATER.dataset().assign(positions=(("atom", "axis"), positions)))
    step = descent(before["forces"].values, 0.03)
    assert np.linalg.norm(step, axis=1).max() <= 0.03 + 1e-12
    after = simulator.simulate(WATER.dataset().assign(positions=(("atom", "axis"), positions + step)))
    assert float(after["energy"]) < float(before["energy"])
    np.testing.assert_array_equal(descent(np.zeros((3, 3)), 0.03), np.zeros((3, 3)))
