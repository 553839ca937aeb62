"""Hard constraints hold up to rounding, and do not change fields that satisfy them already."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates.fields.constraints import conserve_mean, divergence_free, stream_function

GRIDS = [((16, 16), (1.0, 1.0)), ((15, 12), (2.0, 0.5)), ((7, 9), (1.0, 3.0)), ((6, 7, 8), (1.0, 2.0, 3.0))]


def divergence(velocity: np.ndarray, lengths: tuple[float, ...]) -> tuple[float, float]:
    """Root mean square of the divergence and of the gradient of u, by a full complex transform in float64.

    Wave numbers are those of the trigonometric interpolant, the Nyquist ones counted in full.
    """
    dims = len(lengths)
    axes = tuple(range(-1 - dims, -1))
    space = velocity.shape[-1 - dims : -1]
    spectrum = np.fft.fftn(velocity.astype(np.float64), axes=axes)
    waves = np.meshgrid(
        *[2 * np.pi * np.fft.fftfreq(n, 1 / n) / s for n, s in zip(space, lengths, strict=True)], indexing="ij"
    )
    total = sum(k * spectrum[..., d] for d, k in enumerate(waves))
    gradient = sum(np.abs(k[..., None] * spectrum) ** 2 for k in waves)
    return float(np.sqrt(np.sum(np.abs(total) ** 2))), float(np.sqrt(np.sum(gradient)))


def velocity(space: tuple[int, ...]) -> jax.Array:
    """White noise, which contains all wave numbers, including the Nyquist ones."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(3, *space, len(space))) + 2.0, jnp.float32)


@pytest.mark.parametrize(("space", "lengths"), GRIDS)
def test_projected_velocities_have_no_divergence(space: tuple[int, ...], lengths: tuple[float, ...]) -> None:
    before = velocity(space)
    after = divergence_free(before, lengths)
    error, scale = divergence(np.asarray(after), lengths)
    assert error < 1e-5 * scale
    wrong, scale = divergence(np.asarray(before), lengths)
    assert wrong > 0.1 * scale
    axes = tuple(range(1, len(space) + 1))
    np.testing.assert_allclose(jnp.mean(after, axes), jnp.mean(before, axes), rtol=1e-5)


@pytest.mark.parametrize(("space", "lengths"), GRIDS)
def test_the_projection_is_orthogonal(space: tuple[int, ...], lengths: tuple[float, ...]) -> None:
    """A second application changes nothing, and the removed part is orthogonal to the rest."""
    before = velocity(space)
    after = divergence_free(before, lengths)
    np.testing.assert_allclose(divergence_free(after, lengths), after, atol=3e-6)
    assert abs(float(jnp.sum(after * (before - after)))) < 1e-4 * float(jnp.sum(before * before))


def test_a_gradient_is_taken_away_and_a_vortex_stays() -> None:
    x, y = np.meshgrid(np.arange(16) / 16 * 2, np.arange(12) / 12, indexing="ij")
    a, b = np.pi * x, 2 * np.pi * y
    vortex = jnp.asarray(np.stack([np.sin(a) * np.cos(b) * 2, -np.cos(a) * np.sin(b)], -1)[None], jnp.float32)
    potential = jnp.asarray(np.stack([np.cos(a) * np.sin(b), 2 * np.sin(a) * np.cos(b)], -1)[None], jnp.float32)
    np.testing.assert_allclose(divergence_free(vortex + potential, (2.0, 1.0)), vortex, atol=3e-6)


def test_a_stream_function_gives_its_velocity() -> None:
    lengths = (2.0, 3.0)
    x, y = np.meshgrid(np.arange(12) / 12 * 2, np.arange(15) / 15 * 3, indexing="ij")
    a, b = np.pi * x, 4 * np.pi / 3 * y
    psi = jnp.asarray((np.sin(a) * np.cos(b))[None, ..., None], jnp.float32)
    expected = np.stack([-4 * np.pi / 3 * np.sin(a) * np.sin(b), -np.pi * np.cos(a) * np.cos(b)], -1)
    got = stream_function(psi, lengths)
    np.testing.assert_allclose(got[0], expected, atol=1e-5)
    rough = stream_function(velocity((12, 15))[..., :1], lengths)
    error, scale = divergence(np.asarray(rough), lengths)
    assert error < 1e-5 * scale


def test_the_mean_is_that_of_the_old_field() -> None:
    rng = np.random.default_rng(1)
    old = jnp.asarray(rng.normal(size=(2, 8, 9, 3)) + 100.0, jnp.float32)
    new = jnp.asarray(rng.normal(size=(2, 8, 9, 3)) + 101.0, jnp.float32)
    kept = conserve_mean(new, old)
    difference = np.asarray(kept, np.float64).mean((1, 2)) - np.asarray(old, np.float64).mean((1, 2))
    assert np.abs(difference).max() < 1e-5
    # Each channel of each sample is shifted uniformly.
    moved = np.asarray(kept - new)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1, :1], moved.shape), atol=2e-5)
    assert np.abs(moved).min() > 0.5


def test_what_is_no_velocity_is_refused() -> None:
    with pytest.raises(ValueError, match="2 components"):
        divergence_free(jnp.zeros((1, 8, 8, 3)), (1.0, 1.0))
    with pytest.raises(ValueError, match="lengths above 0"):
        divergence_free(jnp.zeros((1, 8, 8, 2)), (1.0, 0.0))
    with pytest.raises(ValueError, match="stream function"):
        stream_function(jnp.zeros((1, 8, 8, 2)))
