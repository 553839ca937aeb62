"""What a file says of its own size is held against its bytes before memory is taken for it."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io  # noqa: F401  (its import is traced otherwise)
import xarray as xr

from benchmarks.faults.valid_files import torch_description
from data.errors import CorruptStoreError, InputError
from data.formats.damage import FREE, parsing
from data.formats.netcdf import open_netcdf
from data.formats.numpy_file import read_npy, read_npz
from data.formats.torch_file import read_torch
from data.formats.zarr_files import open_zarr
from data.structures.files import read_extxyz
from data.structures.trajectories import read_frames


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return out.getvalue() + content


def repeated_tensor(path: Path) -> object:
    """One number that strides of 0 make 1.6 GB."""
    array = np.lib.stride_tricks.as_strided(np.zeros(1, "<f4"), (20_000, 20_000), (0, 0))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", torch_description({"x": array}))
        archive.writestr("a/data/0", bytes(4))
    return read_torch(path)


def announced_array(path: Path) -> object:
    path.write_bytes(npy((10**6, 10**6), bytes(16)))
    return read_npy(path)


def packed_zeros(path: Path) -> object:
    """A member of the archive is said to have more bytes than any file of its size can hold."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy((4,), bytes(32)))
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02") + 24
    path.write_bytes(content[:at] + (1 << 31).to_bytes(4, "little") + content[at + 4 :])
    return read_npz(path)


def classic_attribute(path: Path) -> object:
    xr.Dataset({"x": ("t", np.zeros(2, "f4"), {"note": "abcd"})}).to_netcdf(path, engine="scipy")
    content = path.read_bytes()
    at = content.index(b"note") + 8
    path.write_bytes(content[:at] + (0x7FFFFFF0).to_bytes(4, "big") + content[at + 4 :])
    return open_netcdf(path)


def zarr_shape(path: Path) -> object:
    xr.Dataset({"x": ("t", np.zeros(2, "f4"))}).to_zarr(path, consolidated=False)
    card = path / "x" / "zarr.json"
    value = json.loads(card.read_text())
    value["shape"] = [10**12]
    card.write_text(json.dumps(value))
    return open_zarr(path, consolidated=False).x.values


def atoms_of_a_trajectory(path: Path) -> object:
    path.write_text("999999999999\nProperties=species:S:1:pos:R:3\nH 0 0 0\n")
    return list(read_frames(path))


def columns_of_a_frame(path: Path) -> object:
    path.write_text("1\nProperties=species:S:1:pos:R:3:x:R:900000000 molecule=0\nH 0 0 0\n")
    return list(read_frames(path))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (repeated_tensor, "a.pt"),
        (announced_array, "a.npy"),
        (packed_zeros, "a.npz"),
        (classic_attribute, "a.nc"),
        (zarr_shape, "a.zarr"),
        (atoms_of_a_trajectory, "a.xyz"),
        (columns_of_a_frame, "a.xyz"),
    ],
)
def test_sizes_beyond_the_bytes_of_a_file_take_no_memory(
    make: Callable[[Path], object], name: str, tmp_path: Path
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            make(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < FREE
    finally:
        tracemalloc.stop()


def test_a_packed_trajectory_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.structures.trajectory_xyz.MOST_MEMBER", 1 << 16)
    path = tmp_path / "a.xyz.gz"
    path.write_bytes(gzip.compress(b"1\n" + b" " * (1 << 20)))
    with pytest.raises(CorruptStoreError, match="unpacks to more than"):
        list(read_frames(path))


def test_digits_of_other_scripts_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("1\nProperties=species:S:1:pos:R:\u00b2\nH 0 0 0\n1\n\nHe 0 0 0\n", encoding="utf-8")
    bad, good = read_extxyz(path, ())
    assert "Properties=" in getattr(bad, "reason", "")
    assert np.asarray(getattr(good, "numbers", None)).tolist() == [2]


def test_what_a_library_raises_names_the_file_and_our_faults_are_not_hidden() -> None:
    with (
        pytest.raises(InputError, match=r"^a\.nc: cannot be read: gone\. It may be cut short") as caught,
        parsing("a.nc"),
    ):
        raise KeyError("gone")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(InputError, match=r"^b: shape$"), parsing("a.nc"):
        raise InputError("shape", where="b")
    with pytest.raises(ImportError), parsing("a.nc"):
        raise ImportError("h5netcdf")
    with pytest.raises(InputError, match="more memory than there is"), parsing("a.nc"):
        raise MemoryError


def test_an_array_that_cannot_be_decoded_is_named_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    xr.Dataset({"x": ("t", np.arange(64.0))}).to_zarr(path, consolidated=False)
    (path / "x" / "c" / "0").write_bytes(b"nonsense")
    opened = open_zarr(path, consolidated=False)
    with pytest.raises(InputError, match=r"a\.zarr: x cannot be read: "):
        opened.x.load()
