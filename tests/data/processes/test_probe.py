"""A library that crashes or never returns ends another process, and the file and the place are named."""

from __future__ import annotations

import importlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.errors import InputError
from data.formats.netcdf import open_netcdf
from data.processes import probe
from data.processes.parsing import Lane, RowLimits

#: Attempts at a file: the first ends in a crash, the second in a loop in C, which lets no handler of a signal run.
ATTEMPTS = """
import os, signal
from data.processes import row_watch

def dies(order):
    row_watch.begin(3, "message 3")
    os.kill(os.getpid(), signal.SIGSEGV)

def loops(order):
    row_watch.begin(7, "object 7")
    sum(range(10**12))

def fills(order):
    row_watch.begin(1, "variable 'x'")
    return len(bytearray(10**10))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.nc"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    return path


def test_a_crash_and_a_loop_are_named_and_the_next_file_is_read(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "attempts_at_files.py").write_text(ATTEMPTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    attempts = importlib.import_module("attempts_at_files")
    lane = Lane(RowLimits(0.2, 700), modules=())
    monkeypatch.setattr(probe, "_shared_lane", lambda: lane)
    monkeypatch.setattr(probe, "PATIENCE", 0.2)
    try:
        monkeypatch.setattr(probe, "try_file", attempts.dies)
        with pytest.raises(InputError, match=r"a\.nc: cannot be read: .* ended with SIGSEGV at message 3"):
            probe.refuse_deadly("hdf5", file)
        monkeypatch.setattr(probe, "try_file", attempts.loops)
        with pytest.raises(InputError, match=r"does not come to an end within 0\.2 s at object 7"):
            probe.refuse_deadly("hdf5", file)
        monkeypatch.setattr(probe, "try_file", attempts.fills)
        with pytest.raises(InputError, match=r"needs more memory .* at variable 'x'"):
            probe.refuse_deadly("hdf5", file)
    finally:
        lane.stop()
    monkeypatch.undo()
    probe.refuse_deadly("hdf5", file)  # what the library refuses in order is left to who opens it


def test_a_file_that_reads_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"12345678")
    for kind in ("storage", "link", "virtual"):
        path = tmp_path / f"{kind}.nc"
        with h5py.File(path, "w") as data:
            data["x"] = np.zeros(2)
            if kind == "storage":
                data.create_dataset("y", (1,), "f8", external=[(str(tmp_path / "secret"), 0, 8)])
            elif kind == "link":
                data["y"] = h5py.ExternalLink("storage.nc", "/x")
            else:
                layout = h5py.VirtualLayout((2,), "f8")
                layout[:] = h5py.VirtualSource("storage.nc", "x", (2,))
                data.create_virtual_dataset("y", layout)
        with pytest.raises(InputError, match=r"'/?y' of it lies in another file"):
            open_netcdf(path)
