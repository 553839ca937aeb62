"""The benchmark of mixed forecasters compares with the best at each lead, and not with the best on average."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.forecast_mixture import MEAN, MIXTURE, Mean, results_of


class Said:
    """A forecaster that says one number."""

    history = 1

    def __init__(self, value: float) -> None:
        self.value = value

    def forecast_arrays(self, history: np.ndarray, times: np.ndarray, steps: int) -> np.ndarray:
        return np.full((len(history), 1, steps, 1, 1, 1), self.value, np.float32)


def test_a_mixture_is_compared_with_the_best_at_each_lead() -> None:
    errors = {"a": [0.2, 0.9], "b": [0.4, 0.8], "a, blended": [0.2, 0.7], "b, blended": [0.3, 0.75]}
    every = {name: np.array(values) for name, values in {**errors, MEAN: [0.25, 0.85], MIXTURE: [0.1, 0.6]}.items()}
    results = {result.name: result.value for result in results_of(every, ["a", "b"], 24.0)}
    assert results["mixture over the best network, day 1"] == pytest.approx(0.5)
    assert results["mixture over the best network, largest ratio of all days"] == pytest.approx(0.75)
    assert results["mixture over the best blended network, day 2"] == pytest.approx(0.6 / 0.7)
    assert results["mixture over their plain mean, day 1"] == pytest.approx(0.4)
    assert results["b, day 2: error over that of climatology"] == 0.8
    mean = Mean([Said(1.0), Said(4.0)]).forecast_arrays(np.zeros((3, 1, 1, 1, 1)), np.zeros(3), 2)
    np.testing.assert_array_equal(mean, np.full((3, 1, 2, 1, 1, 1), 2.5))
