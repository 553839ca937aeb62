"""The shallow-water equations: published states that stay or travel as they should."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from data.spec import SimulationError
from simulators.atmosphere.core.budgets import GRAVITY, ROTATION, areas
from simulators.atmosphere.shallow_water.simulator import STATE, ShallowWater
from simulators.atmosphere.shallow_water.states import rossby_haurwitz_wave, steady_zonal_flow


def request(simulator: ShallowWater, state: np.ndarray) -> xr.Dataset:
    """A request that starts from an array of a state."""
    return simulator.spec.request({f"initial_{name}": state[..., i] for i, name in enumerate(STATE)})


def test_a_steady_zonal_flow_stays() -> None:
    simulator = ShallowWater(21, 2363.0, start="state", days=5, save_hours=120)
    state = steady_zonal_flow(simulator.grid)
    # In balance with the Coriolis force and its own curvature, which makes the thickness fall towards the poles.
    assert state[..., 2].max() - state[..., 2].min() == pytest.approx(1.9e4 / GRAVITY, rel=0.1)
    answer = simulator.simulate(request(simulator, state))
    later = simulator.layout.stack(answer)[-1]
    assert np.abs(later[..., :2] - state[..., :2]).max() < 1e-3
    assert np.abs(later[..., 2] - state[..., 2]).max() < 2e-2


def test_a_rossby_haurwitz_wave_travels_east_at_its_speed() -> None:
    simulator = ShallowWater(21, 8000.0, start="state", days=1, save_hours=12)
    state = rossby_haurwitz_wave(simulator.grid)
    answer = simulator.simulate(request(simulator, state))
    row = int(np.argmin(np.abs(np.array(simulator.grid.latitude) - 40)))
    phase = [np.angle(np.fft.fft(v)[4]) for v in answer["v_component_of_wind"].values[:, row]]
    travelled = -np.unwrap(phase) / 4
    rate, n = 7.848e-6, 4
    nondivergent = (n * (3 + n) * rate - 2 * ROTATION) / ((1 + n) * (2 + n)) * 86400
    assert travelled[-1] - travelled[0] == pytest.approx(nondivergent, rel=0.1)
    before, after = json.loads(answer.attrs["log"])["volume_m3"]
    assert after == pytest.approx(before, rel=1e-6)


def test_a_jet_is_what_its_numbers_say() -> None:
    simulator = ShallowWater(21, days=0.25, save_hours=6)
    values = {"jet_speed": 80.0, "bump_latitude": 45.0, "bump_longitude": 90.0, "bump_height": 120.0}
    answer = simulator.simulate(simulator.spec.request(values))
    first = simulator.layout.stack(answer)[0]
    # At T21 the jet is four points wide, and loses its sharp crest.
    assert first[..., 0].max() == pytest.approx(80, rel=0.2)
    weights = areas(simulator.grid) / areas(simulator.grid).sum()
    assert (first[..., 2] * weights).sum() == pytest.approx(10_000, rel=2e-3)
    flat = simulator.layout.stack(simulator.simulate(simulator.spec.request(values | {"bump_height": 0.0})))[0]
    row, column = np.unravel_index(int(np.argmax(first[..., 2] - flat[..., 2])), simulator.grid.shape)
    assert abs(simulator.grid.latitude[row] - 45) < 6
    assert abs(simulator.grid.longitude[column] - 90) < 6
    with pytest.raises(SimulationError, match="jet_speed"):
        simulator.simulate(simulator.spec.request(values | {"jet_speed": np.nan}))
