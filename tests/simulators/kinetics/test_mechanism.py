"""Ignition of hydrogen by Cantera against equilibrium, conserved elements, and an independent integration."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from simulator_contract import assert_promises

from data.errors import InputError
from data.spec import SimulationError
from simulators.kinetics.mechanism import Mechanism

cantera = pytest.importorskip("cantera")
HOT = {"temperature_0": 1200.0, "pressure_0": 101325.0, "equivalence_ratio": 1.0, "dilution": 0.9}


@pytest.fixture(scope="module")
def mechanism() -> Mechanism:
    return Mechanism()


def test_it_keeps_the_promises_of_a_simulator(mechanism: Mechanism) -> None:
    good, bad = (mechanism.spec.request({**HOT, "temperature_0": kelvin}) for kelvin in (1200.0, 5000.0))
    assert_promises(mechanism, Mechanism(reactor="constant_pressure"), good, bad)


@pytest.mark.parametrize(("reactor", "pair"), [("constant_volume", "UV"), ("constant_pressure", "HP")])
def test_long_times_end_in_the_equilibrium_of_gibbs(reactor: str, pair: str) -> None:
    simulator = Mechanism(reactor=reactor, times=(1.0, 100.0), points=3)
    answer = simulator.simulate(simulator.spec.request(HOT))
    gas = cantera.Solution("h2o2.yaml")
    gas.set_equivalence_ratio(1.0, "H2:1", "O2:1", diluent="AR:1", fraction={"diluent": 0.9})
    gas.TP = 1200.0, 101325.0
    gas.equilibrate(pair, rtol=1e-12)
    assert float(answer["temperature"][-1]) == pytest.approx(gas.T, rel=1e-7)
    np.testing.assert_allclose(answer["mass_fraction"].values[-1], gas.Y, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("change", [{}, {"equivalence_ratio": 0.4, "dilution": 0.5}, {"temperature_0": 900.0}])
def test_mass_and_elements_are_conserved(mechanism: Mechanism, change: dict[str, float]) -> None:
    fraction = mechanism.simulate(mechanism.spec.request({**HOT, **change}))["mass_fraction"].values
    np.testing.assert_allclose(fraction.sum(axis=1), 1, rtol=0, atol=1e-11)
    elements = mechanism.elements(fraction)
    np.testing.assert_allclose(elements, elements[:1].repeat(len(elements), 0), rtol=0, atol=1e-11)
    # Hydrogen and oxygen of a stoichiometric mixture are as 2.016 to 15.999 by mass.
    if not change:
        hydrogen, oxygen = (elements[0, mechanism.gas.element_index(e)] for e in "HO")
        assert oxygen / hydrogen == pytest.approx(15.999 / 2.016, rel=1e-4)


def test_ignition_delay_of_an_independent_integration() -> None:
    """The equations of a constant-volume reactor by SciPy's Radau, with the source terms of the mechanism alone."""
    simulator = Mechanism(times=(5e-5, 5e-4), points=400)
    temperature = simulator.simulate(simulator.spec.request(HOT))["temperature"].values
    gas = cantera.Solution("h2o2.yaml")
    gas.set_equivalence_ratio(1.0, "H2:1", "O2:1", diluent="AR:1", fraction={"diluent": 0.9})
    gas.TP = 1200.0, 101325.0
    density, weights = gas.density, gas.molecular_weights

    def change(_: float, state: np.ndarray) -> np.ndarray:
        gas.set_unnormalized_mass_fractions(state[1:])
        gas.TD = state[0], density
        rates = gas.net_production_rates
        heating = -np.dot(gas.partial_molar_int_energies, rates) / (density * gas.cv_mass)
        return np.concatenate([[heating], rates * weights / density])

    times = simulator.saved_times
    other = solve_ivp(change, (0.0, times[-1]), [gas.T, *gas.Y], method="Radau", t_eval=times, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(other.y[0], temperature, rtol=2e-5)
    ours, theirs = (times[np.argmax(np.gradient(t, times))] for t in (temperature, other.y[0]))
    assert ours == pytest.approx(theirs, rel=0.01)
    assert 1e-4 < ours < 3e-4


def test_dilution_and_cold_slow_ignition(mechanism: Mechanism) -> None:
    def delay(**change: float) -> float:
        answer = mechanism.simulate(mechanism.spec.request({**HOT, **change}))["temperature"].values
        return float(mechanism.saved_times[np.argmax(answer > (answer[0] + answer[-1]) / 2)])

    assert delay(temperature_0=1500.0) < delay() < delay(temperature_0=1050.0)
    assert delay(dilution=0.7) < delay(dilution=0.95)
    # Nothing burns without fuel.
    cold = mechanism.simulate(mechanism.spec.request({**HOT, "equivalence_ratio": 0.0}))["temperature"].values
    assert np.ptp(cold) < 1.0


@pytest.mark.parametrize(
    "change",
    [{"temperature_0": 5000.0}, {"pressure_0": 0.0}, {"dilution": 1.0}, {"equivalence_ratio": -1.0}],
)
def test_what_is_no_state_of_the_gas_is_refused(mechanism: Mechanism, change: dict[str, float]) -> None:
    with pytest.raises(SimulationError) as caught:
        mechanism.simulate(mechanism.spec.request({**HOT, **change}))
    assert caught.value.kind == "invalid_input"


def test_an_integration_that_ends_early_is_not_converged() -> None:
    simulator = Mechanism(max_steps=3)
    with pytest.raises(SimulationError) as caught:
        simulator.simulate(simulator.spec.request(HOT))
    assert caught.value.kind == "not_converged"
    # The next request is answered from a fresh state.
    assert np.isfinite(Mechanism().simulate(Mechanism().spec.request(HOT))["temperature"]).all()


def test_the_content_of_the_mechanism_is_part_of_the_fingerprint(mechanism: Mechanism, tmp_path: Path) -> None:
    folder = next(Path(p) for p in cantera.get_data_directories() if (Path(p) / "h2o2.yaml").is_file())
    text = (folder / "h2o2.yaml").read_text()
    same, other = tmp_path / "h2o2.yaml", tmp_path / "changed" / "h2o2.yaml"
    other.parent.mkdir()
    same.write_text(text)
    assert "A: 3.87e+04" in text
    other.write_text(text.replace("A: 3.87e+04", "A: 3.88e+04"))
    assert Mechanism(str(same)).fingerprint == mechanism.fingerprint
    assert Mechanism(str(other)).fingerprint != mechanism.fingerprint
    assert str(tmp_path) not in str(Mechanism(str(same)).provenance)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extensions: [{type: python, name: os}]\nphases: []\n", "needs code"),
        ("phases: [{name: gas, species: [{other.yaml/species: all}]}]\n", "needs another file"),
        ("a: [1", "cannot be read"),
        ("a: 1\n", "no entry `phases`"),
        ("phases: [{name: gas, thermo: ideal-gas, species: [X2]}]\n", "X2|species"),
    ],
)
def test_a_mechanism_that_is_none_or_needs_code_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        Mechanism(str(tmp_path / "m.yaml")).gas  # noqa: B018
    with pytest.raises(InputError, match="no such file"):
        Mechanism(str(tmp_path / "none.yaml")).spec  # noqa: B018


def test_without_cantera_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cantera":
            raise ImportError("No module named 'cantera'")
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SimulationError, match=r"pip install .*\[kinetics\]") as caught:
        Mechanism().spec  # noqa: B018
    assert caught.value.kind == "missing_component"


@pytest.mark.parametrize("change", [{"reactor": "plug"}, {"times": (0.0, 1.0)}, {"points": 1}, {"tolerance": 2.0}])
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="simulator"):
        Mechanism(**change)  # type: ignore[arg-type]
