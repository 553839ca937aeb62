"""Stores that an earlier version wrote are read as before, with the records that a kill had left in the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from saved_files import unpack

from data.molecules.library import PreparedLibrary, read_part
from data.sphere.window_store import WindowStore
from data.store.records import RecordStore

RECORDS = ("fields", "meshes", "molecules", "parameters", "structures")


def assert_holds(data: xr.Dataset, expected: dict[str, Any]) -> None:
    assert sorted(map(str, data.variables)) == sorted(expected)
    for name, variable in expected.items():
        values = data[name].values
        assert (list(data[name].dims), data[name].attrs.get("units")) == (variable["dims"], variable["units"]), name
        if values.dtype.kind in "mM":
            values = values.astype("int64")
        np.testing.assert_array_equal(values, np.array(variable["values"]).astype(values.dtype), err_msg=name)


@pytest.mark.parametrize("name", RECORDS)
def test_a_saved_store_of_records_holds_what_it_held(name: str, tmp_path: Path) -> None:
    directory, record = unpack(f"stores/{name}", tmp_path)
    with RecordStore.open(directory) as store:
        assert len(store) == record["records"]
        data = store.dataset()
    assert data.attrs["fingerprint"] == record["fingerprint"]
    assert_holds(data, record["variables"])


@pytest.mark.parametrize("name", RECORDS)
def test_a_saved_store_of_records_is_appended_to(name: str, tmp_path: Path) -> None:
    directory, record = unpack(f"stores/{name}", tmp_path)
    with RecordStore.open(directory, "a") as store:
        keys = [str(key) for key in store.dataset()["key"].values]
        store.append("one more", {}, status="crashed", message="a test", seconds=0.5)
    with RecordStore.open(directory) as store:
        assert len(store) == record["records"] + 1
        assert [str(key) for key in store.dataset()["key"].values] == [*keys, "one more"]


def test_saved_windows_hold_what_they_held(tmp_path: Path) -> None:
    directory, record = unpack("stores/windows", tmp_path)
    store = WindowStore.open(directory)
    assert store.fingerprint == record["fingerprint"]
    assert store.static.tolist() == record["static"]
    assert_holds(store.dataset(), record["variables"])


def test_a_saved_library_holds_what_it_held(tmp_path: Path) -> None:
    directory, record = unpack("stores/library", tmp_path)
    library = PreparedLibrary.open(directory)
    assert library.rejected == record["rejected"]
    parts = [read_part(directory, part) for part in library.parts]
    assert [part.text.tobytes().decode() for part in parts] == [part["text"] for part in record["parts"]]
    for part, expected in zip(parts, record["parts"], strict=True):
        assert part.lines.tolist() == expected["lines"]
        assert part.table.atoms.tolist() == expected["atoms"]
        assert part.table.bond_atoms.tolist() == expected["bond_atoms"]
