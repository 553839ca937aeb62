"""Files as The Well, PDEBench and neuraloperator lay them out, read without a word about their axes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from torch_dictionaries import save, saved_dict, tensor

from data.errors import InputError
from data.fields.field_reading import read_fields

RNG = np.random.default_rng(0)
SAMPLES, TIMES, NX, NY = 3, 4, 6, 5
DENSITY = RNG.normal(size=(SAMPLES, TIMES, NX, NY)).astype(np.float32)
VELOCITY = RNG.normal(size=(SAMPLES, TIMES, NX, NY, 2)).astype(np.float32)
PERMEABILITY = RNG.normal(size=(SAMPLES, NX, NY)).astype(np.float32)
T, X, Y = np.arange(TIMES) * 0.5, np.arange(NX) / NX, np.linspace(0, 2, NY)


def well(path: Path, spatial: tuple[str, str] = ("x", "y")) -> Path:
    """A file by the specification of The Well."""
    with import_module("h5py").File(path, "w") as file:
        attrs: dict[str, Any] = {
            "dataset_name": "small", "grid_type": "cartesian", "n_spatial_dims": 2, "n_trajectories": SAMPLES,
            "simulation_parameters": ["viscosity"], "viscosity": 0.25,
        }  # fmt: skip
        file.attrs.update(attrs)
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = list(spatial)
        for name, values in (("time", T), *zip(spatial, (X, Y), strict=True)):
            dimensions[name] = values.astype(np.float32)
            dimensions[name].attrs["sample_varying"] = False
        for name in spatial:
            wall = file.create_group(f"boundary_conditions/{name}_periodic")
            wall.attrs["bc_type"], wall.attrs["associated_dims"] = "PERIODIC", [name]
            wall["mask"] = np.zeros(3, bool)
        file["scalars/reynolds"] = np.array([1.0, 2.0, 3.0])
        for order, name, values, moves in (
            ("t0_fields", "density", DENSITY, True),
            ("t0_fields", "permeability", PERMEABILITY, False),
            ("t1_fields", "velocity", VELOCITY, True),
        ):
            field = file.create_dataset(f"{order}/{name}", data=values)
            field.attrs.update({"sample_varying": True, "time_varying": moves, "dim_varying": [True, True]})
        file.create_group("t2_fields")
    return path


def test_a_file_of_the_well_is_read_with_all_its_fields(tmp_path: Path) -> None:
    fields, bad = read_fields(well(tmp_path / "small.hdf5"))
    assert not bad
    layout = fields.layout
    assert layout.axis("channel").values == ("density", "velocity_x", "velocity_y")
    expected = np.concatenate([DENSITY[..., None], VELOCITY], axis=-1)
    assert np.array_equal(fields.states, expected)
    assert [v.name for v in layout.static] == ["permeability"]
    assert np.array_equal(fields.static[..., 0], PERMEABILITY)
    assert [v.name for v in layout.parameters] == ["reynolds"]
    assert fields.parameters.ravel().tolist() == [1.0, 2.0, 3.0]
    assert layout.periodic == (True, True)
    assert layout.axis("time").values == tuple(T)
    np.testing.assert_allclose(layout.axis("y").values, Y, rtol=1e-6)
    assert fields.reading is not None
    assert fields.reading.format == "The Well"
    assert "units are not stated, and taken to be 1" in fields.reading.assumed


def test_parts_of_a_file_of_the_well_are_chosen_by_name(tmp_path: Path) -> None:
    path = well(tmp_path / "small.hdf5", ("r", "phi"))
    fields, _ = read_fields(path, output="velocity", inputs=["initial", "viscosity"])
    assert fields.layout.axis("channel").values == ("x", "y")
    assert np.array_equal(fields.states, VELOCITY)
    assert fields.parameters.ravel().tolist() == [0.25] * SAMPLES
    assert fields.reading is not None
    assert "the axes r, phi (cartesian) are called x, y" in fields.reading.assumed
    with pytest.raises(InputError, match=r"no variable pressure in it\. It has density"):
        read_fields(path, output="pressure")


def test_files_of_pdebench_are_read_with_their_coordinates(tmp_path: Path) -> None:
    h5py = import_module("h5py")
    with h5py.File(tmp_path / "1D.hdf5", "w") as file:
        file["tensor"], file["x-coordinate"] = DENSITY[..., 0], X + 1
        # One more than there are times, as in the files of Burgers' equation.
        file["t-coordinate"] = np.arange(TIMES + 1) * 0.5
    fields, _ = read_fields(tmp_path / "1D.hdf5")
    assert np.array_equal(fields.states[..., 0], DENSITY[..., 0])
    assert fields.layout.axis("time").values == tuple(T)
    assert fields.layout.axis("x").values == tuple(X + 1)
    assert fields.reading is not None
    assert "the last entry of t-coordinate is that of no state" in fields.reading.assumed
    with h5py.File(tmp_path / "2D.hdf5", "w") as file:
        file["Vx"], file["density"], file["t-coordinate"] = VELOCITY[..., 0], DENSITY, T
        file["x-coordinate"], file["y-coordinate"] = X, Y
    fields, _ = read_fields(tmp_path / "2D.hdf5")
    assert fields.layout.axis("channel").values == ("Vx", "density")
    assert np.array_equal(fields.states[..., 1], DENSITY)
    with h5py.File(tmp_path / "darcy.hdf5", "w") as file:
        file["nu"], file["tensor"] = PERMEABILITY, DENSITY[:, :1]
        file["x-coordinate"], file["y-coordinate"] = X, Y
    fields, _ = read_fields(tmp_path / "darcy.hdf5")
    assert [v.name for v in fields.layout.static] == ["nu"]
    assert np.array_equal(fields.states[:, 0, ..., 0], DENSITY[:, 0])


def test_the_dictionary_of_neuraloperator_is_the_zarr_of_its_numbers(tmp_path: Path) -> None:
    one, other = (RNG.normal(size=(5, 16)).astype("<f4") for _ in range(2))
    body = saved_dict(
        {
            "x": tensor("0", "FloatStorage", 80, 0, (5, 16), (16, 1)),
            "y": tensor("1", "FloatStorage", 80, 0, (5, 16), (16, 1)),
        }
    )
    path = save(tmp_path / "burgers_train_16.pt", body, {"0": one.tobytes(), "1": other.tobytes()})
    data = xr.Dataset(
        {"field_x": (("sample", "x"), one), "field_y": (("sample", "x"), other)}, coords={"x": np.arange(16) / 16}
    )
    data.to_zarr(tmp_path / "burgers.zarr")
    fields, _ = read_fields(path)
    zarr, _ = read_fields(tmp_path / "burgers.zarr", output="field_y", inputs=["field_x"])
    assert np.array_equal(fields.states[:, 0, :, 0], other)
    # All that a training sees is equal, and so is what it learns.
    assert fields.content() == zarr.content()
    assert fields.layout == zarr.layout
    named, _ = read_fields(path, output="y", inputs=["x"])
    assert named.content() == zarr.content()


def test_a_past_and_an_input_along_time_are_one_input_for_each_time(tmp_path: Path) -> None:
    past, wind = VELOCITY[:, :2], RNG.normal(size=(SAMPLES, TIMES))
    np.savez(tmp_path / "a.npz", u=DENSITY, past=past, wind=wind)
    dims = {
        "u": ["sample", "time", "x", "y"],
        "past": ["sample", "time", "x", "y", "channel"],
        "wind": ["sample", "time"],
    }
    fields, _ = read_fields(tmp_path / "a.npz", output="u", inputs=["past", "wind"], dims=dims)
    assert [v.name for v in fields.layout.static] == ["past_0_0", "past_0_1", "past_1_0", "past_1_1"]
    assert np.array_equal(fields.static[..., 2], past[:, 1, ..., 0])
    assert [v.name for v in fields.layout.parameters] == [f"wind_{t}" for t in range(TIMES)]
    np.testing.assert_array_equal(fields.parameters, wind)
