"""Convolutions of fields with learned kernels, in Fourier space (Li et al. 2021, arXiv:2010.08895, eq. 4).

The transform is divided by the number of points, as for a Fourier series, so that coefficients and weights do not
depend on the grid. The wave numbers -k to k of each dim are kept. The Nyquist wave number n / 2 and higher ones are
dropped, because a grid of n points does not resolve them; on a coarse grid the operator is the same with fewer modes.
All computations are in float32 and complex64.
"""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Complex, Float

from data.errors import InputError
from surrogates.learning.nn import initial

FACTORISATIONS = ("dense", "tucker", "separable")
#: Precision of products of weights and coefficients, which an accelerator would otherwise round to fewer bits.
EXACT = jax.lax.Precision.HIGHEST


def modes_per_dim(modes: tuple[int, ...], dims: int) -> tuple[int, ...]:
    """The largest wave number that is kept along each dim, from one number for all dims or one for each.

    Raises:
        InputError: the number of modes is neither 1 nor that of dims.
    """
    if len(modes) not in (1, dims):
        raise InputError(
            f"must be one number, or one for each of {dims} dims, got {list(modes)}",
            where="model.network.modes",
            remedy=f"Give one, such as [{modes[0] if modes else 12}]",
        )
    return modes if len(modes) == dims else modes * dims


def resolved_modes(modes: int, points: int) -> int:
    """The largest wave number, up to `modes`, that a grid of `points` points resolves."""
    return min(modes, (points - 1) // 2)


def coefficients(
    x: Float[Array, "batch *space channel"], modes: tuple[int, ...]
) -> Complex[Array, "batch *modes channel"]:
    """Fourier coefficients at wave numbers -k to k of each dim and 0 to k of the last; k is limited by the grid.

    Args:
        x: a real field.
        modes: the largest wave number to keep along each dim.
    """
    axes = tuple(range(1, x.ndim - 1))
    spectrum = jnp.fft.rfftn(x.astype(jnp.float32), axes=axes, norm="forward")
    for axis, most in zip(axes, modes, strict=True):
        k = resolved_modes(most, x.shape[axis])
        low = jax.lax.slice_in_dim(spectrum, 0, k + 1, axis=axis)
        if axis == axes[-1]:
            spectrum = low
        else:
            n = x.shape[axis]
            spectrum = jnp.concatenate([jax.lax.slice_in_dim(spectrum, n - k, n, axis=axis), low], axis=axis)
    return spectrum


def series(
    values: Complex[Array, "batch *modes channel"], space: tuple[int, ...]
) -> Float[Array, "batch *space channel"]:
    """The real field on a grid of `space` points with these coefficients, in the layout of `coefficients`.

    Where the last wave number is 0, values at opposite wave numbers should be conjugate; of other values the part that
    is conjugate is used.
    """
    axes = tuple(range(1, values.ndim - 1))
    for axis, n in zip(axes[:-1], space[:-1], strict=True):
        k = values.shape[axis] // 2
        zeros = jnp.zeros((*values.shape[:axis], n - 2 * k - 1, *values.shape[axis + 1 :]), values.dtype)
        high = jax.lax.slice_in_dim(values, 0, k, axis=axis)
        low = jax.lax.slice_in_dim(values, k, 2 * k + 1, axis=axis)
        values = jnp.concatenate([low, zeros, high], axis=axis)
    if len(axes) > 1:
        values = jnp.fft.ifftn(values, axes=axes[:-1], norm="forward")
    # The imaginary part here belongs to no real field, and implementations of the transform treat it differently.
    first = jnp.arange(values.shape[-2])[:, None] == 0
    values = jax.lax.complex(values.real, jnp.where(first, 0.0, values.imag))
    return jnp.fft.irfft(values, n=space[-1], axis=axes[-1], norm="forward")


class SpectralConv(nnx.Module):
    """The convolution of a field with a kernel whose Fourier coefficients are learned.

    Complex weights are stored as two real arrays, so that every optimiser supports them. The last two axes of `real`
    and `imag` are the input and output channels, the axes before them are wave numbers. Initially a field within the
    kept modes keeps its variance; the initial weights of Li et al., which are divided by the product of the numbers
    of channels, are too small for that. As fields are real, only half of the variance of the modes whose last wave
    number is 0 counts, so those weights are larger by sqrt(2).

    Args:
        inputs, outputs: number of channels.
        modes: the largest wave number that is kept along each dim.
        rngs: random numbers for the initial weights.
        factorisation: "dense" for full weights; "tucker" for a core times a real matrix along each dim of modes and of
            channels (Kossaifi et al. 2023, arXiv:2310.00120); "separable" for weights of each channel alone.
        rank: rank of a Tucker factorisation, as a share of the size of each axis.
        gain: initial variance of the output over that of the input, for an input within the kept modes.

    Raises:
        ValueError: the numbers of input and output channels of a separable convolution differ.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        modes: tuple[int, ...],
        rngs: nnx.Rngs,
        *,
        factorisation: str = "dense",
        rank: float = 0.5,
        gain: float = 1.0,
    ) -> None:
        if factorisation == "separable" and inputs != outputs:
            raise ValueError(f"a separable convolution needs as many channels out as in, got {inputs} and {outputs}")
        self.modes, self.factorisation = modes, factorisation
        sizes = (*(2 * k + 1 for k in modes[:-1]), modes[-1] + 1)
        if factorisation == "separable":
            # The last axis has length 1, so that an optimiser of matrices does not treat the channels as one.
            full, fan = (*sizes, inputs, 1), 1
        else:
            full, fan = (*sizes, inputs, outputs), inputs
        std = float(np.sqrt(0.5 * gain / fan))
        shape = full
        if factorisation == "tucker":
            shape = tuple(max(1, round(rank * n)) for n in full)
            self.factors = nnx.List(
                [nnx.Param(initial.normal(r**-0.5)(rngs.params(), (n, r))) for n, r in zip(full, shape, strict=True)]
            )
        self.real = nnx.Param(initial.normal(std)(rngs.params(), shape))
        self.imag = nnx.Param(initial.normal(std)(rngs.params(), shape))

    def weights(self, space: tuple[int, ...]) -> Complex[Array, "*modes inputs outputs"]:
        """The coefficients of the kernel that a grid of `space` points resolves."""
        dims = len(self.modes)
        kept = [resolved_modes(k, n) for k, n in zip(self.modes, space, strict=True)]
        slices = [slice(k - r, k + r + 1) for k, r in zip(self.modes[:-1], kept[:-1], strict=True)]
        slices.append(slice(0, kept[-1] + 1))
        real, imag = self.real[...].astype(jnp.float32), self.imag[...].astype(jnp.float32)
        if self.factorisation == "tucker":
            for axis, factor in enumerate(self.factors):
                rows = factor[...][slices[axis]] if axis < dims else factor[...]
                real, imag = (
                    jnp.moveaxis(jnp.tensordot(part, rows, ((axis,), (1,)), precision=EXACT), -1, axis)
                    for part in (real, imag)
                )
        else:
            real, imag = real[tuple(slices)], imag[tuple(slices)]
        last = jnp.arange(kept[-1] + 1)[:, None, None]
        # The factor is applied here rather than to the initial weights, so that all modes learn at the same rate.
        return jax.lax.complex(real, imag) * jnp.where(last == 0, np.float32(np.sqrt(2.0)), np.float32(1.0))

    def __call__(self, x: Float[Array, "batch *space inputs"]) -> Float[Array, "batch *space outputs"]:
        """The convolved field, in float32."""
        space = x.shape[1:-1]
        return series(mix(coefficients(x, self.modes), self.weights(space)), space)


class AxisSpectralConv(nnx.Module):
    """The sum of one-dimensional convolutions along each dim (Tran et al. 2023, arXiv:2111.13802, section 3).

    Args:
        channels: number of input and output channels.
        modes: the largest wave number that is kept along each dim.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, channels: int, modes: tuple[int, ...], rngs: nnx.Rngs) -> None:
        self.convs = nnx.List([SpectralConv(channels, channels, (k,), rngs) for k in modes])

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """The convolved field, in float32; initially an isotropic field keeps its variance."""
        total = jnp.zeros(x.shape, jnp.float32)
        for axis, conv in enumerate(self.convs, start=1):
            lines = jnp.moveaxis(x, axis, -2)
            flat = lines.reshape(-1, *lines.shape[-2:])
            total = total + jnp.moveaxis(conv(flat).reshape(lines.shape), -2, axis)
        return total / np.float32(np.sqrt(len(self.convs)))


def mix(
    x: Complex[Array, "batch *modes inputs"], weights: Complex[Array, "*modes inputs outputs"]
) -> Complex[Array, "batch *modes channels"]:
    """Coefficients of each mode times its weights; weights with one output act on each channel separately."""
    if weights.shape[-1] == 1 and x.shape[-1] > 1:
        return x * weights[..., 0]
    batch, modes, outputs = x.shape[0], x.shape[1:-1], weights.shape[-1]
    flat = weights.reshape(prod(modes), *weights.shape[-2:])
    mixed = jnp.einsum("bmi,mio->bmo", x.reshape(batch, prod(modes), -1), flat, precision=EXACT)
    return mixed.reshape(batch, *modes, outputs)
