"""Trajectories as extxyz, plain or by gzip, that grow at their end only and are read by ASE.

A plain file is flushed frame by frame. A compressed one is a chain of gzip members, each of which holds whole
frames, so it can be appended to as well; a kill loses at most the last `MEMBER` bytes of text. A frame is complete if
it ends with a line break, a member if its checksum fits; a kill can only truncate the last one.
"""

from __future__ import annotations

import fcntl
import gzip
import io
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, chemical_symbols
from ase.io.extxyz import key_val_dict_to_str, read_xyz

from data.encodable import encodable
from data.errors import CorruptStoreError, InputError
from data.files import sync_directory
from data.structures.files import layout_of, width_of
from data.structures.frame import Frame

LOG = logging.getLogger(__name__)
#: Bytes of text in a gzip member; smaller ones pack badly.
MEMBER = 1 << 20
#: Bytes of text of the largest member: a frame of a million atoms has fewer.
MOST_MEMBER = 1 << 28
#: Bytes of the line that holds the number of atoms.
LONGEST_COUNT = 16
#: Numbers of a whole frame, left out of its comment line where they are NaN.
SCALARS = ("energy", "kinetic_energy", "energy_std", "time_fs")


class XyzWriter:
    """The open end of a file of frames, which one writer at a time locks.

    Args:
        path: the file; it is made if absent, and an incomplete frame at its end is removed.
        source: what makes the frames; each carries it.

    Attributes:
        last_frames: the last frame of each molecule that is in the file already.

    Raises:
        InputError: another process writes to it, or its frames are of another source.
        CorruptStoreError: a line that is not its last begins no frame.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._pending = bytearray()
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    "another process writes to it", where=str(path), remedy="Wait for it, or stop it"
                ) from None
            last: dict[int, tuple[Frame, str]] = {}
            end = 0
            for end, line, text in whole_frames(path):  # noqa: B007
                frame, made_by = parse(text, path, line)
                last[frame.molecule] = (frame, made_by)
            others = {made_by for _, made_by in last.values()} - {source}
            if others:
                raise InputError(
                    f"its frames come from {others.pop()!r}, not from {source!r}",
                    where=str(path),
                    remedy="Name another file",
                )
            torn = self._file.seek(0, os.SEEK_END) - end
            if torn:
                LOG.warning("%s: %d bytes of a frame that was not finished are cut off", path, torn)
                self._file.truncate(end)
                self._file.seek(end)
        except BaseException:
            self._file.close()
            raise
        self.last_frames = {molecule: frame for molecule, (frame, _) in last.items()}

    def write(self, frame: Frame) -> None:
        """Add a frame."""
        self._pending += encodable(format_frame(frame, self.source)).encode()
        if self.path.suffix.lower() != ".gz" or len(self._pending) >= MEMBER:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            packed = self.path.suffix.lower() == ".gz"
            # No time in the head: the same frames give the same bytes.
            self._file.write(gzip.compress(self._pending, mtime=0) if packed else self._pending)
            self._file.flush()
            self._pending.clear()

    def __enter__(self) -> XyzWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._flush()
            os.fsync(self._file.fileno())
            sync_directory(self.path.parent)
        finally:
            self._file.close()


def format_frame(frame: Frame, source: str) -> str:
    """A frame with every digit; velocities as ASE's momenta (amu^1/2 eV^1/2), so that ASE knows them."""
    head, columns = "Properties=species:S:1:pos:R:3", [np.asarray(frame.positions, np.float64)]
    if frame.velocities is not None:
        head += ":momenta:R:3"
        columns.append(atomic_masses[frame.numbers][:, None] * np.asarray(frame.velocities, np.float64) / units.fs)
    # ASE takes forces for results of a calculation, and so none may be NaN.
    if frame.forces is not None and np.isfinite(frame.forces).all():
        head += ":forces:R:3"
        columns.append(np.asarray(frame.forces, np.float64))
    info: dict[str, Any] = {"molecule": int(frame.molecule), "step": int(frame.step), "status": frame.status}
    info |= {name: float(getattr(frame, name)) for name in SCALARS if np.isfinite(getattr(frame, name))}
    if source:
        info["source"] = source
    cell = np.zeros((3, 3)) if frame.cell is None else np.asarray(frame.cell, np.float64)
    if cell.any():
        head = f'Lattice="{" ".join(map(repr, cell.ravel().tolist()))}" {head}'
    repeats = " ".join("T" if vector.any() else "F" for vector in cell)
    lines = [str(len(frame.numbers)), f'{head} pbc="{repeats}" {key_val_dict_to_str(info)}']
    for z, row in zip(frame.numbers.tolist(), np.concatenate(columns, axis=1).tolist(), strict=True):
        lines.append(" ".join([chemical_symbols[z], *map(repr, row)]))
    return "\n".join(lines) + "\n"


def read_xyz_frames(path: Path) -> Iterator[Frame]:
    """The frames of a file that `XyzWriter` wrote.

    Raises:
        CorruptStoreError: after the whole frames, where the last one is cut short; or a frame is damaged.
    """
    end = 0
    for end, line, text in whole_frames(path):  # noqa: B007
        yield parse(text, path, line)[0]
    if path.stat().st_size != end:
        raise CorruptStoreError(
            f"its last frame is cut short, at byte {end}",
            where=str(path),
            remedy="Resume writing it, which removes that frame, or copy it again",
        )


def whole_frames(path: Path) -> Iterator[tuple[int, int, str]]:
    """Each whole frame: the position behind it, or behind the member that holds it; its first line; its text.

    Ends before a frame that is cut short.

    Raises:
        CorruptStoreError: a line that should begin a frame does not, or packed bytes were changed.
    """
    if path.suffix.lower() == ".gz":
        line = 1
        for end, data in _members(path):
            for _, first, text in _split(io.BytesIO(data), path, line):
                line = first + text.count("\n")
                yield end, first, text
        return
    with path.open("rb") as file:
        yield from _split(file, path, 1)


def parse(text: str, path: Path, line: int) -> tuple[Frame, str]:
    """A frame that begins at a line of a file, and its source.

    Raises:
        CorruptStoreError: it is not a frame of a trajectory.
    """
    _, comment, *rows = text.rstrip("\n").split("\n")
    # ASE takes memory for as many columns as are named.
    width = width_of(layout_of(comment))
    if width is None or any(len(row.split()) != width for row in rows):
        raise CorruptStoreError(
            "no frame of a trajectory: an atom line has other columns than its frame names",
            where=f"{path}, line {line}",
            file=path,
            row=line,
            remedy="Name a file that was written as a trajectory, or restore it from a copy",
        )
    try:
        atoms: Atoms = next(iter(read_xyz(io.StringIO(text), index=0)))
        results = {} if atoms.calc is None else atoms.calc.results
        facts = {**atoms.info, **results}
        scalars = {name: float(facts.get(name, np.nan)) for name in SCALARS}
        momenta = atoms.arrays.get("momenta")
        frame = Frame(
            molecule=int(facts["molecule"]),
            step=int(facts["step"]),
            numbers=np.asarray(atoms.numbers, np.int32),
            positions=np.asarray(atoms.positions, np.float64),
            forces=facts.get("forces"),
            velocities=None if momenta is None else momenta / atomic_masses[atoms.numbers][:, None] * units.fs,
            cell=np.asarray(atoms.cell.array, np.float64) if atoms.pbc.any() else None,
            status=str(facts["status"]),
            **scalars,
        )
        return frame, str(facts.get("source", ""))
    except Exception as error:  # ASE raises many kinds for what is no frame.
        raise CorruptStoreError(
            f"no frame of a trajectory: {' '.join(str(error).split()).rstrip('.') or type(error).__name__}",
            where=f"{path}, line {line}",
            file=path,
            row=line,
            remedy="Name a file that was written as a trajectory, or restore it from a copy",
        ) from error


def _split(stream: BinaryIO | io.BytesIO, path: Path, line: int) -> Iterator[tuple[int, int, str]]:
    """Whole frames of a stream, the first line of which is number `line`: position behind, first line, text."""
    end = 0
    while (head := stream.readline()).endswith(b"\n"):
        if not (head.isascii() and head.strip().isdigit()) or len(head) > LONGEST_COUNT:
            raise CorruptStoreError(
                f"a frame should begin here with its number of atoms, not {head[:40]!r}",
                where=f"{path}, line {line}",
                file=path,
                row=line,
                remedy="Restore the file from a copy, or remove it",
            )
        lines = [head]
        # Up to the end of the file, however many atoms it announces.
        while len(lines) < int(head) + 2 and (text := stream.readline()):
            lines.append(text)
        if len(lines) < int(head) + 2 or not lines[-1].endswith(b"\n"):
            return
        data = b"".join(lines)
        end += len(data)
        yield end, line, data.decode("utf-8", "replace")
        line += len(lines)


def _members(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each whole gzip member, unpacked, with the position behind it; ends before one that is cut short."""
    end, rest = 0, b""
    with path.open("rb") as file:
        while True:
            unpack, parts, used, unpacked = zlib.decompressobj(wbits=31), [], 0, 0
            while not unpack.eof:
                data = rest or file.read(MEMBER)
                if not data:
                    return
                try:
                    parts.append(unpack.decompress(data, MOST_MEMBER - unpacked))
                except zlib.error as error:
                    raise CorruptStoreError(
                        f"packed bytes behind byte {end} are not those that were written: {error}",
                        where=str(path),
                        remedy="Restore the file from a copy, or remove it",
                    ) from error
                unpacked += len(parts[-1])
                if unpack.unconsumed_tail or unpacked >= MOST_MEMBER:
                    raise CorruptStoreError(
                        f"what is packed behind byte {end} unpacks to more than {MOST_MEMBER >> 20} MiB",
                        where=str(path),
                        remedy="Write it as a trajectory, or unpack it",
                    )
                rest = unpack.unused_data
                used += len(data) - len(rest)
            end += used
            yield end, b"".join(parts)
