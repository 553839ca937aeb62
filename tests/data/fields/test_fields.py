"""Samples of fields: the right roles, the same arrays from every kind of file, and what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.errors import InputError
from data.fields.batches import FieldBatches
from data.fields.field_reading import read_fields
from data.fields.layout import Layout
from data.plain import from_plain, to_plain
from data.spec import Coordinate, Spec, Variable
from data.store.records import RecordStore

POINTS, TIMES = 6, 4
SPEC = Spec(
    (
        Variable("initial", ("channel", "x"), "m", "float32", "height at the start"),
        Variable("bed", ("x",), "m", "float32", "height of the bed"),
        Variable("drag", (), "1", "float64", "coefficient of drag"),
    ),
    (Variable("u", ("time", "channel", "x"), "m", "float32", "height"),),
    (
        Coordinate("x", tuple(float(v) for v in np.arange(POINTS) / 4), "m", "position"),
        Coordinate("time", tuple(float(v) for v in range(TIMES)), "s", "time"),
        Coordinate("channel", ("left", "right"), "1", "component"),
    ),
    {"boundary_conditions": "periodic", "solver": "none 1"},
)


def records(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        u = rng.normal(size=(TIMES, 2, POINTS)).astype(np.float32)
        rows.append({"initial": u[0], "bed": np.full(POINTS, float(i)), "drag": np.float64(0.1 * i), "u": u})
    return rows


def a_store(path: Path, items: list[dict[str, np.ndarray]]) -> Path:
    store = RecordStore.create(
        path, SPEC.inputs, SPEC.outputs, coords=SPEC.coords, provenance={"fingerprint": "f" * 64}, attrs=SPEC.attrs
    )
    with store:
        for i, values in enumerate(items):
            store.append(str(i), values, seconds=2.0, threads=3)
        store.append("bad", {}, status="not_converged", message="blew up", seconds=1.0)
    return path


def test_a_store_gives_roles_units_and_grid(tmp_path: Path) -> None:
    items = records(3)
    fields, bad = read_fields(a_store(tmp_path / "s", items))
    assert bad == [(3, "not_converged")]
    assert fields.states.shape == (3, TIMES, POINTS, 2)
    assert np.array_equal(fields.states[1, 2, :, 0], items[1]["u"][2, 0])
    assert np.array_equal(fields.static[2, :, 0], items[2]["bed"])
    assert np.allclose(fields.parameters[:, 0], [0.0, 0.1, 0.2])
    assert fields.fingerprint == "f" * 64
    assert fields.seconds.tolist() == [6.0, 6.0, 6.0]
    layout = fields.layout
    assert layout.initial is not None
    assert layout.initial.name == "initial"
    assert (layout.periodic, layout.channels, layout.points) == ((True,), 2, (POINTS,))
    assert layout.lengths() == (1.5,)
    assert layout.output.units == "m"
    assert from_plain(Layout, json.loads(json.dumps(to_plain(layout)))) == layout


@pytest.mark.parametrize("kind", ["zarr", "nc"])
def test_any_order_of_dims_in_a_file_gives_the_same_arrays(tmp_path: Path, kind: str) -> None:
    items = records(3)
    expected, _ = read_fields(a_store(tmp_path / "s", items))
    data = xr.Dataset(
        {
            "u": (("sample", "time", "channel", "x"), np.stack([r["u"] for r in items])),
            "initial": (("sample", "channel", "x"), np.stack([r["initial"] for r in items])),
            "bed": (("sample", "x"), np.stack([r["bed"] for r in items])),
            "drag": (("sample",), np.stack([r["drag"] for r in items])),
        },
        {"x": np.arange(POINTS) / 4},
        {"boundary_conditions": "periodic"},
    ).transpose("time", "sample", "channel", "x")
    path = tmp_path / f"file.{kind}"
    if kind == "zarr":
        data.to_zarr(path, consolidated=False)
    else:
        data.transpose("sample", "time", "channel", "x").to_netcdf(path, engine="scipy")
    fields, bad = read_fields(path, output="u", inputs=["initial", "bed", "drag"])
    assert not bad
    for name in ("states", "static", "parameters"):
        assert np.array_equal(getattr(fields, name), getattr(expected, name))
    assert fields.layout.periodic == (True,)


def test_a_sample_that_is_not_finite_is_left_out_and_named(tmp_path: Path) -> None:
    items = records(3)
    data = xr.Dataset(
        {"u": (("sample", "x"), np.ones((3, 5))), "k": (("sample", "x"), np.ones((3, 5)))}, {"x": np.arange(5.0)}
    )
    data["u"][1, 2] = np.nan
    data.to_netcdf(tmp_path / "a.nc", engine="scipy")
    fields, bad = read_fields(tmp_path / "a.nc", output="u", inputs=["k"])
    assert len(fields) == 2
    assert bad == [(1, "holds values that are not finite")]
    assert len(items) == 3
    data["u"][:] = np.nan
    data.to_netcdf(tmp_path / "b.nc", engine="scipy")
    with pytest.raises(InputError, match="no sample of it can be used"):
        read_fields(tmp_path / "b.nc", output="u", inputs=["k"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.rename(sample="case"), "has no dim `sample`"),
        (lambda d: d.rename(x="longitude"), "has the dims"),
        (lambda d: d.assign_coords(x=np.array([0.0, 1.0, 3.0, 4.0, 5.0])), "x is not evenly spaced"),
        (lambda d: d.assign_coords(x=np.arange(5.0)[::-1]), "x is not evenly spaced and ascending"),
        (lambda d: d.drop_vars("k"), "no variable k in it"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    data = xr.Dataset(
        {"u": (("sample", "x"), np.ones((3, 5))), "k": (("sample", "x"), np.ones((3, 5)))}, {"x": np.arange(5.0)}
    )
    change(data).to_netcdf(tmp_path / "a.nc", engine="scipy")
    with pytest.raises(InputError, match=message):
        read_fields(tmp_path / "a.nc", output="u", inputs=["k"])


def test_samples_of_another_question_are_refused(tmp_path: Path) -> None:
    fields, _ = read_fields(a_store(tmp_path / "s", records(2)))
    path = tmp_path / "k.nc"
    data = xr.Dataset(
        {"u": (("sample", "x"), np.ones((3, 5))), "k": (("sample", "x"), np.ones((3, 5)))}, {"x": np.arange(5.0)}
    )
    data.to_netcdf(path, engine="scipy")
    other, _ = read_fields(path, output="u", inputs=["k"])
    with pytest.raises(InputError, match="its variables are u, k, u, initial, bed, drag are needed"):
        other.refuse_other(fields.layout, "k.nc")
    units = xr.Dataset(
        {"u": ((*data["u"].dims,), data["u"].values, {"units": "cm"}), "k": data["k"]}, {"x": np.arange(5.0)}
    )
    units.to_netcdf(tmp_path / "cm.nc", engine="scipy")
    in_cm, _ = read_fields(tmp_path / "cm.nc", output="u", inputs=["k"])
    with pytest.raises(InputError, match="its units are cm, 1, 1, 1 are needed"):
        in_cm.refuse_other(other.layout, "cm.nc")


def test_an_epoch_holds_every_window_once(tmp_path: Path) -> None:
    fields, _ = read_fields(a_store(tmp_path / "s", records(3)))
    source = FieldBatches(fields, size=3, frames=2, seed=5)
    assert source.windows == 9
    seen = np.concatenate([batch.frames[:, :, 0, 0] for batch in source.epoch(0)])
    windows = [fields.states[s, t : t + 2, 0, 0] for s in range(3) for t in range(3)]
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, np.array(windows).tolist()))
    again = np.concatenate([batch.frames[:, :, 0, 0] for batch in source.epoch(0)])
    other = np.concatenate([batch.frames[:, :, 0, 0] for batch in source.epoch(1)])
    assert np.array_equal(seen, again)
    assert not np.array_equal(seen, other)


def test_without_a_seed_the_last_batch_is_filled_with_rows_that_weigh_nothing(tmp_path: Path) -> None:
    fields, _ = read_fields(a_store(tmp_path / "s", records(3)))
    batches = list(FieldBatches(fields, size=2, frames=TIMES, seed=None).epoch(0))
    assert [b.weight.tolist() for b in batches] == [[1.0, 1.0], [1.0, 0.0]]
    assert np.array_equal(batches[1].frames[0], fields.states[2])
    with pytest.raises(ValueError, match="windows of 5 states"):
        FieldBatches(fields, size=2, frames=TIMES + 1, seed=None)
