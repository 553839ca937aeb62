"""What becomes of a data set after it was read: where it begins, whether it is of one question, what float32 keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.fields.first_time import begin
from data.fields.precision import narrow_precision
from data.fields.samples import Fields

X, STEP = np.arange(16) / 16, 0.2


def decaying(time: np.ndarray) -> np.ndarray:
    """Solutions of the heat equation (sample, *time, x), known in closed form."""
    size = np.linspace(0.5, 2.0, 12).reshape(-1, *[1] * np.ndim(time), 1)
    fall = np.exp(-0.05 * (2 * np.pi) ** 2 * np.asarray(time))[..., None]
    return size * fall * np.sin(2 * np.pi * X)


def data_set(times: np.ndarray) -> xr.Dataset:
    """The state at t = 0 as `initial`, and those of some times."""
    return xr.Dataset(
        {"u": (("sample", "time", "x"), decaying(times)), "initial": (("sample", "x"), decaying(np.array(0.0)))},
        {"time": ("time", times, {"units": "s"}), "x": ("x", X, {"units": "m"})},
        {"boundary_conditions": "periodic"},
    )


def read(data: xr.Dataset, folder: Path, name: str = "a.nc") -> Fields:
    data.to_netcdf(folder / name, engine="scipy")
    return read_fields(folder / name, output="u", inputs=["initial"])[0]


def test_the_given_state_comes_first_whether_or_not_the_solver_stored_it(tmp_path: Path) -> None:
    stored = read(data_set(np.arange(0, 6) * STEP), tmp_path, "a.nc")
    later = read(data_set(np.arange(1, 6) * STEP), tmp_path, "b.nc")
    truth = decaying(np.arange(0, 6) * STEP)[..., None]
    assert np.allclose(stored.states, truth, atol=1e-6)
    assert np.allclose(later.states, truth, atol=1e-6)
    assert (stored.layout.lead, later.layout.lead) == (0, 1)
    assert [f.reading.quantities["initial"] for f in (stored, later) if f.reading] == [
        "1, the state at the first time",
        "1, the state one step before the first time",
    ]
    # The answers of either are at the times of its own output.
    assert later.layout.axis("time").values == tuple(np.arange(1, 6) * STEP)
    one = read(data_set(np.array([STEP])), tmp_path, "c.nc")
    assert one.states.shape == (12, 2, 16, 1)


def test_a_state_that_is_of_neither_time_is_refused_and_a_nearly_equal_one_is_the_question() -> None:
    states = decaying(np.arange(0, 4) * STEP)[..., None]
    with pytest.raises(InputError, match=r"`initial` differs from the first state by .* at time 0.6 with steps of 0.2"):
        begin(states[:, 0] * 2, states, np.arange(3, 7) * STEP, "here")
    near = states[:, 0] * (1 + 1e-4)
    start = begin(near, states, np.arange(4) * STEP, "here")
    assert start.lead == 0
    assert np.array_equal(start.states[:, 0], near)
    assert "was taken in its place" in start.assumed[0]
    # After one short step a state may differ by less than that, and is another one.
    short = begin(near, states[:, :1], np.array([STEP]), "here")
    assert (short.lead, short.states.shape[1]) == (1, 2)
    assert begin(near, states, np.arange(1, 5) * STEP, "here").lead == 1
    unknown = begin(states[:, 0], states[:, 1:], None, "here")
    assert unknown.lead == 1
    assert "one step before" in unknown.assumed[0]


def test_another_physics_is_refused_and_another_grid_is_not(tmp_path: Path) -> None:
    data = data_set(np.arange(0, 6) * STEP)
    reference = read(data, tmp_path, "own.nc")

    def refused(changed: xr.Dataset, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(changed, tmp_path, "other.nc").refuse_other(reference.layout, "other.nc", same_grid=False)

    twice = data.assign_coords(time=("time", data.time.values * 2, {"units": "s"}))
    refused(twice, "its time step is 0.4, 0.2 has been learned")
    # Microseconds are as far apart as seconds.
    small = replace(reference.layout, axes=tuple(_scaled(a, 1e-12) for a in reference.layout.axes))
    with pytest.raises(InputError, match="its time step is 4e-13, 2e-13 has been learned"):
        replace(reference, layout=replace(small, axes=tuple(_scaled(a, 2.0) for a in small.axes))).refuse_other(
            small, "x"
        )
    refused(data.assign_coords(x=("x", X * 10, {"units": "m"})), "its length along x is 10, 1 has been learned")
    refused(data.assign_coords(x=("x", X, {"units": "km"})), "its unit of x is km, m has been learned")
    refused(data.assign_attrs(boundary_conditions="walls"), "its boundary is 'walls', 'periodic' has been learned")
    refused(data.assign(initial=data.initial.assign_attrs(units="K")), "its units are 1, K, 1, 1 are needed")
    read(data.isel(x=slice(0, None, 2)), tmp_path, "half.nc").refuse_other(reference.layout, "half.nc", same_grid=False)
    read(data.isel(time=slice(0, 4)), tmp_path, "short.nc").refuse_other(reference.layout, "short.nc", same_grid=False)


def _scaled(axis, factor: float):  # type: ignore[no-untyped-def]
    if axis.name != "time":
        return axis
    return replace(axis, values=tuple(v * factor for v in axis.values))


def test_float32_is_taken_where_it_keeps_what_varies() -> None:
    wave = np.sin(2 * np.pi * X).reshape(1, 16, 1)
    assert narrow_precision(wave, "p")[0].dtype == np.float32
    pressure, said = narrow_precision(101325 + 0.01 * wave, "p")
    assert pressure.dtype == np.float64
    assert said == ()
    lost, said = narrow_precision((101325 + 0.01 * wave).astype(np.float32), "p")
    assert lost.dtype == np.float32
    assert "p is stored in float32 with steps of 0.012 and varies by 0.00" in said[0]
    assert narrow_precision(1e-40 * wave, "p")[0].dtype == np.float64


def test_points_a_nanometre_apart_are_evenly_spaced_or_not(tmp_path: Path) -> None:
    uneven = np.cumsum(np.linspace(1, 2, 16)) * 1e-9
    with pytest.raises(InputError, match="x is not evenly spaced"):
        read(data_set(np.arange(0, 6) * STEP).assign_coords(x=uneven), tmp_path)
    assert read(data_set(np.arange(0, 6) * STEP).assign_coords(x=X * 1e-9), tmp_path).layout.points == (16,)


def test_a_dim_of_one_point_takes_the_length_of_the_others(tmp_path: Path) -> None:
    data = data_set(np.arange(0, 6) * STEP).expand_dims(y=[0.25]).assign_coords(x=X * 3)
    data = data.transpose("sample", "time", "x", "y")
    assert read(data, tmp_path).layout.lengths() == pytest.approx((3.0, 3.0))
