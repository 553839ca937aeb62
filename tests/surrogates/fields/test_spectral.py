"""Spectral convolutions against explicit sums, on grids that do and do not resolve their modes."""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.errors import InputError
from surrogates.learning.nn.fourier_layers import AxisSpectralConv, SpectralConv, coefficients, modes_per_dim, series


def conv(modes: tuple[int, ...], inputs: int = 2, outputs: int = 3, seed: int = 0, **more: Any) -> SpectralConv:
    return SpectralConv(inputs, outputs, modes, nnx.Rngs(seed), **more)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def band_limited(space: tuple[int, ...], modes: int, channels: int, batch: int = 2, seed: int = 0) -> np.ndarray:
    """Random fields of wave numbers up to `modes`: the same functions on any grid."""
    rng = np.random.default_rng(seed)
    x = np.meshgrid(*[np.arange(n) / n for n in space], indexing="ij")
    field = np.zeros((batch, *space, channels))
    for wave in product(range(-modes, modes + 1), repeat=len(space)):
        phase = sum(k * axis for k, axis in zip(wave, x, strict=True))
        a, b = rng.normal(size=(2, batch, *(1,) * len(space), channels))
        field += a * np.cos(2 * np.pi * phase)[..., None] + b * np.sin(2 * np.pi * phase)[..., None]
    return (field / np.sqrt((2 * modes + 1) ** len(space))).astype(np.float32)


def kernel(weights: np.ndarray, space: tuple[int, ...]) -> np.ndarray:
    """The real kernel (*space, in, out) whose Fourier coefficients are the weights, by summing over wave numbers."""
    grids = np.meshgrid(*[np.arange(n) / n for n in space], indexing="ij")
    kernel_values = np.zeros((*space, *weights.shape[-2:]))
    ranges = [range(-(n // 2), n // 2 + 1) for n in weights.shape[: len(space) - 1]]
    for wave in product(*ranges, range(weights.shape[len(space) - 1])):
        index = (*(k + n // 2 for k, n in zip(wave[:-1], weights.shape, strict=False)), wave[-1])
        phase = np.exp(2j * np.pi * sum(k * g for k, g in zip(wave, grids, strict=True)))
        # A real field has the conjugate at the opposite wave vector; of the last dim only one half is kept.
        kernel_values += (1.0 if wave[-1] == 0 else 2.0) * np.real(phase[..., None, None] * weights[index])
    return kernel_values


#: Compiled once for the layers and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda layer, x: layer(x))


@pytest.mark.parametrize(("space", "modes"), [((9,), (3,)), ((8,), (3,)), ((6, 7), (2, 2)), ((7, 4), (1, 1))])
def test_it_is_a_circular_convolution(space: tuple[int, ...], modes: tuple[int, ...]) -> None:
    layer = conv(modes)
    x = noise(2, *space, 2)
    k = kernel(np.asarray(layer.weights(space), np.complex128), space)
    expected = np.zeros((2, *space, 3))
    for shift in np.ndindex(*space):
        moved = np.roll(x, shift, axis=tuple(range(1, x.ndim - 1)))
        expected += moved @ k[shift]
    np.testing.assert_allclose(ask(layer, jnp.asarray(x)), expected / np.prod(space), atol=2e-6)


def test_a_constant_gets_the_real_part_of_the_first_weight() -> None:
    layer = conv((3, 3))
    out = ask(layer, jnp.ones((1, 8, 8, 2)))
    expected = np.real(np.asarray(layer.weights((8, 8)))[3, 0]).sum(axis=0)
    np.testing.assert_allclose(out, np.broadcast_to(expected, out.shape), atol=1e-6)


@pytest.mark.parametrize("space", [(12,), (13,), (9, 12), (5, 6, 7)])
def test_coefficients_and_series_undo_each_other(space: tuple[int, ...]) -> None:
    x = band_limited(space, 2, 3)
    np.testing.assert_allclose(series(coefficients(jnp.asarray(x), (2,) * len(space)), space), x, atol=3e-6)


@pytest.mark.parametrize("factorisation", ["dense", "separable"])
@pytest.mark.parametrize(("space", "modes"), [((32,), (6,)), ((24, 25), (5, 5))])
def test_variance_is_kept_at_first(space: tuple[int, ...], modes: tuple[int, ...], factorisation: str) -> None:
    x = jnp.asarray(band_limited(space, min(modes), 64, batch=4))
    layers = [conv(modes, 64, 64, factorisation=factorisation, seed=s) for s in range(4)]
    ratio = np.mean([jnp.var(ask(layer, x)) for layer in layers]) / jnp.var(x)
    assert float(ratio) == pytest.approx(1.0, rel=0.1)


def test_a_tucker_product_begins_with_the_variance_of_dense_weights() -> None:
    """The variance is averaged over draws, because products of few normal factors vary much."""

    def variance(factorisation: str) -> float:
        layers = [conv((4, 5), 24, 24, factorisation=factorisation, seed=s) for s in range(40)]
        return float(np.mean([jnp.mean(jnp.abs(layer.weights((24, 24))) ** 2) for layer in layers]))

    assert variance("tucker") == pytest.approx(variance("dense"), rel=0.15)


def test_finer_grids_change_nothing_for_a_resolved_field() -> None:
    layer = conv((5, 6))
    coarse, fine = band_limited((12, 15), 5, 2), band_limited((24, 60), 5, 2)
    np.testing.assert_allclose(ask(layer, jnp.asarray(fine))[:, ::2, ::4], ask(layer, jnp.asarray(coarse)), atol=1e-5)


def test_a_coarse_grid_drops_the_modes_that_it_cannot_resolve() -> None:
    """8 points resolve wave numbers up to 3, so only the weights of these act."""
    layer = conv((6, 6))
    x = band_limited((8, 8), 3, 2)
    fine = ask(layer, jnp.asarray(band_limited((32, 32), 3, 2)))
    np.testing.assert_allclose(ask(layer, jnp.asarray(x)), fine[:, ::4, ::4], atol=1e-5)


def test_the_nyquist_mode_is_dropped() -> None:
    layer = conv((8,), 1, 1)
    comb = jnp.asarray((-1.0) ** np.arange(8))[None, :, None]
    np.testing.assert_allclose(ask(layer, comb), np.zeros((1, 8, 1)), atol=1e-6)


def test_half_precision_input_is_transformed_in_float32() -> None:
    layer = conv((4,))
    x = jnp.asarray(noise(2, 16, 2)).astype(jnp.bfloat16)
    out = ask(layer, x)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, ask(layer, x.astype(jnp.float32)))


def test_tucker_at_full_rank_can_be_any_dense_convolution() -> None:
    dense, tucker = conv((2, 3), 4, 5), conv((2, 3), 4, 5, factorisation="tucker", rank=1.0)
    assert tucker.real[...].shape == dense.real[...].shape
    for factor in tucker.factors:
        factor[...] = jnp.eye(len(factor[...]))
    tucker.real[...], tucker.imag[...] = dense.real[...], dense.imag[...]
    x = jnp.asarray(noise(2, 9, 10, 4))
    np.testing.assert_allclose(ask(tucker, x), ask(dense, x), atol=1e-5)


def test_tucker_of_half_rank_is_of_that_rank_and_smaller() -> None:
    dense, tucker = conv((4, 4), 16, 16), conv((4, 4), 16, 16, factorisation="tucker", rank=0.5)

    def size(layer: SpectralConv) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param)))

    assert size(tucker) < 0.2 * size(dense)
    weights = np.asarray(tucker.weights((32, 32))).reshape(-1, 16, 16)
    assert np.linalg.matrix_rank(weights.reshape(-1, 16), tol=1e-4) == 8
    assert np.linalg.matrix_rank(np.asarray(dense.weights((32, 32))).reshape(-1, 16), tol=1e-4) == 16


def test_a_separable_convolution_keeps_channels_apart() -> None:
    layer = conv((3, 3), 4, 4, factorisation="separable")
    x = jnp.asarray(noise(1, 8, 8, 4))
    changed = ask(layer, x.at[..., 1].add(1.0 + x[..., 0])) - ask(layer, x)
    moved = np.abs(np.asarray(changed)).max(axis=(0, 1, 2))
    assert moved[1] > 0.1
    np.testing.assert_array_equal(moved[[0, 2, 3]], 0.0)
    with pytest.raises(ValueError, match="separable"):
        conv((3,), 4, 5, factorisation="separable")


def test_axis_convolutions_sum_those_of_each_dim() -> None:
    layer = AxisSpectralConv(3, (2, 3), nnx.Rngs(0))
    x = noise(2, 7, 9, 3)
    along_x = np.stack([np.asarray(layer.convs[0](jnp.asarray(x[:, :, j]))) for j in range(9)], axis=2)
    along_y = np.stack([np.asarray(layer.convs[1](jnp.asarray(x[:, i]))) for i in range(7)], axis=1)
    np.testing.assert_allclose(ask(layer, jnp.asarray(x)), (along_x + along_y) / np.sqrt(2), atol=1e-5)


def test_modes_are_one_for_all_dims_or_one_for_each() -> None:
    assert modes_per_dim((4,), 3) == (4, 4, 4)
    assert modes_per_dim((4, 5), 2) == (4, 5)
    with pytest.raises(InputError, match="modes"):
        modes_per_dim((4, 5), 3)
