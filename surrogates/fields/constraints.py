"""Hard constraints of fields on periodic uniform grids, as pure functions of fields with channels last."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float


def divergence_free(
    velocity: Float[Array, "*batch_and_space component"], lengths: tuple[float, ...]
) -> Float[Array, "*batch_and_space component"]:
    """The divergence-free field nearest to a velocity: u - k (k . u) / |k|^2 for each wave vector k (Leray projection).

    The mean is kept. Coefficients at the Nyquist wave number of a dim of even size are dropped, because their
    derivative is not real on the grid.

    Args:
        velocity: components in the order of the dims of space, on a periodic grid in 2 or 3 dims.
        lengths: lengths of the domain along each dim, in one unit.

    Returns:
        The projected velocity, in the dtype of `velocity`; the transform is in float32 at least.

    Raises:
        ValueError: there are not as many components as dims of space, or a length is not above 0.
    """
    dims = len(lengths)
    if dims not in (2, 3) or velocity.shape[-1] != dims or velocity.ndim < dims + 1 or min(lengths) <= 0:
        raise ValueError(
            f"a velocity of {dims} components on {dims} dims with lengths above 0 is needed, 2 or 3; "
            f"got an array of shape {velocity.shape} and lengths {lengths}"
        )
    space = velocity.shape[-1 - dims : -1]
    coefficients, waves = _transform(velocity, lengths)
    k = jnp.stack(jnp.broadcast_arrays(*waves), axis=-1)
    square = jnp.sum(k * k, axis=-1, keepdims=True)
    along = jnp.sum(k * coefficients, axis=-1, keepdims=True) / jnp.where(square == 0, 1.0, square)
    return _back(coefficients - k * along, space).astype(velocity.dtype)


def stream_function(
    psi: Float[Array, "*batch x y channel"], lengths: tuple[float, float] = (1.0, 1.0)
) -> Float[Array, "*batch x y 2"]:
    """The velocity (d psi / dy, -d psi / dx) of a stream function, which has no divergence and no mean.

    Args:
        psi: the stream function on a periodic grid.
        lengths: lengths of the domain along x and y.

    Raises:
        ValueError: psi has more than one channel.
    """
    if psi.ndim < 3 or psi.shape[-1] != 1:
        raise ValueError(f"a stream function of shape (..., x, y, 1) is needed, got {psi.shape}")
    coefficients, (kx, ky) = _transform(psi, lengths)
    both = jnp.concatenate([1j * ky[..., None] * coefficients, -1j * kx[..., None] * coefficients], axis=-1)
    return _back(both, psi.shape[-3:-1]).astype(psi.dtype)


def conserve_mean(
    new: Float[Array, "batch *space channel"], old: Float[Array, "batch *space channel"]
) -> Float[Array, "batch *space channel"]:
    """Shift a field so that the mean of each channel equals that of another field.

    Args:
        new: the field to shift.
        old: the field whose means are kept.
    """
    axes = tuple(range(1, new.ndim - 1))
    # The mean of the difference is exact where the difference of two large means would lose digits.
    return new - jnp.mean(new - old, axis=axes, keepdims=True, dtype=jnp.promote_types(new.dtype, jnp.float32)).astype(
        new.dtype
    )


def _transform(
    field: Float[Array, "*batch_and_space channel"], lengths: tuple[float, ...]
) -> tuple[Complex[Array, "*batch_and_waves channel"], list[Float[Array, "*waves"]]]:
    """Fourier coefficients without those at Nyquist wave numbers, and the wave numbers of each dim, broadcastable."""
    dims = len(lengths)
    axes = tuple(range(-1 - dims, -1))
    space = field.shape[-1 - dims : -1]
    wide = field.astype(jnp.promote_types(field.dtype, jnp.float32))
    coefficients = jnp.fft.rfftn(wide, axes=axes)
    waves = []
    for d, (n, length) in enumerate(zip(space, lengths, strict=True)):
        whole = np.fft.rfftfreq(n, 1 / n) if d == dims - 1 else np.fft.fftfreq(n, 1 / n)
        shape = tuple(len(whole) if e == d else 1 for e in range(dims))
        coefficients = jnp.where((2 * np.abs(whole) == n).reshape(*shape, 1), 0, coefficients)
        waves.append(jnp.asarray((2 * np.pi * whole / length).reshape(shape), wide.dtype))
    return coefficients, waves


def _back(
    coefficients: Complex[Array, "*batch_and_waves channel"], space: tuple[int, ...]
) -> Float[Array, "*batch_and_space channel"]:
    """The field on a grid of `space` points."""
    return jnp.fft.irfftn(coefficients, s=space, axes=tuple(range(-1 - len(space), -1)))
