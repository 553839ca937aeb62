"""Fields by wavenumber: the energy spectrum, and the error in bands of it.

The layout, and the treatment of values that are not finite, are those of `surrogates.learning.field_metrics`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from surrogates.learning.field_metrics import Fields, checked_pair

#: First wavenumbers of PDEBench's middle and high band.
PDEBENCH_BANDS = (4, 12)


def _finite(fields: Fields) -> tuple[Fields, np.ndarray]:
    """The fields with 0 wherever a state is not finite throughout, and a mask (sample, time) of those states."""
    bad = ~np.isfinite(fields).all(axis=tuple(range(2, fields.ndim)))
    return np.where(bad.reshape(*bad.shape, *(1,) * (fields.ndim - 2)), 0.0, fields), bad


def energy_spectrum(fields: Fields) -> Float[np.ndarray, "time wavenumber"]:
    """E(k) = 1/2 sum over |q| in [k - 1/2, k + 1/2) and channels of |u_q|^2, averaged over samples.

    u_q is the discrete Fourier transform over the number of points and q counts periods along each side, so that by
    Parseval's theorem the spectrum sums to the energy, sum over channels of mean(u^2) / 2; the shells reach to the
    corner of the box of wavenumbers. On a box whose sides differ, q still counts periods.

    Returns:
        One row for each time, from k = 0; infinite where a state is not finite.
    """
    fields, bad = _finite(np.asarray(fields, np.float64))
    points = fields.shape[3:]
    axes = tuple(range(3, fields.ndim))
    power = np.abs(np.fft.rfftn(fields, axes=axes) / np.prod(points)) ** 2
    # rfftn leaves out one half of the last axis, which is the mirror image of the other.
    twice = np.full(power.shape[-1], 2.0)
    twice[0] = 1.0
    if points[-1] % 2 == 0:
        twice[-1] = 1.0
    shells = np.floor(_lengths(points, half=True) + 0.5).astype(np.int64)
    spectrum = _by_shell((power * twice).sum(2), shells)
    spectrum[bad] = np.inf
    return 0.5 * spectrum.mean(0)


def _lengths(points: tuple[int, ...], *, half: bool) -> Float[np.ndarray, "*mode"]:
    """Length of the wavevector of each mode, in periods a side."""
    sides = [np.fft.fftfreq(n, 1 / n) for n in points]
    if half:
        sides[-1] = np.fft.rfftfreq(points[-1], 1 / points[-1])
    return np.sqrt(sum(q**2 for q in np.meshgrid(*sides, indexing="ij")))


def _by_shell(power: np.ndarray, shells: Int[np.ndarray, "*mode"]) -> np.ndarray:
    """Sums over the modes of each shell, which become the last axis; `power` has the axes of `shells` last."""
    front = power.shape[: power.ndim - shells.ndim]
    rows = power.reshape(-1, shells.size)
    return np.stack([np.bincount(shells.ravel(), row) for row in rows]).reshape(*front, -1)


def frmse(
    prediction: Fields, truth: Fields, *, bands: tuple[int, int] = PDEBENCH_BANDS, volume: float = 1.0
) -> dict[str, float]:
    """PDEBench's fRMSE in the low, middle and high band of wavenumbers, in units of the field times `volume`.

    Takamoto et al. 2022 (arXiv:2210.07182), as its program computes it, so that numbers can stand beside those
    published. For each wavenumber k, channel and time f(k) = sqrt(mean over samples of |F(p) - F(t)|^2) volume /
    points; then the mean over the wavenumbers of the band, channels and times. In 1D F is the transform at k. In 2D
    and 3D |F|^2 is summed over the modes with floor(|q|) = k whose indices all lie in [0, points / 2): one orthant
    of the modes alone, so that a wave along (1, -1) is not seen. `energy_spectrum` of the error sees all.

    Args:
        prediction, truth: periodic fields.
        bands: first wavenumbers of the middle and of the high band.
        volume: volume of the domain; 1 is PDEBench's default.

    Returns:
        "low", "middle", "high"; a band that the grid does not reach is left out.
    """
    p, t = checked_pair(prediction, truth)
    error, bad = _finite(p - t)
    points = error.shape[3:]
    if len(points) == 1:
        power = np.abs(np.fft.rfft(error, axis=3)) ** 2
        count = power.shape[3]
        shells: Int[np.ndarray, "*mode"] = np.arange(count)
    else:
        halves = tuple(n // 2 for n in points)
        count = min(halves)
        transformed = np.fft.fftn(error, axes=tuple(range(3, error.ndim)))
        power = np.abs(transformed[(..., *map(slice, halves))]) ** 2  # type: ignore[arg-type]
        shells = np.floor(np.sqrt(sum(q**2 for q in np.indices(halves)))).astype(np.int64)
    each = np.sqrt(_by_shell(power, shells)[..., :count].mean(0)) / np.prod(points) * volume
    each[bad.any(0)] = np.inf
    edges = {"low": (0, bands[0]), "middle": (bands[0], bands[1]), "high": (bands[1], count)}
    return {name: float(each[..., a:b].mean()) for name, (a, b) in edges.items() if a < min(b, count)}
