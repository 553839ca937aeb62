"""Couplings of what neighbours send with their direction: coefficients against analytic ones, and what they show."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial.transform import Rotation

from data.plain import from_plain, to_plain
from data.structures.batches import Shape, pad
from data.structures.structures import Structures
from surrogates.potentials.networks.ace import ACE, ACEConfig
from surrogates.potentials.networks.coupling import Coupling, CouplingPath, coefficients, paths
from surrogates.potentials.networks.geometry import Pairs, pairs
from surrogates.potentials.networks.harmonics import reference

CUTOFF = 2.0


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random directions."""
    x = rng.normal(size=(count, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def harmonic(ell: int, direction: np.ndarray) -> np.ndarray:
    """Y_lm of one degree."""
    return reference(ell, direction)[:, ell * ell :]


def test_paths_are_those_of_natural_parity_within_the_triangle() -> None:
    assert paths("none", 3, 1) == ()
    assert paths("scalar", 3, 2) == (CouplingPath(2, 2, 0),)
    assert [tuple(path) for path in paths("all", 3, 1)] == [(1, 1, 0), (1, 1, 2), (2, 1, 1), (2, 1, 3), (3, 1, 2)]
    for degree in (2, 4):
        expected = {
            (a, 2, c)
            for a in range(1, degree + 1)
            for c in range(degree + 1)
            if abs(a - 2) <= c <= a + 2 and (a + 2 + c) % 2 == 0
        }
        assert set(map(tuple, paths("all", degree, 2))) == expected


@pytest.mark.parametrize("path", [p for sent in (1, 2) for p in paths("all", 3, sent)])
def test_coefficients_turn_with_what_they_couple(path: CouplingPath) -> None:
    rng = np.random.default_rng(0)
    table = coefficients(path)
    np.testing.assert_allclose(np.sum(table**2, axis=(1, 2)), 1.0)
    points = unit(rng, 60)
    turn = -Rotation.random(random_state=2).as_matrix()

    def matrix(ell: int) -> np.ndarray:
        """D with Y_l(turned x) = D Y_l(x)."""
        return np.linalg.lstsq(harmonic(ell, points), harmonic(ell, points @ turn.T), rcond=None)[0].T

    edge, sent, arrives = map(matrix, path)
    h = rng.normal(size=(2 * path.edge + 1, 2 * path.sent + 1))
    turned = np.einsum("cab,ab->c", table, edge @ h @ sent.T)
    np.testing.assert_allclose(turned, arrives @ np.einsum("cab,ab->c", table, h), atol=1e-12)


def test_two_vectors_couple_to_their_product_and_to_a_traceless_tensor() -> None:
    a, b = unit(np.random.default_rng(1), 2)[:, None]
    dot = float(a[0] @ b[0])
    coupled = {
        n: np.einsum("cab,a,b->c", coefficients(CouplingPath(1, 1, n)), harmonic(1, a)[0], harmonic(1, b)[0])
        for n in (0, 2)
    }
    # Y_1 is sqrt(3) times a unit vector, and what arrives has a mean square of 1 over independent directions.
    assert abs(coupled[0][0]) == pytest.approx(np.sqrt(3) * abs(dot))
    # The symmetric traceless part of a b^T has the squared norm (1 + (a.b)^2) / 2 - (a.b)^2 / 3; its mean is 5 / 9.
    assert np.sum(coupled[2] ** 2) == pytest.approx(9 * ((1 + dot**2) / 2 - dot**2 / 3))


def test_the_sum_over_neighbours_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(3)
    degree, sent, radial, t, c, n = 3, 1, 2, 3, 4, 5
    with jax.enable_x64(True):
        layer = Coupling(paths("all", degree, sent), (radial, t, c), 1.0, "float32", nnx.Rngs(0))
        functions = rng.normal(size=(1, n, (degree + 1) ** 2, radial, n))
        h = rng.normal(size=(1, n, 2 * sent + 1, t))
        graph, state = nnx.split(layer)
        layer = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(np.float64), state))
        weigh, mix = np.asarray(layer.weigh[...]), np.asarray(layer.mix[...])
        slot = np.zeros((1, n, n))
        edges = Pairs(slot, slot, np.zeros((1, n, n, 3)), None)
        arrived = jax.jit(lambda f, x: [values for _, values in layer(f, x, edges)])(functions, h)
        for k, (path, values) in enumerate(zip(layer.ways, arrived, strict=True)):
            rows = functions[:, :, path.edge**2 : (path.edge + 1) ** 2]
            expected = np.einsum("qab,miakj,kt,mjbt,tc->miqc", coefficients(path), rows, weigh, h, mix[k])
            np.testing.assert_allclose(values, expected, atol=1e-12)


@pytest.mark.parametrize(("coupling", "seen"), [("none", False), ("scalar", True), ("all", True)])
def test_an_atom_learns_which_of_a_neighbours_angles_it_is_part_of(coupling: str, seen: bool) -> None:
    """Two neighbours on opposite sides, each with the same three bonds, of which another one leads to the atom.

    The invariants of each neighbour are those of its three bonds, which are equal in all cases, and the vectors of the
    two neighbours cancel, because they are mirror images. So nothing arrives by radial weights that would tell the
    cases apart.
    """
    bonds = np.array([[np.cos(a), np.sin(a), 0.0] for a in np.deg2rad([0.0, 100.0, 220.0])])
    geometries = []
    for chosen in range(3):
        # Turned so that the chosen bond points from the neighbour to the atom at the origin.
        x, y, _ = bonds[chosen]
        turn = -np.array([[x, y, 0.0], [-y, x, 0.0], [0.0, 0.0, 1.0]])
        others = 1.4 * np.delete(bonds, chosen, axis=0) @ turn.T
        half = np.array([1.4, 0.0, 0.0]) + np.concatenate([np.zeros((1, 3)), others])
        geometries.append(np.concatenate([np.zeros((1, 3)), half, -half]))
    table = Structures.from_arrays([np.full(7, 6)] * 3, geometries)
    with jax.enable_x64(True):
        config = ACEConfig(features=4, tensor_features=2, cutoff_angstrom=CUTOFF, neighbours=1.0, coupling=coupling)
        system = pad(table, np.arange(3), Shape(3, 7, None), CUTOFF, np.float64).system
        graph, state = nnx.split(ACE(config, nnx.Rngs(0)))
        body = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(np.float64), state))
        features = np.asarray(jax.jit(body)(system.numbers, pairs(system, CUTOFF), jnp.zeros(3)))[:, 0]
    spread = np.ptp(features, axis=0).max()
    assert spread > 1e-5 if seen else spread < 1e-12


def test_a_coupling_has_weights_for_its_radial_functions_and_a_map_for_each_path() -> None:
    def weights(coupling: str) -> int:
        model = nnx.eval_shape(lambda: ACE(ACEConfig(coupling=coupling), nnx.Rngs(0)))
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))

    # The defaults send vectors of 32 channels once, over 6 radial functions, to densities of 64 channels and l up to 3.
    assert weights("scalar") - weights("none") == 6 * 32 + 32 * 64
    assert weights("all") - weights("none") == 6 * 32 + 5 * 32 * 64


def test_settings_of_before_have_no_coupling_and_keep_their_form() -> None:
    plain = to_plain(ACEConfig())
    assert "coupling" not in plain
    assert from_plain(ACEConfig, plain) == ACEConfig(coupling="none")
    coupled = ACEConfig(coupling="all")
    assert from_plain(ACEConfig, to_plain(coupled)) == coupled
    with pytest.raises(ValueError, match="none, scalar, all"):
        ACEConfig(coupling="full")
