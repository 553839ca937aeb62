"""Files of fields: each axis is what the file or the user says, or what nothing else could be; the rest is refused."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.io import savemat

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.fields.files import axes_of

RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(6, 8, 8))
CHANNELS = RNG.normal(size=(6, 3, 8, 8))
RUN = RNG.normal(size=(6, 5, 9))


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


# --- axes


def test_lines_need_no_word_and_the_table_says_what_was_taken(tmp_path: Path) -> None:
    line = SQUARE[:, 0]
    path = saved(tmp_path / "a.npz", a=line, b=line**2, k=np.arange(6.0), unused=line)
    fields, bad = read_fields(path, output="b", inputs=["a", "k"])
    assert not bad
    assert np.allclose(fields.states[:, 0, ..., 0], line**2)
    assert np.allclose(fields.static[..., 0], line)
    assert fields.parameters[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    reading = fields.reading
    assert reading is not None
    assert (reading.used, reading.total) == (6, 6)
    assert list(reading.unused) == ["unused"]
    assert any("axes are (sample, x)" in text for text in reading.assumed)


@pytest.mark.parametrize(
    ("arrays", "offered"),
    [
        # Eight times at eight places have the shape of a square of eight by eight.
        ({"a": SQUARE, "b": SQUARE}, ["sample,x,y", "sample,time,x", "sample,channel,x", "sample,x,time"]),
        ({"a": CHANNELS, "b": CHANNELS}, ["sample,channel,x,y", "sample,x,y,channel", "sample,time,x,y"]),
        ({"a": RUN[:, 0], "b": RUN}, ["sample,time,x"]),
        ({"a": SQUARE[..., :1], "b": SQUARE[..., :1]}, ["sample,x,y"]),
        ({"a": SQUARE[:, 0, :4], "b": SQUARE[:, 0, :4]}, ["sample,x"]),
        ({"k": np.arange(6.0), "b": np.stack([CHANNELS] * 2, 1)}, ["sample,time,channel,x,y"]),
    ],
)
def test_axes_that_may_be_something_else_are_refused_and_what_is_offered_is_taken(
    tmp_path: Path, arrays: dict[str, np.ndarray], offered: list[str]
) -> None:
    path = saved(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match="cannot be told from their sizes") as refused:
        read_fields(path, output="b", inputs=["a" if "a" in arrays else "k"])
    said = re.findall(r"data\.dims=\[([a-z,]+)\]", str(refused.value))
    assert set(offered) <= set(said)
    for dims in said:
        assigned, _ = axes_of(arrays, dims.split(","), "a.npz")
        assert assigned["b"] == tuple(dims.split(","))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        # Twelve numbers of each sample are no field of other points than those of the output.
        ({"a": RUN[:, 0, :5], "b": RUN[:, 0]}, {"a": ["sample", "x"], "b": ["sample", "x"]}),
        ({"a": SQUARE[..., :5], "b": SQUARE}, {"a": ["sample", "x", "y"], "b": ["sample", "x", "y"]}),
        ({"a": SQUARE, "b": SQUARE[:5]}, {"a": ["sample", "x", "y"], "b": ["sample", "x", "y"]}),
    ],
)
def test_sizes_that_do_not_agree_are_named(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: dict[str, list[str]]
) -> None:
    with pytest.raises(InputError, match=r"data\.dims: (x|y|sample) has \d places in b and \d in a"):
        read_fields(saved(tmp_path / "a.npz", **arrays), output="b", inputs=["a"], dims=said)


def test_numbers_of_a_sample_are_offered_as_channels(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", a=RUN[:, 0, :5], b=RUN[:, 0])
    with pytest.raises(InputError, match=r"'data\.dims=\{a: \[sample,channel\], b: \[sample,x\]\}'"):
        read_fields(path, output="b", inputs=["a"])
    fields, _ = read_fields(path, output="b", inputs=["a"], dims={"a": ["sample", "channel"], "b": ["sample", "x"]})
    assert np.allclose(fields.parameters, RUN[:, 0, :5])


def test_arrays_that_nobody_asks_for_fit_or_not(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", a=RUN[:, 0], b=RUN[:, 1], points=np.zeros((9, 2)), many=CHANNELS)
    fields, _ = read_fields(path, output="b", inputs=["a"])
    assert fields.reading is not None
    assert list(fields.reading.unused) == ["points", "many"]
    with pytest.raises(InputError, match=r"no variable c in it\. It has a, b, points, many"):
        read_fields(path, output="b", inputs=["c"])


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("a.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64", r"a\.mat: cannot be read"),
        ("a.csv", b"x,u\n1,2\n", r"a \.csv file is not read as fields.*numpy\.savez\('a\.npz'"),
        ("a.nc", b"x,u\n1,2\n", "no NetCDF file"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_its_conversion(
    tmp_path: Path, name: str, head: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(head.ljust(200, b"\0"))
    with pytest.raises(InputError, match=said):
        read_fields(tmp_path / name, output="u", inputs=["a"])


def as_matlab_73(path: Path, **arrays: np.ndarray) -> None:
    """As MATLAB writes HDF5: behind 512 bytes, columns first, vectors as matrices."""
    with import_module("h5py").File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.reshape(-1, 1).T if array.ndim == 1 else array.T
        file.create_group("#refs#")["a"] = np.zeros(3)
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


@pytest.mark.parametrize("name", ["a.h5", "5.mat", "73.mat"])
def test_arrays_without_named_dims_are_those_of_numpy(tmp_path: Path, name: str) -> None:
    arrays = {"u": SQUARE, "k": np.arange(6.0)}
    if name == "a.h5":
        with import_module("h5py").File(tmp_path / name, "w") as file:
            file["u"], file["k"], file["names"] = SQUARE, np.arange(6.0), [b"no", b"number"]
            file["deep/points"] = np.zeros((3, 2))
    elif name == "5.mat":
        savemat(tmp_path / name, {**arrays, "text": "no number"}, oned_as="column")
    else:
        as_matlab_73(tmp_path / name, **arrays)
    with pytest.raises(InputError, match=r"cannot be told from their sizes"):
        read_fields(tmp_path / name, output="u", inputs=["k"])
    fields, _ = read_fields(tmp_path / name, output="u", inputs=["k"], dims=["sample", "x", "y"])
    assert np.allclose(fields.states[:, 0, ..., 0], SQUARE)
    assert fields.parameters[:, 0].tolist() == list(range(6))
    assert fields.reading is not None
    assert list(fields.reading.unused) == (["deep_points"] if name == "a.h5" else [])


def test_layouts_of_pdebench_are_read(tmp_path: Path) -> None:
    h5py = import_module("h5py")
    with h5py.File(tmp_path / "1D_Burgers.hdf5", "w") as file:
        file["tensor"], file["x-coordinate"], file["t-coordinate"] = RUN, np.arange(9) / 9, np.arange(6.0)
    fields, _ = read_fields(
        tmp_path / "1D_Burgers.hdf5", output="tensor", inputs=["initial"], dims=["sample", "time", "x"]
    )
    assert np.allclose(fields.states[..., 0], RUN)
    assert fields.layout.lead == 0
    with h5py.File(tmp_path / "2D_diff-react.h5", "w") as file:
        for i, sample in enumerate(CHANNELS[:3]):
            file[f"{i:04d}/data"] = np.moveaxis(np.stack([sample, 2 * sample]), 1, -1)
            file[f"{i:04d}/grid/x"] = np.arange(8.0)
    fields, _ = read_fields(
        tmp_path / "2D_diff-react.h5", output="data", inputs=["initial"], dims=["sample", "time", "x", "y", "channel"]
    )
    assert np.allclose(np.moveaxis(fields.states[:, 1], -1, 1), 2 * CHANNELS[:3])
    with h5py.File(tmp_path / "2D_diff-react.h5", "a") as file:
        file["0003/data"] = np.zeros((1, 8, 8, 3))
    with pytest.raises(InputError, match=r"group /0003 has no array data of shape 2 x 8 x 8 x 3"):
        read_fields(tmp_path / "2D_diff-react.h5", output="data", inputs=["initial"])


def test_netcdf_is_read_under_any_name(tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "a.h5", engine="h5netcdf")
    fields, _ = read_fields(tmp_path / "a.h5", output="u", inputs=["k"])
    assert np.allclose(fields.states[:, 0, ..., 0], RUN[:, 0])


@pytest.mark.parametrize("dims", [["sample", "channel", "x", "y"], ["sample", "x", "y", "channel"]])
def test_channels_are_read_where_they_are_said_to_lie(tmp_path: Path, dims: list[str]) -> None:
    place = dims.index("channel")
    path = saved(tmp_path / "a.npz", a=np.moveaxis(CHANNELS, 1, place), b=np.moveaxis(CHANNELS**2, 1, place))
    fields, _ = read_fields(path, output="b", inputs=["a"], dims=dims)
    assert fields.layout.channels == 3
    assert [v.name for v in fields.layout.static] == ["a_0", "a_1", "a_2"]
    assert np.allclose(fields.states[:, 0], np.moveaxis(CHANNELS**2, 1, -1))
    assert np.allclose(fields.static, np.moveaxis(CHANNELS, 1, -1))
    # A saved surrogate asks for its inputs by the names that they got.
    again, _ = read_fields(path, output="b", inputs=["a_0", "a_1", "a_2"], dims=dims)
    assert np.array_equal(again.static, fields.static)


def test_one_channel_is_a_field(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", a=CHANNELS[:, :1], b=CHANNELS[:, 1:2])
    fields, _ = read_fields(path, output="b", inputs=["a"], dims=["sample", "channel", "x", "y"])
    assert [v.name for v in fields.layout.static] == ["a"]
    assert fields.layout.points == (8, 8)
    assert np.allclose(fields.states[:, 0, ..., 0], CHANNELS[:, 1])


def test_a_trajectory_may_have_its_times_last_and_inputs_have_fewer_dims(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", u=np.moveaxis(RUN, 1, -1), initial=RUN[:, 0], k=np.arange(6.0))
    fields, _ = read_fields(path, output="u", inputs=["initial", "k"], dims=["sample", "x", "time"])
    assert np.allclose(fields.states[..., 0], RUN)
    assert fields.layout.initial is not None
    by_name = {"u": ["sample", "x", "time"], "initial": ["sample", "x"], "k": ["sample"]}
    again, _ = read_fields(path, output="u", inputs=["initial", "k"], dims=by_name)
    assert again.layout == fields.layout


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (["sample", "width", "x"], "no dim 'width'"),
        (["sample", "x"], "are not the dims of a, which has 3 axes"),
        (["time", "channel", "x"], "are not the dims of a"),
        (["sample", "x", "z"], "space is x, or x and y"),
        ({"a": ["sample", "x", "y"]}, "the dims of b are not said"),
    ],
)
def test_dims_that_do_not_fit_are_named(tmp_path: Path, dims: list[str] | dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_fields(saved(tmp_path / "a.npz", a=SQUARE, b=SQUARE), output="b", inputs=["a"], dims=dims)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", a=np.array([{"x": 1}] * 6, dtype=object), b=SQUARE)
    with pytest.raises(InputError, match=r"a\.npz \(a\): it holds objects of Python"):
        read_fields(path, output="b", inputs=["a"])


def test_darcy_flow_is_read_as_before(shared_data: Path) -> None:
    path = shared_data / "fluids" / "darcy_test_16.pt"
    fields, bad = read_fields(path, output="field_y", inputs=["field_x"], dims=["sample", "x", "y"])
    assert not bad
    assert (len(fields), fields.layout.points) == (50, (16, 16))


# --- what variables hold


def dataset(**changes: tuple[tuple[str, ...], np.ndarray]) -> xr.Dataset:
    variables = {"u": (("sample", "x"), RUN[:, 0]), "k": (("sample", "x"), RUN[:, 1])}
    return xr.Dataset(variables | changes, {"x": np.arange(9.0)})


@pytest.mark.parametrize(
    ("changes", "inputs", "message"),
    [
        ({"k": (("sample",), np.array(list("abcdef")))}, ["k"], "k holds no numbers but"),
        ({"k": (("sample", "x"), RUN[:, 0] * 1j)}, ["k"], "k is complex.*real and imaginary"),
        ({"u": (("sample", "x"), RUN[:, 0] * 1j)}, ["k"], "u is complex"),
        ({}, ["k", "k"], "k is named twice"),
        ({}, ["k", "u"], "u is named twice"),
        ({"u": (("x",), RUN[0, 0])}, ["k"], "u has no dim `sample`"),
        (
            {"u": (("sample", "x"), np.where(np.arange(9) < 2, np.nan, RUN[:, 0]))},
            ["k"],
            "u is not finite at 2 of 9 places of the first, the same in each.*mask",
        ),
    ],
)
def test_what_is_no_field_of_real_numbers_is_named(
    tmp_path: Path, changes: dict[str, tuple[tuple[str, ...], np.ndarray]], inputs: list[str], message: str
) -> None:
    dataset(**changes).to_zarr(tmp_path / "a.zarr", consolidated=False)
    with pytest.raises(InputError, match=message):
        read_fields(tmp_path / "a.zarr", output="u", inputs=inputs)


def test_what_all_samples_share_is_given_to_each(tmp_path: Path) -> None:
    data = dataset(mask=(("x",), np.arange(9) < 3), size=((), np.array(2.5)))
    data.to_zarr(tmp_path / "a.zarr", consolidated=False)
    fields, _ = read_fields(tmp_path / "a.zarr", output="u", inputs=["k", "mask", "size"])
    assert np.array_equal(fields.static[..., 1], np.broadcast_to(np.arange(9) < 3, (6, 9)))
    assert fields.parameters[:, 0].tolist() == [2.5] * 6
    assert fields.reading is not None
    assert sum("the same in all samples" in text for text in fields.reading.assumed) == 2


def test_a_transposed_grid_and_a_single_cell_are_the_same_fields(tmp_path: Path) -> None:
    plane = RNG.normal(size=(6, 4, 9))
    plain = xr.Dataset({n: (("sample", "x", "y"), plane + i) for i, n in enumerate("uk")})
    plain = plain.assign_coords(x=np.arange(4.0), y=np.arange(9.0))
    plain.to_zarr(tmp_path / "plain.zarr", consolidated=False)
    plain.transpose("sample", "y", "x").to_zarr(tmp_path / "turned.zarr", consolidated=False)
    plain.expand_dims(z=[0.05], axis=3).to_zarr(tmp_path / "thin.zarr", consolidated=False)
    expected, _ = read_fields(tmp_path / "plain.zarr", output="u", inputs=["k"])
    for name in ("turned", "thin"):
        fields, _ = read_fields(tmp_path / f"{name}.zarr", output="u", inputs=["k"])
        assert fields.layout.points[:2] == (4, 9)
        assert fields.layout.lengths()[:2] == expected.layout.lengths()
        assert np.array_equal(fields.states.squeeze(), expected.states.squeeze())
        assert np.array_equal(fields.static.squeeze(), expected.static.squeeze())
    plain.isel(x=[0], y=[0]).to_zarr(tmp_path / "point.zarr", consolidated=False)
    with pytest.raises(InputError, match="u has one cell along x, y"):
        read_fields(tmp_path / "point.zarr", output="u", inputs=["k"])


def test_netcdf_of_either_kind_is_read(tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "3.nc", engine="scipy")
    dataset().to_netcdf(tmp_path / "4.nc", engine="h5netcdf")
    one, two = (read_fields(tmp_path / f"{n}.nc", output="u", inputs=["k"])[0] for n in (3, 4))
    assert np.array_equal(one.states, two.states)
