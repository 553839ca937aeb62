"""Products of harmonics against means over the sphere at many more points than the quadrature uses."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from surrogates.potentials.networks.harmonics import reference, sphere
from surrogates.potentials.networks.products import INVARIANTS, TENSORS, Products

CHANNELS = 3


@pytest.mark.parametrize(
    ("degree", "sends"), [(1, ()), (2, (1,)), (3, ()), (3, (1,)), (3, (1, 2)), (4, (1, 2)), (5, (2,))]
)
def test_they_are_the_means_over_the_sphere(degree: int, sends: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    density = [rng.normal(size=(1, 2, 2 * n + 1, CHANNELS)) for n in range(degree + 1)]
    with jax.enable_x64(True):
        products = Products(CHANNELS, degree, sends, nnx.Rngs(0))
        factors = np.asarray(products.factors[...], np.float64)
        products.factors[...] = factors
        invariants, tensors = products([jax.numpy.asarray(a) for a in density])
    points, weights = sphere(31)
    y = reference(degree, points)

    def part(parity: int, factors_of_part: np.ndarray) -> np.ndarray:
        """Values (1, 2, points, channels) of the terms with even or odd l."""
        each = [y[:, n * n : (n + 1) ** 2] @ (density[n] * factors_of_part[n]) for n in range(parity, degree + 1, 2)]
        return np.sum(each, axis=0)

    e, o, g = part(0, factors[0]), part(1, factors[0]), part(0, factors[1])
    mean = lambda values: np.einsum("p,...pc->...c", weights, values)  # noqa: E731
    assert len(invariants) == INVARIANTS
    for invariant, values in zip(invariants, (e**3, e * o**2, e**2 * g, g * o**2), strict=True):
        np.testing.assert_allclose(invariant, mean(values), atol=1e-11)
    for n, tensor in zip(sends, tensors, strict=True):
        assert len(tensor) == TENSORS
        turning = y[:, n * n : (n + 1) ** 2]
        expected = (e * o, e**2 * o) if n % 2 else (e**2 + o**2, e**3)
        for got, values in zip(tensor, expected, strict=True):
            projected = np.einsum("p,pd,...pc->...dc", weights, turning, values)
            np.testing.assert_allclose(got, projected, atol=1e-11)
