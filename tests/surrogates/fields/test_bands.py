"""Bands have their nominal coverage on new fields, and horizons are no longer than the error allows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data.errors import InputError
from data.plain import from_plain, to_plain
from surrogates.fields.bands import Bands, coverage, horizon


def fields(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, mean and a spread correlated with the error, whose size differs between fields and grows in time."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(0.0, 0.5, (samples, 1, 1, 1)) * np.arange(4).reshape(1, 4, 1, 1)
    truth = rng.normal(size=(samples, 4, 32, 2)) + 3
    mean = truth + size * np.array([0.1, 0.4]) * rng.normal(size=truth.shape)
    return truth, mean, np.broadcast_to(0.05 * size, truth.shape).copy()


def test_the_promised_share_of_fields_has_the_promised_share_of_points() -> None:
    bands = Bands.fit(*fields(200, 0))
    truth, mean, std = fields(1000, 1)
    inside = coverage(truth, mean, bands.half_width(std))
    covered = (inside[:, 1:] >= 0.9).mean(axis=0)
    # Beta(181, 20) has its 0.1% and 99.9% points at 0.83 and 0.96; the 1,000 test fields widen that a little.
    assert ((covered > 0.82) & (covered < 0.97)).all()


def test_a_band_is_no_wider_than_it_has_to_be() -> None:
    bands = Bands.fit(*fields(200, 0))
    truth, mean, std = fields(1000, 1)
    half = 0.5 * bands.half_width(std)
    assert (coverage(truth, mean, half)[:, 1:] >= 0.9).mean() < 0.5


def test_the_error_stays_below_its_bound_nine_times_in_ten() -> None:
    bands = Bands.fit(*fields(200, 2))
    truth, mean, std = fields(1000, 3)
    error = bands.error(mean, truth)
    covered = (error <= bands.error_bound(mean, std))[:, 1:].mean(axis=0)
    assert ((covered > 0.82) & (covered < 0.97)).all()


def test_too_few_fields_are_refused() -> None:
    with pytest.raises(InputError, match="8 calibration points cannot give 90% intervals"):
        Bands.fit(*fields(8, 0))


def test_bands_survive_json_and_refuse_more_times() -> None:
    bands = Bands.fit(*fields(50, 0))
    assert from_plain(Bands, json.loads(json.dumps(to_plain(bands)))) == bands
    with pytest.raises(ValueError, match="bands are calibrated for 4 times, 5 are requested"):
        bands.sigma(np.zeros((1, 5, 32, 2)))
    assert bands.sigma(np.zeros((1, 2, 32, 2))).shape == (1, 2, 32, 2)


def test_a_horizon_ends_at_the_first_error_above_the_tolerance() -> None:
    error = np.array([[0.0, 0.1, 0.3, 0.1], [0.0, 0.1, 0.1, 0.1], [0.5, 0.0, 0.0, 0.0]])
    assert horizon(error, 0.2).tolist() == [1, 3, -1]
