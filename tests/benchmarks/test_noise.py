"""The search for the noise that a surrogate bears."""

from __future__ import annotations

import pytest

from benchmarks.noise import LARGEST, sigma_of_growth


@pytest.mark.parametrize(("power", "factor"), [(2.0, 3.0), (2.0, 4000.0), (1.0, 0.5), (3.0, 0.4)])
def test_the_sigma_of_a_power_law_is_found(power: float, factor: float) -> None:
    asked = []

    def error_at(noise: float) -> float:
        asked.append(noise)
        return 5.0 * (1 + factor * noise**power)

    sigma = sigma_of_growth(error_at, 5.5, 0.05)
    assert sigma is not None
    assert error_at(sigma) == pytest.approx(5.5, abs=0.05)
    assert (0.1 / factor) ** (1 / power) == pytest.approx(sigma, rel=0.12)
    assert len(asked) <= 9


def test_what_is_never_reached_and_what_is_reached_without_noise_are_told_apart() -> None:
    assert sigma_of_growth(lambda sigma: 1.0 + 1e-3 * sigma**2, 1.1, 0.01) is None
    assert sigma_of_growth(lambda sigma: 1.2 + sigma, 1.1, 0.01) == 0.0
    # A little growth at first, and a wall before the largest sigma.
    sigma = sigma_of_growth(lambda sigma: 1.0 + 0.5 * (sigma / LARGEST) ** 4, 1.1, 0.02)
    assert sigma == pytest.approx(0.2**0.25 * LARGEST, rel=0.06)
