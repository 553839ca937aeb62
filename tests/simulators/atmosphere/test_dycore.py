"""The dynamical core: its transforms, what it conserves, its climate, and what a user may ask of it."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y
from zonal_climate import jets, zonal_mean

from data.errors import InputError
from data.spec import SimulationError
from data.sphere.weather_layout import WeatherLayout
from data.sphere.writing import Segment, write_windows
from data.store.records import RecordStore
from simulators.atmosphere.core.budgets import (
    GAS_CONSTANT,
    GRAVITY,
    HEAT_CAPACITY,
    RADIUS,
    ROTATION,
    areas,
    budgets,
    layer_edges,
)
from simulators.atmosphere.core.core_spec import with_dates
from simulators.atmosphere.core.dycore import DynamicalCore
from simulators.atmosphere.core.equations import spherical_grid
from simulators.atmosphere.core.initial_states import Analysis, Windows
from simulators.atmosphere.core.levels import geopotential, pressure_to_sigma, sigma_to_pressure
from simulators.atmosphere.core.regrid import regrid
from simulators.atmosphere.core.settings import default_step, gaussian_grid, gaussian_rows, truncation_of
from simulators.atmosphere.core_windows import core_windows
from simulators.requests import DrawSettings

#: Small enough to compile in a second; five waves, three layers.
SMALL = DynamicalCore(5, 3, start="equilibrium", days=1, save_hours=12)


def wind(layout: WeatherLayout, speed: float) -> np.ndarray:
    """A resting atmosphere but for rotation as a solid body about the axis, on any layout with sigma layers."""
    state = np.zeros((*layout.grid.shape, len(layout.channels)), np.float32)
    state[..., layout.index("temperature")] = 288.0
    state[..., layout.index("u_component_of_wind")] = speed * np.cos(np.deg2rad(layout.grid.latitude))[:, None, None]
    state[..., layout.index("surface_pressure")] = 1e5
    return state


def request(core: DynamicalCore, state: np.ndarray) -> xr.Dataset:
    """A request that starts from an array of a state."""
    data = core.state_layout.unstack(state)
    return core.spec.request({f"initial_{name}": data[name].values for name in core.state_layout.variables})


# Grids and transforms


@pytest.mark.parametrize(("truncation", "rows"), [(10, 16), (21, 32), (31, 48), (42, 64), (63, 96), (85, 128)])
def test_grids_are_the_usual_ones(truncation: int, rows: int) -> None:
    assert gaussian_rows(truncation) == rows
    assert truncation_of(rows) == truncation
    grid = gaussian_grid(truncation)
    assert grid.shape == (rows, 2 * rows)
    assert grid.is_global
    assert np.allclose(np.deg2rad(grid.latitude), spherical_grid(truncation).latitudes, atol=1e-6)
    assert truncation * default_step(truncation) <= 645


def test_default_steps_are_those_of_the_field() -> None:
    assert [default_step(n) for n in (10, 21, 42, 85)] == [60, 30, 15, 7.5]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10).flatmap(lambda degree: st.tuples(st.just(degree), st.integers(0, degree))))
def test_a_spherical_harmonic_is_one_coefficient_and_an_eigenfunction_of_the_laplacian(mode: tuple[int, int]) -> None:
    degree, order = mode
    grid = spherical_grid(10)
    longitude, sine = grid.nodal_mesh
    truth = sph_harm_y(degree, order, np.arccos(sine), longitude).real
    coefficients = np.asarray(grid.to_modal(truth.astype(np.float32)))
    large = np.argwhere(np.abs(coefficients) > 1e-5)
    assert len(large) == 1
    assert grid.modal_axes[1][large[0][1]] == degree
    assert abs(grid.modal_axes[0][large[0][0]]) == order
    assert np.allclose(grid.to_nodal(coefficients), truth, atol=1e-5)
    assert np.allclose(grid.to_nodal(grid.laplacian(coefficients)), -degree * (degree + 1) * truth, atol=1e-3)


def test_a_state_comes_back_from_spectral_space() -> None:
    layout = SMALL.state_layout
    rough = wind(layout, 40.0).astype(np.float64)
    rough += np.random.default_rng(0).standard_normal(rough.shape)
    spectral = replace(SMALL, dtype="float64").spectral
    with jax.enable_x64(True):
        smooth = np.asarray(spectral.advance(spectral.to_spectral(rough[None]), 0)[1])
        again = np.asarray(spectral.advance(spectral.to_spectral(smooth), 0)[1])
    assert smooth.dtype == np.float64
    scale = np.abs(smooth).max(axis=(0, 1, 2))
    assert (np.abs(again - smooth).max(axis=(0, 1, 2)) < 1e-10 * np.maximum(scale, 1)).all()
    assert np.abs(smooth - rough).max() > 0.5, "noise beyond the truncation was kept"


def test_solid_rotation_has_its_vorticity() -> None:
    layout, spectral = SMALL.state_layout, SMALL.spectral
    state = spectral.to_spectral(wind(layout, 30.0)[None])
    equations = spectral.equations
    grid, units = equations.coords.horizontal, equations.units  # type: ignore[attr-defined]
    vorticity = np.asarray(grid.to_nodal(state.vorticity))[0, 0, 0] * 2 * ROTATION
    assert units.angular_velocity == pytest.approx(0.5)
    assert np.allclose(vorticity, 2 * 30.0 / RADIUS * np.sin(np.deg2rad(layout.grid.latitude)), atol=1e-10)
    assert np.abs(state.divergence).max() < 1e-6


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000))
def test_what_a_coarse_grid_holds_goes_to_a_fine_one_and_back(seed: int) -> None:
    coarse, fine = SMALL.state_layout, replace(SMALL, truncation=10).state_layout
    rough = wind(coarse, 20.0) + np.random.default_rng(seed).standard_normal(wind(coarse, 0).shape).astype(np.float32)
    smooth = regrid(rough, coarse, coarse)
    refined = regrid(smooth[None], coarse, fine)
    assert refined.shape == (1, *fine.grid.shape, len(fine.channels))
    assert np.allclose(regrid(refined, fine, coarse)[0], smooth, rtol=3e-5, atol=1e-3)
    assert np.allclose(regrid(wind(fine, 20.0), fine, coarse), wind(coarse, 20.0), rtol=3e-5, atol=1e-3)


def test_regridding_refuses_other_channels_and_grids() -> None:
    layout = SMALL.state_layout
    state = wind(layout, 0.0)
    with pytest.raises(InputError, match="channels"):
        regrid(state, layout, replace(SMALL, layers=2).state_layout)
    shifted = replace(layout.grid, longitude=tuple(v + 5 for v in layout.grid.longitude))
    with pytest.raises(InputError, match="no Gaussian grid"):
        regrid(state, layout, WeatherLayout(shifted, layout.channels))


# What is conserved


def test_budgets_are_the_integrals() -> None:
    core = DynamicalCore(21, 4)
    state = core.state_layout.unstack(wind(core.state_layout, 30.0))
    integrals = budgets(state)
    mass = 4 * np.pi * RADIUS**2 * 1e5 / GRAVITY
    assert areas(core.grid).sum() == pytest.approx(4 * np.pi * RADIUS**2)
    assert integrals.mass == pytest.approx(mass)
    assert integrals.energy == pytest.approx(mass * (HEAT_CAPACITY * 288 + 30**2 / 3), rel=1e-6)
    assert integrals.wind_momentum == pytest.approx(mass * 30 * RADIUS * 2 / 3, rel=1e-5)
    assert integrals.angular_momentum == pytest.approx(mass * (30 + ROTATION * RADIUS) * RADIUS * 2 / 3, rel=1e-5)
    assert np.allclose(layer_edges(np.array(core.sigma)), core.edges)
    with pytest.raises(InputError, match="midpoints"):
        layer_edges(np.array([0.2, 0.4]))


def test_an_unforced_atmosphere_at_rest_stays_at_rest() -> None:
    core = replace(SMALL, forcing="none", start="rest", perturbation_k=0.0)
    answer = core.simulate(core.spec.request({"seed": 0}))
    for name in ("u_component_of_wind", "v_component_of_wind"):
        assert np.abs(answer[name]).max() < 1e-3
    assert np.ptp(answer["surface_pressure"].values) < 1
    assert np.abs(answer["temperature"] - 288).max() < 1e-2


def test_without_forcing_energy_and_angular_momentum_are_kept() -> None:
    core = replace(SMALL, truncation=10, forcing="none", start="state", days=2, save_hours=24)
    layout = core.state_layout
    state = wind(layout, 20.0)
    longitude, latitude = np.meshgrid(np.deg2rad(layout.grid.longitude), np.deg2rad(layout.grid.latitude))
    state[..., : core.layers] += (15 * np.cos(latitude) ** 2 * (1 + np.cos(2 * longitude)))[..., None]
    answer = core.simulate(request(core, state))
    log = json.loads(answer.attrs["log"])
    first, last = log["first"], log["last"]
    moved = np.abs(answer["u_component_of_wind"].values[-1] - answer["u_component_of_wind"].values[0]).max()
    assert moved > 5, "the state hardly moved"
    assert last["mass"] == pytest.approx(first["mass"], rel=1e-6)
    # The hyperdiffusion takes a little of the kinetic energy.
    assert abs(last["energy"] - first["energy"]) < 0.05 * first["mass"] * 20**2 / 3
    assert abs(last["wind_momentum"] - first["wind_momentum"]) > 0.1 * first["wind_momentum"]
    assert abs(last["angular_momentum"] - first["angular_momentum"]) < 0.003 * first["wind_momentum"]


def test_mass_is_kept_over_weeks_of_forced_flow() -> None:
    core = replace(SMALL, days=20, save_hours=240)
    log = json.loads(core.simulate(core.spec.request({"seed": 3})).attrs["log"])
    assert abs(log["mass_drift"]) < 1e-6
    free = replace(core, conserve_mass=False, mass_tolerance=1e-12)
    with pytest.raises(SimulationError, match="the mass of the atmosphere changed") as caught:
        free.simulate(free.spec.request({"seed": 3}))
    assert caught.value.kind == "not_converged"


def test_a_mirrored_atmosphere_does_what_mirrors_what_it_does() -> None:
    layout = SMALL.state_layout
    state = SMALL.advance(wind(layout, 10.0)[None], 24)
    random = np.random.default_rng(0)
    state[..., layout.index("temperature")] += 5 * random.normal(size=(1, *layout.grid.shape, 1))
    state = SMALL.advance(state, 24)
    assert np.abs(layout.mirror(state) - state)[..., layout.index("v_component_of_wind")].max() > 1
    later, mirrored = SMALL.advance(np.concatenate([state, layout.mirror(state)]), 24)
    spread = state.std(axis=(0, 1, 2))
    assert (np.abs(layout.mirror(mirrored) - later) / spread).max() < 1e-3
    assert (np.abs(mirrored - later) / spread).max() > 0.1


def test_held_and_suarez_jets_blow_at_middle_latitudes(monkeypatch: pytest.MonkeyPatch) -> None:
    core = DynamicalCore(21, 8, step_minutes=60, start="equilibrium", perturbation_k=5.0, spin_up_days=25, days=40)
    # A long run: its program is worth all optimisations, which the tests' settings leave out.
    optimised = {
        "xla_backend_optimization_level": 3,
        "xla_llvm_disable_expensive_passes": False,
        "xla_cpu_use_fusion_emitters": True,
    }
    monkeypatch.setitem(
        vars(core.spectral), "advance", jax.jit(core.spectral.advance.__wrapped__, compiler_options=optimised)
    )
    answer = core.simulate(core.spec.request({"seed": 1}))
    south, north = jets(answer)
    assert -50 < south.latitude < -35
    assert 35 < north.latitude < 50
    assert 25 < (south.speed + north.speed) / 2 < 35
    assert south.level < 0.3
    assert north.level < 0.3
    surface = zonal_mean(answer["u_component_of_wind"]).isel(level=-1)
    assert float(surface.sel(latitude=45, method="nearest")) > 3, "no westerlies at the ground"
    assert float(surface.sel(latitude=15, method="nearest")) < -2, "no trade winds"
    temperature = zonal_mean(answer["temperature"]).isel(level=-1)
    assert 285 < float(temperature.max()) < 315
    assert 235 < float(temperature.isel(latitude=[0, -1]).max()) < 275


# What a user asks


def test_programs_are_compiled_once_and_a_trajectory_goes_on_as_if_it_had_not_stopped() -> None:
    core = replace(SMALL, days=1, save_hours=12)
    answer = core.simulate(core.spec.request({"seed": 1}))
    program = core.spectral.advance
    compiled = program._cache_size()
    other = core.simulate(core.spec.request({"seed": 2}))
    assert not np.allclose(answer["temperature"], other["temperature"], atol=1e-3)
    states = core.state_layout.stack(answer)
    later = core.run(states[1:2], 12, 6)
    assert program._cache_size() == compiled
    assert replace(core, days=2).spectral.advance is program
    assert np.allclose(later[0, -1], states[2], rtol=1e-4, atol=2e-2)
    assert np.allclose(core.advance(states[1:2], 12), later[:, -1], rtol=1e-5, atol=1e-3)
    both = core.run(states[:2], 12, 12)
    assert both.shape == (2, 1, *states.shape[1:])
    assert np.allclose(both[0, 0], states[1], rtol=1e-4, atol=2e-2)
    assert np.allclose(both[1, 0], states[2], rtol=1e-4, atol=2e-2)
    assert program._cache_size() <= compiled + 1
    onward = replace(core, start="state").restart(answer)
    assert np.array_equal(onward["initial_surface_pressure"], answer["surface_pressure"][-1])


def test_an_answer_is_of_its_seed_and_in_the_names_of_weatherbench() -> None:
    core = replace(SMALL, levels=(200.0, 500.0, 1000.0), geopotential=True, days=0.5)
    answer = core.simulate(core.spec.request({"seed": 1}))
    assert answer["temperature"].dims == ("time", "level", "latitude", "longitude")
    assert {str(v) for v in answer} == set(core.layout.variables)
    assert answer["geopotential"].attrs["units"] == "m2 s-2"
    assert answer["level"].attrs["units"] == "hPa"
    stacked = core.layout.stack(answer)
    assert stacked.shape[-1] == 4 * 3 + 1
    height = answer["geopotential"].mean(("time", "latitude", "longitude")).values / GRAVITY
    # Of the real atmosphere 11.8, 5.6 and 0.1 km; three layers are coarse, and the equilibrium is warm above.
    assert (np.abs(height - [11800, 5600, 0]) < 800).all()
    assert str(with_dates(answer).time.values[-1]) == "2000-01-01T12:00:00.000000000"


def test_records_become_windows_that_do_not_cross_from_one_to_the_next(tmp_path: Path) -> None:
    core, spec = SMALL, SMALL.spec
    answers = []
    with RecordStore.create(
        tmp_path / "r.zarr",
        spec.inputs,
        spec.outputs,
        coords=spec.coords,
        provenance=core.provenance,
        attrs={**spec.attrs, "fingerprint": core.fingerprint},
    ) as store:
        for seed in range(2):
            answer = core.simulate(spec.request({"seed": seed}))
            answers.append(core.state_layout.stack(answer))
            values = {"seed": seed} | {str(k): v.values for k, v in answer.data_vars.items()}
            store.append(str(seed), values, seconds=4.0, threads=1)
        store.append("2", {"seed": 2}, status="not_converged", message="no", seconds=1.0, threads=1)
    windows = core_windows(tmp_path / "r.zarr", core, tmp_path / "w")
    assert windows.segments == ((0, 3), (3, 6))
    assert windows.seconds_per_step == pytest.approx(4.0 / core.saves)
    assert windows.label_core_seconds == pytest.approx(2 * 4.0 + 1.0)
    assert windows.layout == core.layout
    assert np.allclose(windows.read(windows.starts(3), 3), np.stack(answers))
    with pytest.raises(InputError, match="another simulator"):
        core_windows(tmp_path / "r.zarr", replace(core, days=2), tmp_path / "w2")


def test_pressure_levels_between_below_and_above_the_layers() -> None:
    edges = np.linspace(0, 1, 9)
    sigma = (edges[1:] + edges[:-1]) / 2
    pressure = np.full((2, 3), 1e5, np.float32)
    linear = np.broadcast_to((250 + 20 * np.log(sigma))[:, None, None], (8, 2, 3)).astype(np.float32)
    interpolated = sigma_to_pressure({"temperature": linear}, pressure, edges, [10, 300, 700, 1050])["temperature"]
    expected = 250 + 20 * np.log([sigma[0], 0.3, 0.7, sigma[-1]])
    assert np.allclose(interpolated[:, 0, 0], expected, atol=1e-3)
    warm = np.full((8, 2, 3), 280.0, np.float32)
    fields = {"temperature": warm, "geopotential": geopotential(warm, edges)}
    height = sigma_to_pressure(fields, pressure, edges, [10, 300, 700, 1050])["geopotential"]
    # Of an isothermal atmosphere: -R T log(sigma), but for the half of the lowest layer and the layers' width.
    exact = -GAS_CONSTANT * 280 * np.log(np.array([0.01, 0.3, 0.7, 1.05]))
    assert np.allclose(np.diff(height[1:, 0, 0]), np.diff(exact[1:]), rtol=0.02)
    assert height[3, 0, 0] < 0
    back = pressure_to_sigma(
        {"temperature": np.broadcast_to(np.array([200.0, 250, 300], np.float32)[:, None, None], (3, 2, 3))},
        pressure,
        [100, 500, 1000],
        edges,
    )
    assert np.allclose(
        back["temperature"][4, 0, 0], np.interp(np.log(sigma[4]), np.log([0.1, 0.5, 1]), [200, 250, 300])
    )


def analysis_file(path: Path, rows: int = 18) -> Path:
    """An isothermal analysis on even latitudes from north to south, with a pressure of 101,000 Pa at height 0."""
    latitude = np.linspace(90, -90, rows + 1)
    longitude = np.arange(0, 360, 180 / rows)
    levels = np.array([50, 200, 500, 850, 1000])
    shape = (1, len(levels), len(latitude), len(longitude))
    height = -GAS_CONSTANT * 270 * np.log(levels * 100 / 101_000)
    fields = {
        "temperature": np.full(shape, 270.0),
        "u_component_of_wind": 10 * np.cos(np.deg2rad(latitude))[:, None] * np.ones(shape),
        "v_component_of_wind": np.zeros(shape),
        "geopotential": height[:, None, None] * np.ones(shape),
    }
    dims = ("time", "level", "latitude", "longitude")
    coords = {
        "time": [np.datetime64("2020-01-01", "ns")],
        "level": levels,
        "latitude": latitude,
        "longitude": longitude,
    }
    xr.Dataset({k: (dims, v.astype(np.float32)) for k, v in fields.items()}, coords).to_netcdf(path, engine="scipy")
    return path


def test_an_analysis_on_another_grid_becomes_states_of_the_core(tmp_path: Path) -> None:
    core = replace(SMALL, start="state", perturbation_k=0.0)
    (request,) = core.draw(DrawSettings(1, Analysis(str(analysis_file(tmp_path / "a.nc")))), 0)
    assert np.allclose(request["initial_temperature"], 270, atol=1e-3)
    # Linear in pressure below 850 hPa: within 1 hPa.
    assert np.allclose(request["initial_surface_pressure"], 101_000, atol=100)
    expected = 10 * np.cos(np.deg2rad(core.grid.latitude))
    assert np.abs(request["initial_u_component_of_wind"].values[0, :, 0] - expected).max() < 0.3
    with pytest.raises(InputError, match="no such file"):
        next(core.draw(DrawSettings(1, Analysis(str(tmp_path / "b.nc"))), 0))
    with xr.open_dataset(tmp_path / "a.nc") as data:
        data.drop_vars("geopotential").to_netcdf(tmp_path / "c.nc", engine="scipy")
    with pytest.raises(InputError, match="neither geopotential"):
        next(core.draw(DrawSettings(1, Analysis(str(tmp_path / "c.nc"))), 0))
    with pytest.raises(InputError, match="starts from equilibrium"):
        next(SMALL.draw(DrawSettings(1, Analysis("a.nc")), 0))


def test_the_core_starts_from_windows(tmp_path: Path) -> None:
    core = replace(SMALL, start="state")
    states = SMALL.state_layout.stack(SMALL.simulate(SMALL.spec.request({"seed": 0})))
    times = np.datetime64("2001-01-01", "ns") + np.arange(len(states)) * np.timedelta64(24, "h")

    def written(name: str, layout: WeatherLayout, states: np.ndarray) -> str:
        record = Segment.of(layout.unstack(states, ("time",), {"time": times}))
        write_windows(tmp_path / name, [record], layout, fingerprint="f" * 64)
        return str(tmp_path / name)

    layout = SMALL.state_layout
    requests = list(core.draw(DrawSettings(20, Windows(written("own", layout, states))), 0))
    drawn = [np.concatenate([f[f"initial_{v}"].values.reshape(-1) for v in layout.variables]) for f in requests]
    expected = [
        np.concatenate([np.moveaxis(state[..., layout.index(v)], -1, 0).reshape(-1) for v in layout.variables])
        for state in states
    ]
    matches = [[np.array_equal(d, g) for g in expected].index(True) for d in drawn]
    assert set(matches) == set(range(len(states)))
    fewer = replace(layout, channels=layout.channels[1:])
    with pytest.raises(InputError, match="has no temperature"):
        next(core.draw(DrawSettings(1, Windows(written("fewer", fewer, states[..., 1:]))), 0))
    with pytest.raises(InputError, match="another grid"):
        next(replace(core, truncation=10).draw(DrawSettings(1, Windows(str(tmp_path / "own"))), 0))
    pressed = replace(SMALL, levels=(250.0, 500.0, 850.0))
    answer = pressed.simulate(pressed.spec.request({"seed": 0}))
    path = written("pressure", pressed.layout, pressed.layout.stack(answer))
    (found_one,) = core.draw(DrawSettings(1, Windows(path)), 0)
    pressures = found_one["initial_surface_pressure"].values
    assert min(np.abs(pressures - p).max() for p in answer["surface_pressure"].values) < 1


def test_the_core_starts_from_era5(shared_data: Path) -> None:
    path = shared_data / "weather" / "era5_tl31_19590102T00.nc"
    core = DynamicalCore(10, 6, start="state", forcing="none", days=0.25, save_hours=6, perturbation_k=0.1)
    first, second = core.draw(DrawSettings(2, Analysis(str(path))), 0)
    assert not np.array_equal(first["initial_temperature"], second["initial_temperature"])
    answer = core.simulate(first)
    # Of the real atmosphere 5.1e18 kg, and here some where mountains would be.
    assert 5.1e18 < json.loads(answer.attrs["log"])["first"]["mass"] < 5.3e18
    _, north = jets(answer)
    assert 20 < north.speed < 60, "no winter jet"
    assert 20 < north.latitude < 50
    change = float(abs(answer["temperature"][-1] - answer["temperature"][0]).mean())
    assert 0.05 < change < 3


def test_what_is_no_state_or_blows_up_is_an_error_that_says_so() -> None:
    core = replace(SMALL, start="state")
    good = wind(core.state_layout, 20.0)
    bad = good.copy()
    bad[..., -1] = -1.0
    with pytest.raises(SimulationError, match="surface_pressure reached -1") as caught:
        core.simulate(request(core, bad))
    assert caught.value.kind == "invalid_input"
    with pytest.raises(SimulationError, match="shape"):
        core.run(good[None, 1:], 12, 12)
    with pytest.raises(SimulationError, match="whole numbers"):
        core.run(good[None], 12, 5)
    with pytest.raises(SimulationError, match="seed must be"):
        SMALL.simulate(SMALL.spec.request({"seed": -1}))
    slow = replace(SMALL, step_minutes=720.0, days=60, save_hours=720)
    with pytest.raises(SimulationError, match="smaller step_minutes") as caught:
        slow.simulate(slow.spec.request({"seed": 0}))
    assert caught.value.kind == "not_converged"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"truncation": 3}, "simulator.truncation"),
        ({"layers": 1}, "simulator.layers"),
        ({"boundaries": [0, 0.6, 0.5, 1]}, "simulator.boundaries"),
        ({"boundaries": [0, 0.5, 1]}, "simulator.layers"),
        ({"forcing": "sun"}, "simulator.forcing"),
        ({"start": "storm"}, "simulator.start"),
        ({"step_minutes": 7.0}, "simulator.save_hours"),
        ({"days": 0.7}, "simulator.save_hours"),
        ({"levels": [500, 200]}, "simulator.levels"),
        ({"perturbation_k": -1.0}, "simulator.perturbation_k"),
        ({"diffusion_hours": 0.0}, "simulator.diffusion_hours"),
        ({"dtype": "float16"}, "simulator.dtype"),
    ],
)
def test_settings_that_make_no_sense_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_compiled_programs_stay_behind_and_dinosaur_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    again = pickle.loads(pickle.dumps(SMALL))
    assert again == SMALL
    assert "spectral" not in vars(again)
    for module in ("equations", "run"):
        monkeypatch.delitem(sys.modules, f"simulators.atmosphere.core.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "dinosaur", None)
    with pytest.raises(SimulationError, match=r"\[weather\]") as caught:
        again.simulate(again.spec.request({"seed": 0}))
    assert caught.value.kind == "missing_component"
