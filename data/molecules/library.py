"""A prepared library: molecules featurised once, in files that are mapped into memory and checked when read.

A library is a directory. Each of its files `part-00000.bin`, ... holds the bytes of a few arrays one after the other,
and `library.json`, which is written last, their offsets and checksums.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from data.checksums import read_bytes
from data.errors import CorruptStoreError, InputError
from data.files import atomic_path, write_json
from data.formats.damage import first_line
from data.molecules.graph_tables import ATOM_COLUMNS, BOND_COLUMNS, GraphTable, row_starts
from data.plain import from_plain, to_plain
from data.remote.path import RemotePath, path_of

FORMAT = 1
CARD = "library.json"
REMEDY = "Restore it from a copy, or prepare the library again"
_ALIGN = 64
_PART = re.compile(r"part-\d{5,9}\.bin", re.ASCII)
#: The arrays of a part and their types.
DTYPES = {
    "atom_counts": "|u1", "bond_counts": "|u1", "atoms": "|u1", "bonds": "|u1", "bond_atoms": "|u1", "text": "|u1",
    "offsets": "<u4", "lines": "<i8", "standard": "|u1",
}  # fmt: skip
_OF_ROWS = ("atom_counts", "bond_counts", "lines")


@dataclass(frozen=True)
class PreparedMolecules:
    """Some molecules of a library.

    Attributes:
        table: their graphs; `source_index` counts within these molecules.
        text, offsets: their SMILES, UTF-8, end to end; row i is `text[offsets[i]:offsets[i + 1]]`.
        lines: of the file that they came from.
        standard: SMILES of the standard forms that the graphs are of, "" where a molecule is its own; None where no
            standard form was asked for.
    """

    table: GraphTable
    text: UInt8[np.ndarray, " byte"]
    offsets: Int[np.ndarray, " row_plus_one"]
    lines: Int[np.ndarray, " row"]
    standard: list[str] | None = None

    def rows(self, first: int, last: int) -> PreparedMolecules:
        """The molecules from `first` to before `last`; arrays are views."""
        offsets = self.offsets[first : last + 1]
        table = self.table.take(slice(first, last))
        standard = None if self.standard is None else self.standard[first:last]
        return PreparedMolecules(
            table, self.text[offsets[0] : offsets[-1]], offsets - offsets[0], self.lines[first:last], standard
        )


@dataclass(frozen=True)
class LibraryPart:
    """One file of a library: its rows, and name -> (byte offset, dtype, shape, CRC-32) of its arrays."""

    file: str
    rows: int
    arrays: Mapping[str, tuple[int, str, tuple[int, ...], int]]

    def __post_init__(self) -> None:
        """Refuse a name, a type or a shape that `write_part` does not give."""
        if not _PART.fullmatch(self.file):
            raise ValueError(f"{self.file!r} is no name of a part")
        lacking = [name for name in DTYPES if name not in self.arrays and name != "standard"]
        strange = [name for name in self.arrays if name not in DTYPES]
        if lacking or strange:
            raise ValueError(
                f"{self.file} lacks {lacking[0]}" if lacking else f"{self.file} has no array {strange[0]!r}"
            )
        for name, (start, dtype, shape, _) in self.arrays.items():
            rest = {"atoms": (len(ATOM_COLUMNS),), "bonds": (len(BOND_COLUMNS),), "bond_atoms": (2,)}.get(name, ())
            first = {"offsets": self.rows + 1}.get(name, self.rows if name in _OF_ROWS else None)
            fits = shape[1:] == rest and len(shape) == 1 + len(rest) and first in (None, shape[0])
            if dtype != DTYPES[name] or not fits or min(start, *shape) < 0:
                raise ValueError(f"{name} of {self.file} is {dtype} of shape {list(shape)} at byte {start}")
        if self.arrays["bonds"][2][0] != self.arrays["bond_atoms"][2][0]:
            raise ValueError(f"{self.file} has another number of bonds than of ends of bonds")


def write_part(directory: Path, number: int, prepared: PreparedMolecules) -> LibraryPart:
    """Write one file, atomically, and say what is in it."""
    table = prepared.table
    arrays = {
        "atom_counts": table.atom_counts.astype(np.uint8),
        "bond_counts": table.bond_counts.astype(np.uint8),
        "atoms": table.atoms,
        "bonds": table.bonds,
        "bond_atoms": table.bond_atoms,
        "text": np.asarray(prepared.text, np.uint8),
        "offsets": np.asarray(prepared.offsets, np.uint32),
        "lines": np.asarray(prepared.lines, np.int64),
    }
    if prepared.standard is not None:
        # No SMILES has a line break.
        arrays["standard"] = np.frombuffer("".join(f"{text}\n" for text in prepared.standard).encode(), np.uint8)
    name = f"part-{number:05d}.bin"
    described: dict[str, tuple[int, str, tuple[int, ...], int]] = {}
    with atomic_path(directory / name) as temporary, open(temporary, "wb") as file:
        for key, array in arrays.items():
            file.write(b"\0" * (-file.tell() % _ALIGN))
            raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            described[key] = (file.tell(), array.dtype.newbyteorder("<").str, array.shape, zlib.crc32(raw))
            file.write(raw)
    return LibraryPart(name, len(table), described)


def read_part(directory: Path, part: LibraryPart) -> PreparedMolecules:
    """The molecules of one file, mapped into memory, or read into it from a URL, and checked.

    Raises:
        CorruptStoreError: the file is missing, shorter than it was, or changed.
    """
    path = directory / part.file
    arrays: dict[str, np.ndarray] = {}
    try:
        remote = isinstance(path, RemotePath)
        whole = np.frombuffer(path.read_bytes(), np.uint8) if remote else np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise _corrupt(path, str(error)) from error
    for name, (start, dtype, shape, crc) in part.arrays.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw = whole[start : start + size]
        if len(raw) < size:
            raise _corrupt(path, f"{name} is truncated")
        if zlib.crc32(raw.data) != crc:
            raise _corrupt(path, f"{name} is not what was written")
        arrays[name] = raw.view(dtype).reshape(shape)
    if problem := _contradiction(arrays):
        raise _corrupt(path, problem)
    table = GraphTable(
        row_starts(arrays["atom_counts"]),
        row_starts(arrays["bond_counts"]),
        arrays["atoms"],
        arrays["bonds"],
        arrays["bond_atoms"],
        np.arange(part.rows),
    )
    standard = None
    if "standard" in arrays:
        standard = arrays["standard"].tobytes().decode("utf-8", "replace").split("\n")[:-1]
        if len(standard) != part.rows:
            raise _corrupt(path, f"{len(standard)} standard forms of {part.rows} molecules")
    return PreparedMolecules(table, arrays["text"], arrays["offsets"].astype(np.int32), arrays["lines"], standard)


def _contradiction(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Why the arrays of a part are not molecules, although their checksums fit; None if they are."""
    atoms, bonds, offsets, text = (arrays[name] for name in ("atom_counts", "bond_counts", "offsets", "text"))
    for counts, name in ((atoms, "atoms"), (bonds, "bonds")):
        if int(counts.sum(dtype=np.int64)) != len(arrays[name]):
            return f"{len(arrays[name])} {name}, and its molecules have {int(counts.sum(dtype=np.int64))}"
    if (arrays["bond_atoms"].max(axis=1, initial=0) >= np.repeat(atoms, bonds)).any():
        return "a bond ends at an atom that its molecule does not have"
    whole = offsets.astype(np.int64)
    if whole[0] != 0 or whole[-1] != len(text) or len(text) > np.iinfo(np.int32).max or (np.diff(whole) < 0).any():
        return "its SMILES do not follow one another"
    starts = whole[:-1][np.diff(whole) > 0]
    try:
        text.tobytes().decode("utf-8")
    except UnicodeDecodeError:
        return "its SMILES are not UTF-8"
    # A byte in the middle of a character begins no text.
    return "its SMILES are not UTF-8" if ((text[starts] & 0xC0) == 0x80).any() else None


@dataclass(frozen=True)
class PreparedLibrary:
    """An opened library.

    Attributes:
        path: its directory.
        parts: its files.
        rejected: rows of the source that were no molecules; they are in `rejects.csv`.
        source: what it was made from.
    """

    path: Path
    parts: tuple[LibraryPart, ...]
    rejected: int
    source: Mapping[str, Any]

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    def save(self) -> None:
        """Write `library.json`, which makes the library complete."""
        card = {
            "format": FORMAT,
            "molecules": len(self),
            "rejected": self.rejected,
            "source": dict(self.source),
            "parts": to_plain(self.parts),
        }
        write_json(self.path / CARD, card, indent=None)

    @staticmethod
    def open(path: Path) -> PreparedLibrary:
        """The library in a directory; parts are checked when they are read.

        Raises:
            InputError: there is no library, or its format is newer.
            CorruptStoreError: `library.json` cannot be read.
        """
        path = path_of(path)
        card_path = path / CARD
        if not card_path.is_file():
            raise InputError(
                f"no {CARD} in it", where=str(path), remedy="Name a directory that understudy prepare finished"
            )
        try:
            card = json.loads(read_bytes(card_path, remedy=REMEDY))
            newer = int(card["format"]) > FORMAT
            # A newer version may describe other arrays.
            parts = () if newer else from_plain(tuple[LibraryPart, ...], card["parts"])
            library = PreparedLibrary(path, parts, int(card["rejected"]), dict(card["source"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise _corrupt(card_path, first_line(error)) from error
        if newer:
            raise InputError("made by a newer version", where=str(card_path), remedy="Upgrade understudy")
        return library


def _corrupt(path: Path, problem: str) -> CorruptStoreError:
    return CorruptStoreError(problem, where=str(path), remedy=REMEDY)
