"""Crystals: energies are extensive, forces and stresses are derivatives, and images are the same atom."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from ase.build import bulk
from flax import nnx

from data.structures.batches import pad, shapes
from data.structures.structures import Structures
from surrogates.potentials.energy import EnergyAndForces, EnergyModel
from surrogates.potentials.networks.ace import ACEConfig
from surrogates.potentials.networks.architectures import NetworkConfig
from surrogates.potentials.networks.painn import PaiNNConfig

CUTOFF = 4.0
NETWORKS: dict[str, NetworkConfig] = {
    "painn": PaiNNConfig(features=6, layers=2, cutoff_angstrom=CUTOFF, basis_size=4),
    "ace": ACEConfig(features=6, layers=2, degree=2, cutoff_angstrom=CUTOFF, basis_size=4, radial=2),
}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["painn", "ace"])
def model(request: pytest.FixtureRequest) -> EnergyModel:
    return model_of(str(request.param))


@functools.cache
def model_of(name: str) -> EnergyModel:
    """Once for all tests, none of which changes it."""
    single = EnergyModel(NETWORKS[name], 1, 1.0, [{13: 1.0}], nnx.Rngs(0), repulsive=True)
    graph, state = nnx.split(single)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(np.float64), state))


#: Compiled once for the networks and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda model, system: model(system))


def answer(model: EnergyModel, cells: list[np.ndarray], positions: list[np.ndarray]) -> EnergyAndForces:
    table = Structures.from_arrays([np.full(len(x), 13) for x in positions], positions, lattice=cells)
    batch_shapes, _ = shapes(table, CUTOFF, (int(table.sizes.max()),), molecules=len(cells), pairs=0)
    batch = pad(table, np.arange(len(table)), batch_shapes[0], CUTOFF, np.float64)
    return ask(model, batch.system)


def crystal() -> tuple[np.ndarray, np.ndarray]:
    atoms = bulk("Al", a=4.05, cubic=True)
    atoms.rattle(0.1, seed=0)
    return atoms.cell.array.copy(), atoms.positions.copy()


def test_a_supercell_has_the_energy_of_its_cells_and_the_same_forces(model: EnergyModel) -> None:
    cell, x = crystal()
    double = np.concatenate([x, x + cell[0]])
    answers = answer(model, [cell, cell * np.array([[2.0], [1], [1]])], [x, double])
    energy = answers.atomic[0].sum(axis=-1)
    assert float(energy[1]) == pytest.approx(2 * float(energy[0]), abs=1e-9)
    np.testing.assert_allclose(answers.forces[0, 1, :4], answers.forces[0, 0, :4], atol=1e-9)
    assert answers.virial is not None
    np.testing.assert_allclose(answers.virial[0, 1], 2 * answers.virial[0, 0], atol=1e-9)


def test_moving_an_atom_by_a_lattice_vector_changes_nothing(model: EnergyModel) -> None:
    cell, x = crystal()
    moved = x.copy()
    moved[2] += cell[1] - cell[2]
    answers = answer(model, [cell, cell], [x, moved])
    np.testing.assert_allclose(answers.atomic[0, 0], answers.atomic[0, 1], atol=1e-9)
    np.testing.assert_allclose(answers.forces[0, 0], answers.forces[0, 1], atol=1e-9)


def test_forces_and_virial_are_derivatives_of_the_energy(model: EnergyModel) -> None:
    cell, x = crystal()
    h = 1e-4
    cells, positions = [cell], [x]
    for i in range(3):
        for sign in (1, -1):
            shifted = x.copy()
            shifted[1, i] += sign * h
            cells.append(cell)
            positions.append(shifted)
    for i, j in ((0, 0), (1, 2), (2, 1)):
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * h
            cells.append(cell @ strain)
            positions.append(x @ strain)
    answers = answer(model, cells, positions)
    energy = np.asarray(answers.atomic[0].sum(axis=-1))
    slopes = (energy[1::2] - energy[2::2]) / (2 * h)
    assert np.abs(slopes).max() > 0.1
    np.testing.assert_allclose(-answers.forces[0, 0, 1], slopes[:3], atol=1e-6)
    assert answers.virial is not None
    np.testing.assert_allclose([answers.virial[0, 0][k] for k in ((0, 0), (1, 2), (2, 1))], slopes[3:], atol=1e-6)
