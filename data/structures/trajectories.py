"""Trajectories of many molecules on disk, frame by frame: extxyz for ASE, or a Zarr store for xarray.

Both grow at their end only. A writer that was killed is started again with `resume`: what it left unfinished is
cut off, frames that are there are skipped, and the result is what one run would have written. The Zarr
store is a `RecordStore` (see `data.store.records`): one record a frame, atoms one after the other along `atom` with
`atom_count` of each frame, every chunk with a checksum that reading verifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import xarray as xr

from data.errors import InputError
from data.spec import Variable
from data.store.columns import KEPT
from data.store.records import RecordStore
from data.structures.frame import Frame
from data.structures.trajectory_xyz import XyzWriter, read_xyz_frames

__all__ = ["Frame", "read_frames", "read_trajectory", "write_frames"]

XYZ_SUFFIXES = (".xyz", ".extxyz")
#: A frame that is computed again may differ by rounding; farther apart than this, Angstrom, it is another path.
SAME = 1e-3


VARIABLES = (
    Variable("molecule", (), "1", "int32", "which molecule this is a frame of"),
    Variable("step", (), "1", "int64", "steps done"),
    Variable("time_fs", (), "fs", "float64", "time since the beginning"),
    Variable("numbers", ("atom",), "1", "int32", "atomic numbers"),
    Variable("positions", ("atom", "axis"), "Angstrom", "float64", "positions of the nuclei"),
    Variable("velocities", ("atom", "axis"), "Angstrom/fs", "float64", "velocities of the nuclei"),
    Variable("forces", ("atom", "axis"), "eV/Angstrom", "float64", "forces on the nuclei"),
    Variable("cell", ("axis", "axis_2"), "Angstrom", "float64", "lattice vectors, zeros where nothing repeats"),
    Variable("energy", (), "eV", "float64", "potential energy"),
    Variable("kinetic_energy", (), "eV", "float64", "kinetic energy"),
    Variable("energy_std", (), "eV", "float64", "standard deviation of the potential energy"),
)


class _Writer(Protocol):
    """The open end of a trajectory, and the last frame of each molecule that it began with."""

    @property
    def last_frames(self) -> dict[int, Frame]: ...

    def write(self, frame: Frame) -> None: ...

    def __enter__(self) -> _Writer: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def write_frames(frames: Iterable[Frame], path: Path | str, *, source: str = "", resume: bool = False) -> int:
    """Write frames as they come; returns how many were new.

    Args:
        frames: steps of each molecule ascending; molecules in any order.
        path: .xyz or .extxyz (each also .gz), or .zarr.
        source: what makes the frames, such as the name of a potential; kept with them.
        resume: continue the trajectory that is there. Frames that it holds are skipped, once the last of each molecule
            has been compared.

    Raises:
        InputError: an unknown suffix, something is there and `resume` is not given, another process writes to
            it, what is there is of another source or another path, or a molecule's steps do not ascend.
        CorruptStoreError: what is there is damaged.
    """
    path = Path(path)
    written = 0
    last: dict[int, int] = {}
    with _writer(path, source, resume) as writer:
        for frame in frames:
            if frame.step <= last.get(frame.molecule, -1):
                raise InputError(
                    f"step {frame.step} of molecule {frame.molecule} comes after step {last[frame.molecule]}",
                    where=str(path),
                    remedy="Give each molecule's frames in order of time, each once",
                )
            stored = writer.last_frames.get(frame.molecule)
            if stored is not None and last.get(frame.molecule, -1) < stored.step <= frame.step:
                _compare(path, stored, frame)
            last[frame.molecule] = frame.step
            if stored is None or frame.step > stored.step:
                writer.write(frame)
                written += 1
    return written


def read_frames(path: Path | str) -> Iterator[Frame]:
    """The frames of a file or store, in the order in which they were written.

    Raises:
        InputError: nothing is there, or the suffix is unknown.
        CorruptStoreError: a chunk is missing, truncated or changed; of a file, after the whole frames before it.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("no such file", where=str(path), remedy="Check the path")
    return _zarr_frames(path) if _kind(path) == ".zarr" else read_xyz_frames(path)


def read_trajectory(path: Path | str, molecule: int = 0) -> xr.Dataset:
    """One molecule's frames, with dims `frame`, `atom` and `axis`, units and long names.

    Raises:
        InputError: as `read_frames`, or there is no such molecule.
        CorruptStoreError: as `read_frames`.
    """
    frames: list[Frame] = []
    others: set[int] = set()
    for frame in read_frames(path):
        if frame.molecule == molecule:
            frames.append(frame)
        else:
            others.add(frame.molecule)
    if not frames:
        some = ", ".join(map(str, sorted(others)[:20])) or "none"
        raise InputError(f"no frame of molecule {molecule}; there are {some}", where=str(path))
    variables: dict[str, xr.Variable] = {}
    for v in VARIABLES:
        values = [_value(frame, v) for frame in frames]
        attrs = {"units": v.units, "long_name": v.long_name}
        if v.name in ("molecule", "numbers"):
            variables[v.name] = xr.Variable(v.dims, np.asarray(values[0], v.dtype), attrs)
        else:
            variables[v.name] = xr.Variable(("frame", *v.dims), np.stack(values).astype(v.dtype), attrs)
    status = {"units": "1", "long_name": "ok, or what became of the molecule"}
    variables["status"] = xr.Variable(("frame",), np.array([frame.status for frame in frames]), status)
    return xr.Dataset(variables).set_coords(["molecule", "step", "time_fs", "numbers"])


class _ZarrWriter:
    """A store of frames, each of which is in its journal once `write` has returned."""

    def __init__(self, path: Path, source: str) -> None:
        if not (path / "store.json").exists():
            provenance = {"title": "trajectories of molecules", "source": source}
            self._store = RecordStore.create(
                path, VARIABLES, (), provenance=provenance, facts=KEPT, record="frame", sync=False
            )
            self.last_frames: dict[int, Frame] = {}
            return
        self._store = RecordStore.open(path, "a", sync=False)
        if self._store.inputs != tuple(v.name for v in VARIABLES) or self._store.attrs.get("source") != source:
            made_by = self._store.attrs.get("source")
            self._store.close()
            raise InputError(
                f"what it holds comes from {made_by!r}, not from {source!r}",
                where=str(path),
                remedy="Name another store",
            )
        self.last_frames = {frame.molecule: frame for frame in _zarr_frames(path)}

    def write(self, frame: Frame) -> None:
        values = {v.name: _value(frame, v) for v in VARIABLES}
        self._store.append(f"{frame.molecule}/{frame.step}", values, status=frame.status)

    def __enter__(self) -> _ZarrWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()


def _writer(path: Path, source: str, resume: bool) -> _Writer:
    zarr = _kind(path) == ".zarr"
    taken = any(path.iterdir()) if path.is_dir() else path.exists() and path.stat().st_size > 0
    if taken and not resume:
        raise InputError("something is there", where=str(path), remedy="Continue it with resume, or name another path")
    return _ZarrWriter(path, source) if zarr else XyzWriter(path, source)


def _kind(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".zarr"]:
        return ".zarr"
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in XYZ_SUFFIXES:
        raise InputError(
            f"cannot tell the kind of trajectory from its name {path.name!r}",
            where=str(path),
            remedy=f"Use .zarr, or one of {' '.join(XYZ_SUFFIXES)} with or without .gz",
        )
    return suffixes[-1]


def _compare(path: Path, stored: Frame, frame: Frame) -> None:
    """Refuse to resume with another trajectory than the one in the file."""
    if frame.step != stored.step:
        problem = f"the last frame of molecule {stored.molecule} is of step {stored.step}, which this run does not keep"
    elif not np.array_equal(stored.numbers, frame.numbers) or np.abs(stored.positions - frame.positions).max() > SAME:
        problem = f"molecule {stored.molecule} at step {stored.step} is not where this run has it"
    else:
        return
    raise InputError(problem, where=str(path), remedy="Give the settings that it was begun with, or name another path")


def _value(frame: Frame, variable: Variable) -> np.ndarray:
    value = getattr(frame, variable.name)
    if value is None:
        value = np.zeros((3, 3)) if variable.name == "cell" else np.full((len(frame.numbers), 3), np.nan)
    return np.asarray(value, variable.dtype)


def _zarr_frames(path: Path) -> Iterator[Frame]:
    with RecordStore.open(path) as store:
        for _, values in store.records(status=None):
            entries = {v.name: values[v.name] for v in VARIABLES}
            for name in ("velocities", "forces"):
                entries[name] = entries[name] if np.isfinite(entries[name]).any() else None
            entries["cell"] = entries["cell"] if entries["cell"].any() else None
            entries |= {name: int(entries[name]) for name in ("molecule", "step")}
            scalars = ("time_fs", "energy", "kinetic_energy", "energy_std")
            entries |= {name: float(entries[name]) for name in scalars}
            yield Frame(**entries, status=str(values["status"]))
