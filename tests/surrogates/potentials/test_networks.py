"""Symmetry, smoothness and conservation of the network, in float64 where rounding would hide a fault."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial.transform import Rotation

from data.structures.batches import Shape, pad
from data.structures.structures import Structures
from surrogates.potentials.energy import EnergyForcesLoss, EnergyModel, evaluate
from surrogates.potentials.networks.ace import ACEConfig
from surrogates.potentials.networks.architectures import NetworkConfig
from surrogates.potentials.networks.geometry import pairs
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.networks.radial import bessel, envelope, gaussian

CUTOFF = 4.0
RELEASE = {1: -3.0, 6: -7.0, 8: 2.0}
#: Rounding of float64 through a network whose energies are of order 1 to 100 eV.
TIGHT = 1e-9
#: Compiled once for the networks and shapes that are alike, whichever test asks.
evaluated = nnx.jit(evaluate)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@functools.cache
def network(name: str, basis: str = "bessel", members: int = 1) -> EnergyModel:
    """Made once for all tests, none of which changes it."""
    configs: dict[str, NetworkConfig] = {
        "painn": PaiNNConfig(features=8, layers=2, cutoff_angstrom=CUTOFF, basis=basis, basis_size=6),
        "ace": ACEConfig(
            features=8, degree=2, cutoff_angstrom=CUTOFF, basis=basis, basis_size=6, radial=3, coupling="all"
        ),
    }
    return doubled(configs[name], members)


def doubled(config: NetworkConfig, members: int = 1) -> EnergyModel:
    """A model with weights in float64."""
    model = EnergyModel(config, members, 1.5, [RELEASE], nnx.Rngs(0))
    graph, state = nnx.split(model)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(np.float64), state))


@pytest.fixture(params=["painn", "ace"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def molecule(n: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        x = rng.uniform(-2.5, 2.5, size=(n, 3))
        distance = np.linalg.norm(x[:, None] - x, axis=-1) + 10 * np.eye(n)
        if distance.min() > 0.9:
            return rng.choice([1, 6, 8], n), x


def answers(
    model: EnergyModel, molecules: list[tuple[np.ndarray, np.ndarray]], *, atoms: int | None = None, lists: bool = False
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Energy of each molecule and its forces, from one batch.

    Batches have one shape, so that a network is compiled once; with a number of atoms they are as small as they can be.
    """
    table = Structures.from_arrays([z for z, _ in molecules], [x for _, x in molecules])
    k = int(table.neighbours(CUTOFF).counts.max()) if lists else None
    if atoms is None:
        shape = Shape(max(5, len(molecules)), max(11, int(table.sizes.max())), max(k, 9) if k is not None else None)
    else:
        shape = Shape(len(molecules), atoms, k)
    batch = pad(table, np.arange(len(table)), shape, CUTOFF, dtype=np.float64)
    energy, forces = evaluated(model, batch)
    return np.asarray(energy[0, : len(molecules)]), [np.asarray(forces[0, m, :n]) for m, n in enumerate(table.sizes)]


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("improper", [False, True])
def test_rotation_and_reflection_keep_energy_and_turn_forces(name: str, improper: bool, lists: bool) -> None:
    z, x = molecule()
    turn = Rotation.random(random_state=1).as_matrix() * (-1.0 if improper else 1.0)
    energy, forces = answers(network(name), [(z, x), (z, x @ turn.T)], lists=lists)
    assert np.abs(forces[0]).max() > 0.1
    assert energy[1] == pytest.approx(energy[0], abs=TIGHT)
    np.testing.assert_allclose(forces[1], forces[0] @ turn.T, atol=TIGHT)


def test_translation_changes_nothing_and_no_net_force_or_torque_remains(name: str) -> None:
    z, x = molecule()
    energy, forces = answers(network(name), [(z, x), (z, x + np.array([3.0, -20.0, 7.0]))])
    assert energy[1] == pytest.approx(energy[0], abs=TIGHT)
    np.testing.assert_allclose(forces[1], forces[0], atol=TIGHT)
    np.testing.assert_allclose(forces[0].sum(axis=0), 0.0, atol=TIGHT)
    np.testing.assert_allclose(np.cross(x, forces[0]).sum(axis=0), 0.0, atol=TIGHT)


@pytest.mark.parametrize("lists", [False, True])
def test_permuting_atoms_permutes_forces(name: str, lists: bool) -> None:
    z, x = molecule()
    order = np.random.default_rng(3).permutation(len(z))
    energy, forces = answers(network(name), [(z, x), (z[order], x[order])], lists=lists)
    assert energy[1] == pytest.approx(energy[0], abs=TIGHT)
    np.testing.assert_allclose(forces[1], forces[0][order], atol=TIGHT)


@pytest.mark.parametrize(("basis", "lists"), [("bessel", False), ("bessel", True), ("gaussian", False)])
def test_forces_are_minus_the_gradient(name: str, basis: str, lists: bool) -> None:
    z, x = molecule(5)
    model, h = network(name, basis), 1e-4
    shifts = [s * h * np.eye(15)[i].reshape(5, 3) for i in range(15) for s in (1, -1)]
    energy, forces = answers(model, [(z, x), *[(z, x + s) for s in shifts]], atoms=5, lists=lists)
    numeric = -(energy[1::2] - energy[2::2]).reshape(5, 3) / (2 * h)
    np.testing.assert_allclose(forces[0], numeric, atol=1e-6)


def test_neighbour_lists_give_what_all_pairs_give(name: str) -> None:
    molecules = [molecule(7, 1), molecule(9, 2)]
    dense, listed = answers(network(name), molecules), answers(network(name), molecules, lists=True)
    np.testing.assert_allclose(dense[0], listed[0], atol=TIGHT)
    for a, b in zip(dense[1], listed[1], strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


@pytest.mark.parametrize("lists", [False, True])
def test_padding_and_company_change_nothing(name: str, lists: bool) -> None:
    first, second = molecule(5, 1), molecule(9, 2)
    alone = answers(network(name), [first], atoms=5, lists=lists)
    together = answers(network(name), [second, first], lists=lists)
    assert together[0][1] == pytest.approx(alone[0][0], abs=TIGHT)
    np.testing.assert_allclose(together[1][1], alone[1][0], atol=TIGHT)


def test_energy_and_forces_are_smooth_where_an_atom_crosses_the_cutoff(name: str) -> None:
    z, base = np.array([6, 1, 8, 1]), np.array([[0, 0, 0], [1.1, 0, 0], [-0.7, 1.0, 0], [0, 0, 0.0]])

    def at(r: float) -> tuple[np.ndarray, np.ndarray]:
        x = base.copy()
        x[3] = [r, 0.0, 0.0]
        return z, x

    # The moving atom leaves the reach of atom 0 at 4.0, of atom 1 at 5.1, and of atom 2 at -0.7 + 3.87.
    for crossing in (4.0, 5.1, -0.7 + np.sqrt(15.0)):
        steps = np.array([-2e-4, -1e-4, 0.0, 1e-4, 2e-4])
        energy, forces = answers(network(name), [at(crossing + s) for s in steps])
        pull = np.array([f[3, 0] for f in forces])
        # A jump would not shrink with the step; a smooth function's second difference does, as its square.
        assert np.abs(np.diff(energy, 2)).max() < 1e-6
        assert np.abs(np.diff(pull, 2)).max() < 1e-5


def test_molecules_out_of_reach_of_each_other_have_the_sum_of_their_energies(name: str) -> None:
    (z, x), (w, y) = molecule(5, 1), molecule(6, 2)
    # The nearest atoms are farther apart than the cutoff: no message passes between the molecules.
    both = (np.concatenate([z, w]), np.concatenate([x, y + np.array([5.0 + CUTOFF + 3.0, 0, 0])]))
    energy, forces = answers(network(name), [(z, x), (w, y), both])
    assert energy[2] == pytest.approx(energy[0] + energy[1], abs=TIGHT)
    np.testing.assert_allclose(forces[2], np.concatenate(forces[:2]), atol=TIGHT)


def test_an_atom_alone_has_its_reference_energy_and_no_force(name: str) -> None:
    energy, forces = answers(network(name), [(np.array([z]), np.zeros((1, 3))) for z in (1, 6, 8)])
    np.testing.assert_allclose(energy, [3.0, 7.0, -2.0], atol=1e-12)
    assert all((f == 0).all() for f in forces)


def test_linear_and_symmetric_molecules_have_finite_forces_and_loss(name: str) -> None:
    # Vector features vanish on centres of symmetry, where a length has no gradient.
    line = (np.array([8, 6, 8]), np.array([[-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0]]))
    square = (np.array([1, 1, 1, 1]), np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1.0, 0]]))
    _, forces = answers(network(name), [line, square])
    np.testing.assert_allclose(forces[0][1], 0.0, atol=1e-12)
    assert all(np.isfinite(f).all() for f in forces)
    table = Structures.from_arrays([line[0]], [line[1]], [1.0], [np.zeros((3, 3))])
    batch = pad(table, np.arange(1), Shape(2, 5, None), CUTOFF, dtype=np.float64)
    loss = EnergyForcesLoss(1.0, 1.0)
    graph, state = nnx.split(network(name))
    objective = jax.jit(jax.grad(lambda s: loss(nnx.merge(graph, s), batch, jax.random.key(0), jnp.ones(()))[0]))
    gradient = objective(state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_loss_does_not_see_what_is_unknown(name: str) -> None:
    z, x = molecule(5)
    labelled = Structures.from_arrays([z], [x], [1.0], [np.ones((5, 3))])
    mixed = Structures.from_arrays([z, z], [x, x + 1.0], [1.0, np.nan], [np.ones((5, 3)), None])
    loss, model = EnergyForcesLoss(2.0, 3.0), network(name, members=2)
    compiled = jax.jit(lambda b: loss(model, b, jax.random.key(0), jnp.ones(())))
    values = []
    for table in (labelled, mixed):
        batch = pad(table, np.arange(len(table)), Shape(3, 6, None), CUTOFF, dtype=np.float64)
        value, stats = compiled(batch)
        values.append((float(value), [float(s / n) for s, n in (v for k, v in stats.items() if k != "loss")]))
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-12)
    assert values[0][1] == pytest.approx(values[1][1], rel=1e-12)


def test_members_of_an_ensemble_differ_and_each_is_a_network_of_its_own(name: str) -> None:
    z, x = molecule()
    model = network(name, members=2)
    batch = pad(Structures.from_arrays([z], [x]), np.arange(1), Shape(1, 7, None), CUTOFF, dtype=np.float64)
    energy, _ = evaluated(model, batch)
    assert len(np.unique(np.round(np.asarray(energy), 6))) == 2
    graph, state = nnx.split(model.networks)
    outer, rest = nnx.split(network(name))

    @jax.jit
    def alone(weights: nnx.State) -> jax.Array:
        single = nnx.merge(outer, rest)
        single.networks = nnx.merge(graph, weights)
        return evaluate(single, batch)[0][0, 0]

    for member in range(2):
        weights = jax.tree.map(lambda leaf, m=member: leaf[m : m + 1], state)
        assert float(alone(weights)) == pytest.approx(float(energy[member, 0]), abs=TIGHT)


@pytest.mark.parametrize("coupling", ["none", "all"])
def test_tensors_that_atoms_send_turn_with_the_molecule(coupling: str) -> None:
    z, x = molecule()
    turn = -Rotation.random(random_state=1).as_matrix()
    config = ACEConfig(
        features=8, hidden_degree=2, tensor_features=4, cutoff_angstrom=CUTOFF, radial=3, coupling=coupling
    )
    energy, forces = answers(doubled(config), [(z, x), (z, x @ turn.T)])
    assert energy[1] == pytest.approx(energy[0], abs=TIGHT)
    np.testing.assert_allclose(forces[1], forces[0] @ turn.T, atol=TIGHT)


@pytest.mark.parametrize(("hidden_degree", "seen"), [(0, False), (1, True)])
def test_vectors_carry_a_torsion_across_a_bond(hidden_degree: int, seen: bool) -> None:
    # Messages of the chain reach bonded atoms only, so within two rounds an energy depends on the angle between the
    # planes of atoms 0, 1, 2 and 1, 2, 3 only if messages contain the directions of neighbours.
    config = ACEConfig(features=8, hidden_degree=hidden_degree, tensor_features=4, cutoff_angstrom=2.0, radial=3)
    chains = []
    for torsion in (0.5, 1.0, 2.5):
        plane = np.array([0.0, np.cos(torsion), np.sin(torsion)])
        ends = np.array([[-0.5, 1.3, 0.0], [0.0, 0.0, 0.0], [1.4, 0.0, 0.0], [1.9, 0.0, 0.0] + 1.3 * plane])
        chains.append((np.array([8, 6, 6, 8]), ends))
    energy, _ = answers(doubled(config), chains)
    # Without vectors the change is rounding, 1e-15; with them the envelope near the cutoff makes it small, but not 0.
    assert (np.ptp(energy) > 1e-10) == seen
    assert seen or np.ptp(energy) < 1e-12


def test_a_charge_changes_the_features_of_every_atom(name: str) -> None:
    z, x = molecule()
    model = network(name)
    graph, state = nnx.split(model.networks)
    body = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[0], state)).body
    table = Structures.from_arrays([z], [x])
    system = pad(table, np.arange(1), Shape(1, len(z), None), CUTOFF, np.float64).system
    edges = pairs(system, CUTOFF)
    features = jax.jit(lambda charge: body(jnp.asarray(z[None]), edges, charge))
    neutral, ion = (np.asarray(features(q)) for q in (jnp.zeros(1), jnp.ones(1)))
    assert (np.abs(ion - neutral).max(axis=-1) > 1e-3).all()


def test_the_envelope_and_two_derivatives_vanish_at_the_cutoff() -> None:
    u = lambda r: envelope(jnp.asarray(r), CUTOFF)  # noqa: E731
    at = CUTOFF * (1 - 1e-9)
    slope, bend = jax.grad(u), jax.grad(jax.grad(u))
    assert abs(float(u(at))) < 1e-12
    assert abs(float(slope(at))) < 1e-12
    assert abs(float(bend(at))) < 1e-6
    assert float(u(0.0)) == 1.0
    assert float(u(CUTOFF + 0.1)) == 0.0
    inside = np.asarray(jax.vmap(u)(np.linspace(0.0, CUTOFF, 50)))
    assert (np.diff(inside) <= 0).all()


def test_bases_have_their_defining_properties() -> None:
    r = np.linspace(1e-6, CUTOFF, 20_001)
    b = np.asarray(bessel(jnp.asarray(r), CUTOFF, 5))
    np.testing.assert_allclose(b[-1], 0.0, atol=1e-12)
    # Orthonormal in the ball: the integral of b_j b_k r^2 over r from 0 to the cutoff.
    overlap = np.trapezoid(b[:, :, None] * b[:, None, :] * (r**2)[:, None, None], r, axis=0)
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-6)
    g = np.asarray(gaussian(jnp.array([0.0, CUTOFF / 4, CUTOFF]), CUTOFF, 5))
    np.testing.assert_allclose([g[0, 0], g[1, 1], g[2, 4]], 1.0)
    np.testing.assert_allclose(g[0, 1], np.exp(-0.5))
