"""Calibrated bands of fields, and the horizon up to which a rollout is reliable.

A band contains at least a share 1 - alpha of the points of a field, for at least a share 1 - alpha of the fields that
are exchangeable with the calibration fields. The score of a field is the (1 - alpha)-quantile over its points of
|error| / sigma, and the factor of sigma is the conformal quantile of the scores (see `surrogates.learning.conformal`).
sigma^2 is the variance over the members plus the square of a floor, the typical error at that time.

The horizon of a rollout is the last time up to which a bound of its error stays below a tolerance. At each time the
bound holds with probability 1 - alpha. The bound is conformal too: its score is the relative L2 error over the relative
size of sigma.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from data.plain import OMIT_DEFAULT
from surrogates.learning.conformal import ALPHA, conformal_factor, error_floor
from surrogates.learning.normalise import constant, moments, refuse_unlike

#: The smallest divisor, which avoids 0 / 0, and whose square is a number too.
SMALLEST = float(np.sqrt(np.finfo(np.float64).tiny))
FloatArray = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Bands:
    """Calibration of a surrogate of fields, for each time of its output.

    Attributes:
        factor: half-width of the band over sigma, by time.
        floor: floor of sigma, by time and channel, in the units of the output.
        bound: bound of the relative L2 error over the relative size of sigma, by time.
        alpha: share of points, and of fields, that may lie outside of the band.
        n: number of calibration samples.
        centre, spread: mean and standard deviation of each channel of an output with several channels, in the units of
            the output. Sizes of fields are then those of deviations from the centre in units of the spread, so that all
            channels count alike. Empty for one channel, whose relative error is the usual one.
    """

    factor: tuple[float, ...]
    floor: tuple[tuple[float, ...], ...]
    bound: tuple[float, ...]
    alpha: float
    n: int
    #: Bands of earlier versions lack these two, and must keep their hash.
    centre: tuple[float, ...] = field(default=(), metadata=OMIT_DEFAULT)
    spread: tuple[float, ...] = field(default=(), metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        refuse_unlike(factor=self.factor, floor=self.floor, bound=self.bound)
        refuse_unlike(centre=self.centre, spread=self.spread)
        if len({len(row) for row in self.floor}) > 1:
            raise ValueError("floor must have the same number of channels at each time")
        if not 0 < self.alpha < 1 or min((*self.factor, *self.bound, self.n)) < 0:
            raise ValueError("alpha must lie between 0 and 1, and factor, bound and n be 0 or more")

    @staticmethod
    def fit(
        truth: Float[np.ndarray, "sample time *space channel"],
        mean: Float[np.ndarray, "sample time *space channel"],
        std: Float[np.ndarray, "sample time *space channel"],
        alpha: float = ALPHA,
    ) -> Bands:
        """Calibrate on held-out samples.

        Args:
            truth: fields of the simulator.
            mean, std: mean and standard deviation over the members, in the units of `truth`.
            alpha: share of points, and of fields, that may lie outside of the band.

        Raises:
            InputError: there are too few samples for a finite band with this coverage.
        """
        samples, times, channels = truth.shape[0], truth.shape[1], truth.shape[-1]
        flat = (samples, times, -1, channels)
        error = np.abs(np.asarray(truth, np.float64) - mean).reshape(flat)
        largest = np.abs(truth).reshape(-1, channels).max(axis=0)
        floor = np.array(
            [[error_floor(error[:, t, :, c], largest[c], SMALLEST) for c in range(channels)] for t in range(times)]
        )
        sigma = np.hypot(std.reshape(flat), floor[None, :, None])
        ratios = (error / sigma).reshape(samples, times, -1)
        factor = [conformal_factor(ratios[:, t], alpha) for t in range(times)]
        centre, spread = _channels(truth) if channels > 1 else ((), ())
        relative = relative_size(error, truth.reshape(flat), centre, spread)
        predicted = relative_size(sigma, mean.reshape(flat), centre, spread)
        bound = [conformal_factor(relative[:, t] / predicted[:, t], alpha) for t in range(times)]
        return Bands(
            tuple(factor),
            tuple(tuple(float(v) for v in row) for row in floor),
            tuple(bound),
            alpha,
            samples,
            centre,
            spread,
        )

    def sigma(self, std: Float[np.ndarray, "sample time *space channel"]) -> FloatArray:
        """The standard deviation of each point combined with the floor, in the units of the output.

        Raises:
            ValueError: `std` has more times than the calibration.
        """
        if std.shape[1] > len(self.factor):
            raise ValueError(f"bands are calibrated for {len(self.factor)} times, {std.shape[1]} are requested")
        floor = np.asarray(self.floor)[: std.shape[1]]
        spread = (1, floor.shape[0], *[1] * (std.ndim - 3), floor.shape[1])
        return np.hypot(std, floor.reshape(spread))

    def half_width(self, std: Float[np.ndarray, "sample time *space channel"]) -> FloatArray:
        """Half-width of the band at each point, in the units of the output."""
        factor = np.asarray(self.factor)[: std.shape[1]]
        return self.sigma(std) * factor.reshape(1, -1, *[1] * (std.ndim - 2))

    def error_bound(
        self,
        mean: Float[np.ndarray, "sample time *space channel"],
        std: Float[np.ndarray, "sample time *space channel"],
    ) -> Float[np.ndarray, "sample time"]:
        """Upper bound of the relative L2 error of each field, which holds at each time with probability 1 - alpha."""
        flat = (*mean.shape[:2], -1, mean.shape[-1])
        size = relative_size(self.sigma(std).reshape(flat), mean.reshape(flat), self.centre, self.spread)
        return size * np.asarray(self.bound)[: mean.shape[1]]

    def error(
        self,
        mean: Float[np.ndarray, "sample time *space channel"],
        truth: Float[np.ndarray, "sample time *space channel"],
    ) -> Float[np.ndarray, "sample time"]:
        """The relative error that `error_bound` bounds, of each sample at each time."""
        flat = (*mean.shape[:2], -1, mean.shape[-1])
        gap = np.asarray(mean, np.float64) - truth
        return relative_size(gap.reshape(flat), truth.reshape(flat), self.centre, self.spread)


def coverage(
    truth: Float[np.ndarray, "sample time *space channel"],
    mean: Float[np.ndarray, "sample time *space channel"],
    half_width: Float[np.ndarray, "sample time *space channel"],
) -> Float[np.ndarray, "sample time"]:
    """Share of the points of each field that lie in its band."""
    inside = np.abs(np.asarray(truth, np.float64) - mean) <= half_width
    return inside.reshape(*inside.shape[:2], -1).mean(axis=2)


def horizon(error: Float[np.ndarray, "sample time"], tolerance: float) -> Int[np.ndarray, " sample"]:
    """The last time index up to which an error, or a bound of it, stays below the tolerance; -1 if it never does."""
    good = np.minimum.accumulate(error <= tolerance, axis=1)
    return good.sum(axis=1) - 1


def relative_size(
    error: Float[np.ndarray, "sample time point channel"],
    field: Float[np.ndarray, "sample time point channel"],
    centre: tuple[float, ...] = (),
    spread: tuple[float, ...] = (),
) -> Float[np.ndarray, "sample time"]:
    """|error| / |field| in the L2 norm; with a spread, of deviations from the centre in units of the spread."""
    if spread:
        unit = np.array([s if s > 0 else np.inf for s in spread])
        error, field = error / unit, (np.asarray(field, np.float64) - np.array(centre)) / unit
    return _norm(error) / np.maximum(_norm(field), SMALLEST)


def _channels(truth: Float[np.ndarray, "*any channel"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of each channel; a spread of 0 where it does not vary."""
    pairs = [moments(truth[..., c]) for c in range(truth.shape[-1])]
    return tuple(m for m, _ in pairs), tuple(0.0 if constant(m, s) else s for m, s in pairs)


def _norm(values: Float[np.ndarray, "sample time point channel"]) -> Float[np.ndarray, "sample time"]:
    return np.sqrt(np.sum(np.square(values, dtype=np.float64), axis=(2, 3)))
