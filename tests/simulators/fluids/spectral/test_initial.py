"""Random initial states against the spectra that they state."""

from __future__ import annotations

from itertools import product

import exponax as ex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from simulators.fluids.spectral.initial import (
    FourierSeries,
    GaussianBlobs,
    MaternField,
    Solenoidal,
    modes,
)
from simulators.fluids.spectral.resample import resample
from simulators.fluids.spectral.stability import divergence

GENERATORS = [
    MaternField(),
    FourierSeries(cutoff=3, normalise="none"),
    FourierSeries(cutoff=3, amplitudes="uniform", offset=0.5, normalise="none"),
    GaussianBlobs(),
]
IDS = ["matern", "fourier", "uniform", "blobs"]


def coefficients(fields: np.ndarray, dim: int) -> np.ndarray:
    return np.fft.fftn(fields.astype(float), axes=tuple(range(-dim, 0)), norm="forward")


@settings(max_examples=20, deadline=None)
@given(limit=st.integers(1, 4), dim=st.integers(1, 3))
def test_modes_are_one_of_each_pair_and_those_of_a_smaller_limit_come_first(limit: int, dim: int) -> None:
    k = {tuple(int(i) for i in row) for row in modes(limit, dim)}
    opposite = {tuple(-i for i in row) for row in k}
    assert not k & opposite
    assert k | opposite | {(0,) * dim} == set(product(range(-limit, limit + 1), repeat=dim))
    larger = modes(limit + 1, dim)
    assert np.array_equal(larger[: len(k)], modes(limit, dim))


def test_the_field_of_li_has_its_stated_spectrum() -> None:
    # N(0, 7^(3/2) (-Laplacian + 49)^(-5/2)): E |c_k|^2 = 7^(3/2) (4 pi^2 |k|^2 + 49)^(-5/2), without the mean.
    count, n = 2000, 16
    drawn = MaternField().sample(np.random.default_rng(0), count, n, 2)[:, 0]
    power = np.mean(np.abs(coefficients(drawn, 2)) ** 2, axis=0)
    assert power[0, 0] < 1e-12
    for k in ((1, 0), (0, 1), (-1, 2), (3, 3), (5, -4)):
        true = 7**1.5 * (4 * np.pi**2 * (k[0] ** 2 + k[1] ** 2) + 49) ** -2.5
        # |c_k|^2 is exponential: its mean over the samples has a relative error of 1 / sqrt(count).
        assert abs(power[k] / true - 1) < 5 / np.sqrt(count), k
    axis = np.arange(-7, 8)
    kx, ky = np.meshgrid(axis, axis)
    eigenvalues = 7**1.5 * (4 * np.pi**2 * (kx**2 + ky**2) + 49.0) ** -2.5
    variance = eigenvalues.sum() - eigenvalues[7, 7]
    assert abs(np.mean(drawn.astype(float) ** 2) / variance - 1) < 0.05
    # Gaussian: the kurtosis at a point is 3.
    assert abs(np.mean(drawn[:, 0, 0] ** 4) / np.mean(drawn[:, 0, 0] ** 2) ** 2 - 3) < 5 * np.sqrt(96 / count)
    # Homogeneous: the variance is the same everywhere.
    assert np.std(np.var(drawn.reshape(count, -1), axis=0)) / variance < 5 / np.sqrt(count)


@pytest.mark.parametrize(
    ("generator", "ratio"),
    [
        (MaternField(amplitude=1.0, tau=1e-3, alpha=1.5), 2.0**3),
        (FourierSeries(cutoff=2, normalise="none"), 1.0),
    ],
)
def test_spectra_fall_as_stated(generator, ratio: float) -> None:  # type: ignore[no-untyped-def]
    drawn = generator.sample(np.random.default_rng(1), 3000, 8, 1)[:, 0]
    power = np.mean(np.abs(coefficients(drawn, 1)) ** 2, axis=0)
    assert abs(power[1] / power[2] / ratio - 1) < 5 * np.sqrt(2 / 3000)


@pytest.mark.parametrize("generator", GENERATORS, ids=IDS)
@pytest.mark.parametrize("dim", [1, 2])
def test_a_finer_grid_shows_the_same_field(generator, dim: int) -> None:  # type: ignore[no-untyped-def]
    coarse, fine = (generator.sample(np.random.default_rng(7), 2, n, dim, 2) for n in (16, 32))
    if isinstance(generator, GaussianBlobs):
        assert np.allclose(fine[(..., *[slice(None, None, 2)] * dim)], coarse, atol=1e-6)
    else:
        kept = np.asarray(resample(fine, 16, dim=dim))
        assert np.allclose(kept, coarse, atol=2e-6 * np.abs(coarse).max())
        assert np.abs(coarse).max() > 0


@pytest.mark.parametrize("generator", GENERATORS, ids=IDS)
def test_samples_depend_on_the_seed_and_their_number_alone(generator) -> None:  # type: ignore[no-untyped-def]
    five = generator.sample(np.random.default_rng(1), 5, 16, 1, 2)
    assert np.array_equal(generator.sample(np.random.default_rng(1), 3, 16, 1, 2), five[:3])
    assert not np.allclose(generator.sample(np.random.default_rng(2), 1, 16, 1, 2)[0], five[0])
    rng = np.random.default_rng(1)
    first, second = generator.sample(rng, 1, 16, 1), generator.sample(rng, 1, 16, 1)
    assert not np.allclose(first, second)
    flat = five.reshape(10, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(10)).max() < 0.999
    assert five.dtype == np.float32


def test_fourier_series_are_distributed_as_exponaxs() -> None:
    # Band-limited white noise over its largest magnitude: the same moments as exponax's generator draws.
    theirs = ex.build_ic_set(
        ex.ic.RandomTruncatedFourierSeries(1, cutoff=5, max_one=True),
        num_points=64,
        num_samples=800,
        key=jax.random.key(0),
    )
    ours = FourierSeries(cutoff=5).sample(np.random.default_rng(0), 800, 64, 1)
    assert np.allclose(np.abs(ours).max(axis=(1, 2)), 1.0)
    assert np.abs(ours.mean(axis=(1, 2))).max() < 1e-6
    spread = [np.std(np.asarray(fields)[:, 0], axis=1) for fields in (ours, theirs)]
    assert abs(spread[0].mean() - spread[1].mean()) < 5 * spread[0].std() * np.sqrt(2 / 800)
    energy = [np.mean(np.abs(coefficients(np.asarray(fields)[:, 0], 1)) ** 2, axis=0)[:8] for fields in (ours, theirs)]
    assert np.allclose(energy[0][1:6], energy[1][1:6], rtol=0.25)
    assert np.all(energy[0][6:] < 1e-12)


def test_uniform_amplitudes_are_those_of_apebench() -> None:
    # u = sum over k <= 5 of a_k cos(2 pi k x + p_k), a_k uniform in [-1, 1]: E a_k^2 = 1/3, |a_k| never above 1.
    series = FourierSeries(cutoff=5, amplitudes="uniform", normalise="none")
    amplitude = 2 * np.abs(coefficients(series.sample(np.random.default_rng(0), 2000, 16, 1)[:, 0], 1)[:, 1:6])
    assert amplitude.max() <= 1 + 1e-5
    assert abs(np.mean(amplitude**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / 10000)
    assert np.abs(amplitude.mean(axis=0) - 0.5).max() < 5 / np.sqrt(12 * 2000)


def test_offsets_are_uniform() -> None:
    means = FourierSeries(offset=0.5, normalise="none").sample(np.random.default_rng(0), 1000, 16, 1).mean(axis=(1, 2))
    assert np.abs(means).max() <= 0.5
    assert abs(np.var(means) - 1 / 12) < 5 * np.sqrt(1 / 180 / 1000)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_normalisation(dim: int) -> None:
    drawn = MaternField(normalise="std").sample(np.random.default_rng(0), 2, 12, dim, 2)
    assert np.allclose(drawn.std(axis=tuple(range(2, dim + 2))), 1.0, atol=1e-5)
    drawn = MaternField(normalise="max").sample(np.random.default_rng(0), 2, 12, dim, 2)
    assert np.allclose(np.abs(drawn).max(axis=tuple(range(2, dim + 2))), 1.0, atol=1e-6)


def test_a_blob_is_a_periodic_gaussian() -> None:
    blob = GaussianBlobs(blobs=1, width=(0.1, 0.1), height=(2.0, 2.0), centre=(0.0, 0.0), complement=(0,))
    drawn = blob.sample(np.random.default_rng(0), 1, 64, 2, 2)[0].astype(float)
    assert np.isclose(drawn[1].max(), 2.0)
    assert np.isclose(drawn[1].mean(), 2.0 * 2 * np.pi * 0.1**2, rtol=1e-5)  # the integral of a Gaussian
    assert np.allclose(drawn[1], np.roll(drawn[1, ::-1, ::-1], 1, (0, 1)), atol=1e-6)  # even about the corner
    assert np.isclose(drawn[1, 0, 6], 2.0 * np.exp(-((6 / 64) ** 2) / (2 * 0.1**2)), rtol=1e-5)
    assert np.allclose(drawn[0], 1 - drawn[1], atol=1e-6)


@pytest.mark.parametrize(("dim", "points"), [(2, 16), (3, 8), (3, 9)])
def test_a_projected_velocity_has_no_divergence_and_its_speed(dim: int, points: int) -> None:
    drawn = Solenoidal(MaternField(), rms=2.5).sample(np.random.default_rng(0), 2, points, dim)
    assert drawn.shape[1] == dim
    for velocity in drawn:
        assert divergence(velocity) < 1e-6
        assert np.isclose(np.sqrt(np.mean(np.sum(velocity**2, axis=0))), 2.5, rtol=1e-5)
    assert divergence(MaternField().sample(np.random.default_rng(0), 1, points, dim, dim)[0]) > 0.1


def test_projection_leaves_a_velocity_without_divergence_alone() -> None:
    class Fixed:
        def sample(self, rng, count, points, dim, channels=1):  # type: ignore[no-untyped-def]
            return once

    once = Solenoidal(FourierSeries(cutoff=2)).sample(np.random.default_rng(0), 1, 8, 2)
    assert np.allclose(Solenoidal(Fixed(), rms=None).sample(np.random.default_rng(0), 1, 8, 2), once, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MaternField(tau=0.0), "tau must be above 0"),
        (lambda: FourierSeries(amplitudes="normal"), "Choose from"),
        (lambda: MaternField(normalise="l2"), "no normalise 'l2'"),
        (
            lambda: FourierSeries(cutoff=8).sample(np.random.default_rng(0), 1, 16, 1),
            "16 points cannot hold wavenumber 8",
        ),
        (lambda: GaussianBlobs(width=(0.2, 0.5)), "at most 0.3"),
        (lambda: GaussianBlobs(height=(1.0, 0.5)), r"initial\.height"),
        (lambda: Solenoidal(MaternField()).sample(np.random.default_rng(0), 1, 8, 3, 2), "has 3 channels"),
    ],
)
def test_settings_without_sense_are_refused(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=words):
        make()
