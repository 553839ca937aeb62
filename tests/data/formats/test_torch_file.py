"""PyTorch's files without PyTorch: the right numbers, and nothing that runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_dictionaries import save, saved_dict, tensor, text

from data.errors import CorruptStoreError, InputError
from data.formats.torch_file import read_torch


def test_values_offsets_and_strides_are_those_that_were_saved(tmp_path: Path) -> None:
    numbers = np.arange(24, dtype="<f4")
    flags = np.array([True, False, True])
    body = saved_dict(
        {
            "turned": tensor("0", "FloatStorage", 24, 4, (2, 3), (1, 2)),
            "flags": tensor("1", "BoolStorage", 3, 0, (3,), (1,)),
        }
    )
    tensors = read_torch(save(tmp_path / "a.pt", body, {"0": numbers.tobytes(), "1": flags.tobytes()}))
    assert np.array_equal(tensors["turned"], [[4, 6, 8], [5, 7, 9]])
    assert tensors["flags"].dtype == bool
    assert tensors["flags"].tolist() == [True, False, True]


def test_a_bare_tensor_is_called_tensor(tmp_path: Path) -> None:
    body = tensor("0", "LongStorage", 3, 0, (3,), (1,))
    tensors = read_torch(save(tmp_path / "a.pt", body, {"0": np.arange(3, dtype="<i8").tobytes()}))
    assert tensors["tensor"].tolist() == [0, 1, 2]


class Touches:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_a_file_runs(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "made"
    path = tmp_path / "bad.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"x": Touches(marker)}, protocol=protocol))
    with pytest.raises(InputError, match="holds more than tensors"):
        read_torch(path)
    assert not marker.exists()


def test_an_object_beside_the_tensors_is_named(tmp_path: Path) -> None:
    body = saved_dict({"x": tensor("0", "FloatStorage", 1, 0, (1,), (1,)), "note": text("hello")})
    with pytest.raises(InputError, match="note is no tensor"):
        read_torch(save(tmp_path / "a.pt", body, {"0": bytes(4)}))


def test_missing_bytes_are_named(tmp_path: Path) -> None:
    body = saved_dict({"x": tensor("0", "FloatStorage", 8, 0, (8,), (1,))})
    with pytest.raises(CorruptStoreError, match="storage 0 has 4 entries, 8 are needed"):
        read_torch(save(tmp_path / "a.pt", body, {"0": bytes(16)}))
    with pytest.raises(CorruptStoreError, match="storage 0 is missing"):
        read_torch(save(tmp_path / "b.pt", body, {}))


@pytest.mark.parametrize("offset", [-3, 6])
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path: Path, offset: int) -> None:
    body = saved_dict({"x": tensor("0", "FloatStorage", 8, offset, (4,), (1,))})
    with pytest.raises(CorruptStoreError):
        read_torch(save(tmp_path / "a.pt", body, {"0": bytes(32)}))


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "old.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="is not a zip file"):
        read_torch(tmp_path / "old.pt")
    with pytest.raises(InputError, match="no such file"):
        read_torch(tmp_path / "none.pt")


def test_darcy_grids_are_nested(shared_data: Path) -> None:
    coarse = read_torch(shared_data / "fluids" / "darcy_test_16.pt")
    fine = read_torch(shared_data / "fluids" / "darcy_test_32.pt")
    assert coarse["x"].shape == (50, 16, 16)
    assert np.array_equal(fine["x"][:, ::2, ::2], coarse["x"])
    assert np.array_equal(fine["y"][:, ::2, ::2], coarse["y"])
