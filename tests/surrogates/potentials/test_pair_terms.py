"""Repulsion of nuclei against its published form, and latent charges against point charges far apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
import pytest
from ase.data import covalent_radii
from flax import nnx
from jax import numpy as jnp

from data.structures.batches import Shape, StructureBatch, pad
from data.structures.structures import Structures
from surrogates.potentials.coulomb import conserve, coulomb
from surrogates.potentials.energy import EnergyModel, evaluate
from surrogates.potentials.networks.ace import ACEConfig
from surrogates.potentials.networks.geometry import pairs
from surrogates.potentials.networks.radial import envelope
from surrogates.potentials.repulsion import ends_at_radii, repulsion

#: e^2 / (4 pi epsilon_0), eV Angstrom (CODATA 2018).
K = 14.399645


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def pair(z: tuple[int, int], r: float, atoms: int = 2) -> tuple[Structures, Shape]:
    return Structures.from_arrays([np.array(z)], [np.array([[0.0, 0, 0], [r, 0, 0]])]), Shape(1, atoms, None)


def core_energy(batch: StructureBatch, reach: float) -> jax.Array:
    """Energy of the repulsion of all nuclei of a batch that ends at `reach` times the sum of the radii, eV."""
    numbers, edges = jnp.asarray(batch.numbers), pairs(batch.system, 5.0)
    return jnp.sum(repulsion(numbers, edges, ends_at_radii(numbers, edges, reach)))


@jax.jit
def repelled(batch: StructureBatch) -> jax.Array:
    """Energy of the repulsion of all nuclei of a batch, eV."""
    return core_energy(batch, 1.0)


@pytest.mark.parametrize("z", [(6, 6), (1, 8)])
@pytest.mark.parametrize("r", [0.1, 0.4, 0.8])
def test_two_nuclei_repel_as_ziegler_biersack_and_littmark_say(z: tuple[int, int], r: float) -> None:
    table, shape = pair(z, r, atoms=4)
    batch = pad(table, np.arange(1), shape, 5.0, np.float64)
    energy = float(repelled(batch))
    # Written out from the book, with its 0.8854 a_0 and rounding of the constants.
    x = r * (z[0] ** 0.23 + z[1] ** 0.23) / (0.8854 * 0.529177)
    phi = 0.1818 * np.exp(-3.2 * x) + 0.5099 * np.exp(-0.9423 * x) + 0.2802 * np.exp(-0.4028 * x)
    phi += 0.02817 * np.exp(-0.2016 * x)
    reach = covalent_radii[z[0]] + covalent_radii[z[1]]
    expected = K * z[0] * z[1] / r * phi * float(envelope(jnp.asarray(r), reach)) if r < reach else 0.0
    assert energy == pytest.approx(expected, rel=2e-3, abs=1e-12)


@pytest.mark.parametrize("reach", [0.75, 1.0])
def test_the_repulsion_ends_at_its_reach_and_is_continuous_there(reach: float) -> None:
    end = reach * (covalent_radii[6] + covalent_radii[1])

    def energy(r: float) -> float:
        batch = pad(pair((6, 1), r)[0], np.arange(1), Shape(1, 2, None), 5.0, np.float64)
        return float(core_energy(batch, reach))

    distances = end * np.array([0.2, 0.4, 0.6, 0.8, 0.99])
    energies = np.array([energy(float(r)) for r in distances])
    assert (np.diff(energies) < 0).all()
    assert 0 < energies[-1] < 1e-2
    assert energy(1.0001 * end) == energy(2 * end) == 0.0


def test_a_network_that_attracts_repels_with_the_core_and_is_the_same_beyond_it() -> None:
    config = ACEConfig(features=6, layers=1, degree=2, basis_size=4, radial=2)
    plain = EnergyModel(config, 1, 3.0, [{}], nnx.Rngs(1))
    core = EnergyModel(config, 1, 3.0, [{}], nnx.Rngs(1), repulsive=True, reach=0.75)
    share = np.array([0.1, 0.2, 0.3, 0.8, 1.0, 1.5])
    reach = covalent_radii[6] + covalent_radii[8]
    x = [np.array([[0.0, 0, 0], [s * reach, 0, 0]]) for s in share]
    table = Structures.from_arrays([np.array([6, 8])] * len(x), x)
    batch = pad(table, np.arange(len(x)), Shape(len(x), 2, None), 5.0, np.float64)
    without, forces = (np.asarray(jax.jit(partial(evaluate, m))(batch)[1])[0, :, 1, 0] for m in (plain, core))
    assert np.isfinite(forces).all()
    assert (forces[:3] > 0).all()
    assert (np.diff(forces[:3]) < 0).all()
    np.testing.assert_array_equal(forces[3:], without[3:])


def test_charges_far_apart_attract_like_points_and_keep_their_sum() -> None:
    table, shape = pair((1, 8), 12.0, atoms=3)
    batch = pad(table, np.arange(1), shape, 5.0, np.float64)
    numbers = jnp.asarray(batch.numbers)
    charges = conserve(jnp.array([[0.9, -0.3, 5.0]]), numbers, jnp.array([1.0]))
    np.testing.assert_allclose(charges, [[1.1, -0.1, 0.0]], atol=1e-12)
    energy = float(coulomb(charges, numbers, jnp.asarray(batch.positions)).sum())
    assert energy == pytest.approx(-K * 1.1 * 0.1 / 12.0, rel=1e-6)


@pytest.fixture(scope="module")
def evaluated() -> Callable[[StructureBatch], tuple[jax.Array, jax.Array]]:
    """Energies and forces of a network with both terms, compiled once for each shape."""
    with jax.enable_x64(True):
        config = ACEConfig(features=6, layers=1, degree=2, cutoff_angstrom=3.0, basis_size=4, radial=2)
        model = EnergyModel(config, 1, 1.0, [{}], nnx.Rngs(1), repulsive=True, long_range=True)
        graph, state = nnx.split(model)
        model = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(np.float64), state))
        return jax.jit(lambda batch: evaluate(model, batch))


@pytest.mark.parametrize("charge", [0, 1])
def test_with_pair_terms_and_a_charge_forces_are_minus_the_gradient_and_padding_changes_nothing(
    charge: int, evaluated: Callable[[StructureBatch], tuple[jax.Array, jax.Array]]
) -> None:
    z = np.array([6, 1, 8, 1])
    x = np.array([[0.0, 0, 0], [0.8, 0.2, 0], [-0.4, 1.1, 0.2], [5.0, 0.1, -0.4]])
    h = 1e-4
    moved = [x, *(x + s * h * np.eye(12)[i].reshape(4, 3) for i in range(12) for s in (1, -1))]
    table = Structures.from_arrays([z] * 25, moved, charge=[charge] * 25)
    energy, forces = evaluated(pad(table, np.arange(25), Shape(25, 4, None), 3.0, np.float64))
    numeric = -(energy[0, 1::2] - energy[0, 2::2]).reshape(4, 3) / (2 * h)
    assert np.abs(forces[0, 0, 3]).max() > 1e-3  # beyond the cutoff, the charges still pull
    np.testing.assert_allclose(forces[0, 0], numeric, atol=1e-6)
    wide = evaluated(pad(table, np.arange(1), Shape(2, 7, None), 3.0, np.float64))
    assert float(wide[0][0, 0]) == pytest.approx(float(energy[0, 0]), abs=1e-10)


def test_the_charge_of_a_molecule_changes_its_energy() -> None:
    model = EnergyModel(ACEConfig(features=6, layers=1, degree=2, basis_size=4, radial=2), 1, 1.0, [{}], nnx.Rngs(1))
    x = np.array([[0.0, 0, 0], [1.1, 0, 0]])
    table = Structures.from_arrays([np.array([6, 8])] * 2, [x, x], charge=[0, -1])
    batch = pad(table, np.arange(2), Shape(2, 2, None), 5.0)
    energy = jax.jit(lambda b: evaluate(model, b)[0])(batch)
    assert abs(float(energy[0, 0] - energy[0, 1])) > 1e-3
