"""A library that crashes or never returns ends another process, and the file and the place are named."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from data.errors import InputError
from data.formats.netcdf import open_netcdf
from data.processes import probe

DIES = (
    'import os, signal, sys; sys.stdin.readline(); print(\'{"step": "message 3"}\', flush=True); '
    "os.kill(os.getpid(), signal.SIGSEGV)"
)
#: A loop in C, which lets no handler of a signal run.
LOOPS = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from data.processes import probe_process as p; "
    "p.try_hdf5 = lambda path, step: (step('object 7'), sum(range(10**12))); p.main()"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.nc"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    return path


def test_a_crash_and_a_loop_are_named_and_the_next_file_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = probe._Prober()
    monkeypatch.setattr(probe, "_START", DIES)
    with pytest.raises(InputError, match=r"a\.nc: cannot be read: .* ended with SIGSEGV at message 3"):
        prober.refuse_deadly("hdf5", file)
    monkeypatch.setattr(probe, "_START", LOOPS)
    monkeypatch.setattr(probe, "PATIENCE", 0.2)
    with pytest.raises(InputError, match=r"does not come to an end within 0\.2 s at object 7"):
        prober.refuse_deadly("hdf5", file)
    monkeypatch.undo()
    prober.refuse_deadly("hdf5", file)  # what the library refuses in order is left to who opens it
    prober.stop()


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
