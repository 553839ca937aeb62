"""Robertson's problem against published values, an independent integration, and its conserved total."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_contract import assert_promises

from data.errors import InputError
from data.spec import SimulationError
from simulators.kinetics.robertson import METHODS, Robertson, derivative, jacobian

PUBLISHED = {"rate_1": 0.04, "rate_2": 1e4, "rate_3": 3e7, "initial_b": 0.0, "initial_c": 0.0}
#: Reference values at 40 s (Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.10, problem
#: ROBER) and at 1e11 s (Mazzia and Magherini, Test set for initial value problem solvers).
AT_40 = [0.7158270688, 0.9185534765e-5, 0.2841637457]
AT_1E11 = [0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050]


def test_it_keeps_the_promises_of_a_simulator() -> None:
    simulator = Robertson()
    good, bad = (simulator.spec.request({**PUBLISHED, "rate_1": rate}) for rate in (0.04, -1.0))
    assert_promises(simulator, Robertson(tolerance=1e-6), good, bad)


@pytest.mark.parametrize("method", METHODS)
def test_published_values(method: str) -> None:
    simulator = Robertson(method, times=(40.0, 1e11), points=2)
    fraction = simulator.simulate(simulator.spec.request(PUBLISHED))["fraction"].values
    # Errors accumulate over nine decades, most of all in multistep methods.
    np.testing.assert_allclose(fraction[0], AT_40, rtol=1e-6)
    np.testing.assert_allclose(fraction[1], AT_1E11, rtol={"Radau": 2e-6}.get(method, 2e-4))


def test_the_traces_of_b_match_an_independent_integration() -> None:
    """Backward Euler with Richardson extrapolation to second order, which shares no code with SciPy."""
    simulator = Robertson(times=(1e-3, 1.0), points=4)
    rates = [0.1, 2e4, 1e8]
    values = {"rate_1": rates[0], "rate_2": rates[1], "rate_3": rates[2], "initial_b": 1e-4, "initial_c": 0.3}
    fraction = simulator.simulate(simulator.spec.request(values))["fraction"].values

    def euler(steps: int) -> np.ndarray:
        edges = np.concatenate([[0.0], np.geomspace(1e-9, 1.0, steps + 1)])
        y, saved = np.array([0.7 - 1e-4, 1e-4, 0.3]), []
        for before, after in pairwise(edges):
            new = y.copy()
            for _ in range(6):
                h = after - before
                residual = new - y - h * np.array(derivative(rates, new))
                new = new - np.linalg.solve(np.eye(3) - h * jacobian(rates, new), residual)
            y = new
            saved.append(y)
        indices = [round((i + 6) * steps / 9) for i in range(4)]
        return np.array([saved[i] for i in indices])

    coarse, fine = euler(1800), euler(3600)
    np.testing.assert_allclose(2 * fine - coarse, fraction, rtol=2e-5)


@given(
    st.lists(st.floats(-4, 9), min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda y: sum(y) > 0),
)
def test_the_jacobian_is_the_derivative_and_the_total_is_conserved(exponents: list[float], y: list[float]) -> None:
    rates, at = [10**e for e in exponents], np.array(y)
    scale = max(rates)
    assert abs(sum(derivative(rates, at))) <= 1e-12 * scale
    for j in range(3):
        # The rates are quadratic, so central differences are exact but for rounding.
        step = np.eye(3)[j] * 0.5
        central = np.array(derivative(rates, at + step)) - np.array(derivative(rates, at - step))
        np.testing.assert_allclose(jacobian(rates, at)[:, j], central, rtol=1e-9, atol=1e-9 * scale)


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(-2, 1))
def test_fractions_add_up_to_one_and_none_is_negative(b: float, c: float, exponent: float) -> None:
    simulator = Robertson("LSODA")
    values = {**PUBLISHED, "rate_1": 10**exponent, "initial_b": b, "initial_c": c}
    fraction = simulator.simulate(simulator.spec.request(values))["fraction"].values
    assert fraction.min() >= 0
    np.testing.assert_allclose(fraction.sum(axis=1), 1, rtol=0, atol=1e-10)
    # C is only ever formed.
    assert (np.diff(fraction[:, 2]) >= -1e-9).all()


def test_times_are_spaced_logarithmically_and_labelled() -> None:
    spec = Robertson(times=(1e-2, 1e2), points=5).spec
    np.testing.assert_allclose(spec.coordinate("time").values, [1e-2, 1e-1, 1, 10, 100])
    assert spec.coordinate("time").units == "s"
    assert spec.coordinate("species").values == ("A", "B", "C")


@pytest.mark.parametrize("change", [{"rate_2": -1.0}, {"initial_b": -0.1}, {"initial_b": 0.6, "initial_c": 0.6}])
def test_what_is_no_rate_or_composition_is_refused(change: dict[str, float]) -> None:
    simulator = Robertson()
    with pytest.raises(SimulationError) as caught:
        simulator.simulate(simulator.spec.request({**PUBLISHED, **change}))
    assert caught.value.kind == "invalid_input"


def test_a_failed_integration_is_not_converged() -> None:
    for simulator, rate in ((Robertson(), 1e100), (Robertson(max_steps=100), 3e7)):
        with pytest.raises(SimulationError) as caught:
            simulator.simulate(simulator.spec.request({**PUBLISHED, "rate_3": rate, "initial_b": 0.5}))
        assert caught.value.kind == "not_converged"
    assert "more than 100 evaluations" in caught.value.message


@pytest.mark.parametrize(
    "change", [{"method": "Euler"}, {"times": (1.0, 0.5)}, {"points": 1}, {"tolerance": 0.0}, {"max_steps": 0}]
)
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="simulator"):
        Robertson(**change)  # type: ignore[arg-type]
