"""Random initial states on periodic grids, from an explicit numpy generator.

Fields are drawn mode by mode in an order that does not depend on the grid: on a finer grid, the same seed gives the
same field with finer modes added. Sample i does not depend on the number of samples. Lengths are in units of the box.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Complex, Float, Int

from data.errors import InputError

NORMALISATIONS = ("none", "std", "max")


class Initial(Protocol):
    """Draws initial states."""

    def sample(
        self, rng: np.random.Generator, count: int, points: int, dim: int, channels: int = 1
    ) -> Float[np.ndarray, "B C *N"]:
        """Draw `count` float32 states on `points` grid points along each of `dim` axes; deterministic in `rng`."""
        ...


def modes(limit: int, dim: int) -> Int[np.ndarray, "M D"]:
    """Wavevectors with components up to `limit`, without 0 and with one of each pair k, -k.

    They are sorted by their largest component, so that those of a smaller limit come first.
    """
    axis = np.arange(-limit, limit + 1)
    k = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    # This keeps the wavevector of each pair whose first nonzero component is positive, as it comes after 0.
    k = k[len(k) // 2 + 1 :]
    return k[np.argsort(np.abs(k).max(axis=1), kind="stable")]


def synthesise(
    k: Int[np.ndarray, "M D"], coefficients: Complex[np.ndarray, "C M"], mean: Float[np.ndarray, " C"], points: int
) -> Float[np.ndarray, " C *N"]:
    """Evaluate mean + sum over k of c_k exp(2 pi i k . x) + its complex conjugate on the grid."""
    dim = k.shape[1]
    hat = np.zeros((len(coefficients), *(points,) * dim), np.complex128)
    hat[(slice(None), *(k % points).T)] = coefficients
    hat[(slice(None), *(-k % points).T)] = coefficients.conj()
    hat[(slice(None), *(0,) * dim)] = mean
    return np.fft.ifftn(hat, axes=tuple(range(1, dim + 1)), norm="forward").real


def _normalised(field: Float[np.ndarray, " C *N"], how: str) -> Float[np.ndarray, " C *N"]:
    """Divide each channel by its standard deviation or its largest magnitude on this grid."""
    if how == "none":
        return field
    axes = tuple(range(1, field.ndim))
    return field / (
        field.std(axis=axes, keepdims=True) if how == "std" else np.abs(field).max(axis=axes, keepdims=True)
    )


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be above 0, got {value}", where="initial")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"no {name} {value!r}", where="initial", remedy=f"Choose from {list(choices)}")


class _Fields(ABC):
    """Fields with independent modes; a subclass defines the largest wavenumber and the distribution."""

    normalise: str

    @abstractmethod
    def _limit(self, points: int) -> int: ...

    @abstractmethod
    def _draw(self, rng: np.random.Generator, k: Int[np.ndarray, "M D"]) -> tuple[Complex[np.ndarray, " M"], float]: ...

    def sample(
        self, rng: np.random.Generator, count: int, points: int, dim: int, channels: int = 1
    ) -> Float[np.ndarray, "B C *N"]:
        """Draw states; see `Initial`."""
        k = modes(self._limit(points), dim)
        states = np.empty((count, channels, *(points,) * dim), np.float32)
        for state, stream in zip(states, rng.spawn(count), strict=True):
            drawn = [self._draw(child, k) for child in stream.spawn(channels)]
            coefficients, means = zip(*drawn, strict=True)
            state[...] = _normalised(synthesise(k, np.stack(coefficients), np.array(means), points), self.normalise)
        return states


@dataclass(frozen=True)
class MaternField(_Fields):
    """A Gaussian random field on the periodic unit box, N(0, amplitude (-Laplacian + tau^2 I)^(-alpha)).

    It has all modes that the grid resolves, but no mean. The defaults are the initial vorticity of Li et al. as their
    paper states it (arXiv:2010.08895, section 5.3): 7^(3/2) (-Laplacian + 49 I)^(-2.5). The published scripts use the
    factor tau^(2 alpha - dim) = 7^3 instead, or twice that if real and imaginary parts each have unit variance:
    amplitude 343 or 686 with the same shape.

    Attributes:
        amplitude, tau, alpha: parameters of the covariance.
        normalise: "none", "std" or "max".
    """

    amplitude: float = 7.0**1.5
    tau: float = 7.0
    alpha: float = 2.5
    normalise: str = "none"

    def __post_init__(self) -> None:
        for name in ("amplitude", "tau", "alpha"):
            _positive(name, getattr(self, name))
        _one_of("normalise", self.normalise, NORMALISATIONS)

    def power(self, k: Int[np.ndarray, "M D"]) -> Float[np.ndarray, " M"]:
        """E |c_k|^2 of u(x) = sum_k c_k exp(2 pi i k . x): the eigenvalues of the covariance.

        The variance of u is their sum over all k but 0.
        """
        return self.amplitude * (4 * np.pi**2 * np.sum(k**2, axis=1) + self.tau**2) ** -self.alpha

    def _limit(self, points: int) -> int:
        return (points - 1) // 2

    def _draw(self, rng: np.random.Generator, k: Int[np.ndarray, "M D"]) -> tuple[Complex[np.ndarray, " M"], float]:
        pairs = rng.standard_normal((len(k), 2))
        return np.sqrt(self.power(k) / 2) * (pairs[:, 0] + 1j * pairs[:, 1]), 0.0


@dataclass(frozen=True)
class FourierSeries(_Fields):
    """A random truncated Fourier series: all wavevectors with components up to `cutoff`.

    Attributes:
        cutoff: largest wavenumber along an axis.
        amplitudes: "gaussian": band-limited white noise as in exponax 0.2; "uniform": amplitudes in [-1, 1] and phases
            in [0, 2 pi] for each pair k, -k, as in exponax 0.1 and so in APEBench's data in 1D.
        offset: the mean of a field is uniform in [-offset, offset].
        normalise: "none", "std" or "max".
    """

    cutoff: int = 5
    amplitudes: str = "gaussian"
    offset: float = 0.0
    normalise: str = "max"

    def __post_init__(self) -> None:
        _positive("cutoff", self.cutoff)
        _one_of("amplitudes", self.amplitudes, ("gaussian", "uniform"))
        _one_of("normalise", self.normalise, NORMALISATIONS)

    def _limit(self, points: int) -> int:
        if 2 * self.cutoff >= points:
            raise InputError(
                f"{points} points cannot hold wavenumber {self.cutoff}",
                where="initial.cutoff",
                remedy="Use more than twice as many points as the cutoff",
            )
        return self.cutoff

    def _draw(self, rng: np.random.Generator, k: Int[np.ndarray, "M D"]) -> tuple[Complex[np.ndarray, " M"], float]:
        mean = rng.uniform(-self.offset, self.offset)
        if self.amplitudes == "gaussian":
            pairs = rng.standard_normal((len(k), 2))
            return (pairs[:, 0] + 1j * pairs[:, 1]) / 2, mean
        pairs = rng.uniform((-1.0, 0.0), (1.0, 2 * np.pi), (len(k), 2))
        return pairs[:, 0] * np.exp(1j * pairs[:, 1]) / 2, mean


@dataclass(frozen=True)
class GaussianBlobs:
    """A sum of Gaussian bumps with their periodic images.

    Attributes:
        blobs: number of bumps.
        width: range of their standard deviations.
        height: range of their heights.
        centre: range of each coordinate of their centres; (0, 1) is the whole box.
        complement: indices of channels that are set to 1 minus the last channel, such as the first channel of
            Gray-Scott.
    """

    blobs: int = 3
    width: tuple[float, float] = (0.03, 0.1)
    height: tuple[float, float] = (0.5, 1.0)
    centre: tuple[float, float] = (0.0, 1.0)
    complement: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("width", "height", "centre", "complement"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _positive("blobs", self.blobs)
        _positive("width", self.width[0])
        # Up to this width, images beyond the nearest neighbours are negligible.
        if self.width[1] > 0.3:
            raise InputError(f"width must be at most 0.3 of the box, got {self.width[1]}", where="initial.width")
        for name in ("width", "height", "centre"):
            low, high = getattr(self, name)
            if low > high:
                raise InputError(f"must be (low, high), got {(low, high)}", where=f"initial.{name}")

    def sample(
        self, rng: np.random.Generator, count: int, points: int, dim: int, channels: int = 1
    ) -> Float[np.ndarray, "B C *N"]:
        """Draw states; see `Initial`."""
        states = np.empty((count, channels, *(points,) * dim), np.float32)
        for state, stream in zip(states, rng.spawn(count), strict=True):
            for channel, child in zip(state, stream.spawn(channels), strict=True):
                channel[...] = self._blobs(child, points, dim)
            for channel in self.complement:
                state[channel] = 1 - state[-1]
        return states

    def _blobs(self, rng: np.random.Generator, points: int, dim: int) -> Float[np.ndarray, " *N"]:
        centres = rng.uniform(*self.centre, (self.blobs, dim))
        widths = rng.uniform(*self.width, self.blobs)
        heights = rng.uniform(*self.height, self.blobs)
        offset = np.arange(points) / points - centres[..., None]
        images = (offset - np.round(offset))[..., None] + np.array([-1.0, 0.0, 1.0])
        along = np.exp(-(images**2) / (2 * widths[:, None, None, None] ** 2)).sum(axis=-1)
        total = np.zeros((points,) * dim)
        for height, factors in zip(heights, along, strict=True):
            bump = np.array(height)
            for factor in factors:
                bump = np.multiply.outer(bump, factor)
            total += bump
        return total


@dataclass(frozen=True)
class Solenoidal:
    """Divergence-free velocities, projected from the fields of another generator; one channel per dimension.

    Attributes:
        base: generator of the fields that are projected.
        rms: root mean square speed after the projection; None: not rescaled.
    """

    base: Initial
    rms: float | None = 1.0

    def sample(
        self, rng: np.random.Generator, count: int, points: int, dim: int, channels: int | None = None
    ) -> Float[np.ndarray, "B C *N"]:
        """Draw states; see `Initial`. The number of channels is `dim`."""
        if channels not in (None, dim) or dim < 2:
            raise InputError(
                f"a velocity in {dim}D has {dim} channels, got {channels}", where="initial", remedy="2D or 3D"
            )
        fields = self.base.sample(rng, count, points, dim, dim).astype(np.float64)
        axes = tuple(range(2, dim + 2))
        # The Nyquist mode of an even grid has no sign, so it is dropped.
        frequency = np.fft.fftfreq(points, 1 / points)
        k = np.stack(np.meshgrid(*[frequency] * dim, indexing="ij"))
        squared = np.sum(k**2, axis=0)
        squared.flat[0] = 1.0
        hat = np.fft.fftn(fields, axes=axes) * (np.abs(k).max(axis=0) * 2 < points)
        hat -= k * (np.sum(k * hat, axis=1) / squared)[:, None]
        fields = np.fft.ifftn(hat, axes=axes).real
        if self.rms is not None:
            speed = np.sqrt(np.mean(np.sum(fields**2, axis=1), axis=tuple(range(1, dim + 1)), keepdims=True))
            fields *= self.rms / speed[:, None]
        return fields.astype(np.float32)
