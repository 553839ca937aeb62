"""Compares the header of a classic NetCDF file with the size of the file, before a library trusts it.

The format is that of "NetCDF Classic Format Specification", Unidata: counts and lengths are big-endian integers of four
bytes; the offset of a variable has four bytes (CDF-1) or eight (CDF-2).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

from data.errors import DAMAGED, InputError

#: Bytes of a value of each type: byte, char, short, int, float, double.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8}
DIMS, VARIABLES, ATTRIBUTES = 10, 11, 12
#: Records that are still being written; their number follows from the size of the file.
STREAMING = 0xFFFFFFFF


def refuse_damaged_header(path: Path | str) -> None:
    """Refuse a file whose header contradicts its size.

    Raises:
        InputError: a list is cut short, a type is unknown, or a variable reaches beyond the end of the file.
    """
    with open(path, "rb") as file:
        _Header(file, str(path), Path(path).stat().st_size).check()


class _Header:
    def __init__(self, file: BinaryIO, where: str, size: int) -> None:
        self._file, self._where, self._size = file, where, size

    def check(self) -> None:
        """Read the whole header; raises at the first contradiction."""
        version = self._take(4)[3]
        if version not in (1, 2):
            raise self._damage(f"its version is {version}, not one that is known")
        records = self._number()
        lengths = [self._named_length() for _ in range(self._count(DIMS))]
        for _ in range(self._count(ATTRIBUTES)):
            self._attribute()
        fixed: list[tuple[str, int, int]] = []
        running: list[tuple[str, int, int]] = []
        for _ in range(self._count(VARIABLES)):
            name, ids = self._name(), [self._number() for _ in range(self._fitting(self._number(), 4))]
            if any(i >= len(lengths) for i in ids) or any(lengths[i] == 0 for i in ids[1:]):
                raise self._damage(f"{name} lies along a dim that does not exist")
            for _ in range(self._count(ATTRIBUTES)):
                self._attribute()
            width = self._width(self._number())
            self._number()  # a size, which large variables cannot state: it is computed instead
            begin = int.from_bytes(self._take(4 * version), "big")
            # A dim of length 0 is the dim of records, always the first of a variable.
            runs = bool(ids) and lengths[ids[0]] == 0
            (running if runs else fixed).append((name, begin, width * math.prod(lengths[i] for i in ids[runs:])))
        for name, begin, size in fixed:
            self._refuse_beyond(name, begin + size)
        if records == STREAMING or not records:
            return
        # A record is padded to four bytes for each variable, unless there is but one.
        step = running[0][2] if len(running) == 1 else sum(-(-size // 4) * 4 for _, _, size in running)
        for name, begin, size in running:
            self._refuse_beyond(name, begin + (records - 1) * step + size)

    def _refuse_beyond(self, name: str, end: int) -> None:
        if end > self._size:
            raise self._damage(f"{name} reaches to byte {end:,}, and the file has {self._size:,}")

    def _take(self, size: int) -> bytes:
        if size > self._size - self._file.tell():
            raise self._damage("its header is cut short")
        return self._file.read(size)

    def _number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def _fitting(self, count: int, size: int) -> int:
        """A count of items of at least so many bytes each, which have to be in the file."""
        if count * size > self._size - self._file.tell():
            raise self._damage("its header is cut short")
        return count

    def _count(self, kind: int) -> int:
        """Items of the list that begins here; an absent one is two zeros."""
        tag, count = self._number(), self._number()
        if tag != kind and (tag or count):
            raise self._damage(f"a list in its header has the tag {tag}, not {kind}")
        return self._fitting(count, 8)

    def _name(self) -> str:
        length = self._number()
        return self._take(-(-length // 4) * 4)[:length].decode("utf-8", "replace")

    def _named_length(self) -> int:
        self._name()
        return self._number()

    def _width(self, kind: int) -> int:
        if kind not in SIZES:
            raise self._damage(f"its header names the unknown type {kind}")
        return SIZES[kind]

    def _attribute(self) -> None:
        self._name()
        size = self._width(self._number()) * self._number()
        self._take(-(-size // 4) * 4)

    def _damage(self, problem: str) -> InputError:
        return InputError(problem, where=self._where, remedy=DAMAGED)
