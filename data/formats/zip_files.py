"""Reads zip archives of unknown origin: failures are one line, and nothing unpacks to more than a file can hold."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType

from data.errors import DAMAGED, CorruptStoreError, InputError
from data.formats.damage import UnpackedBytes, parsing


def is_zip(path: Path | str) -> bool:
    """Whether a file begins as an archive does."""
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


class ZipFile:
    """An archive that is open for reading.

    Args:
        path: of it.
        problem: words of the error where the file is not an archive.
        remedy: what to do about it.

    Attributes:
        names: of its members.

    Raises:
        InputError: there is no such file, or it is no archive.
    """

    def __init__(self, path: Path | str, *, problem: str = "is no zip archive", remedy: str = DAMAGED) -> None:
        self.where = str(path)
        if not Path(path).is_file():
            raise InputError(f"no such file: {path}", remedy="Check the path")
        self._budget = UnpackedBytes(path, Path(path).stat().st_size)
        with parsing(self.where, problem, remedy=remedy):
            self._archive = zipfile.ZipFile(path)
        self.names = self._archive.namelist()

    def read(self, name: str, what: str | None = None, *, most: int | None = None) -> bytes:
        """The bytes of a member.

        Args:
            name: of it.
            what: it is, for errors; its name if None.
            most: bytes that it may have; None for as many as the file can hold.

        Raises:
            InputError: the member is larger than that.
            CorruptStoreError: it is missing or damaged.
        """
        with parsing(self.where, f"{what or name} is missing or damaged", error=CorruptStoreError):
            size = self._archive.getinfo(name).file_size
            if most is not None and size > most:
                raise InputError(f"{name} has {size:,} bytes, at most {most:,} are expected", where=self.where)
            self._budget.take(size, name)
            content = self._archive.read(name)
            # The sum at its end is checked where reading reaches it, which a size that was changed prevents.
            if len(content) != size:
                raise EOFError(f"{len(content):,} bytes where {size:,} are announced")
            return content

    def take(self, size: int, what: str) -> None:
        """Ask for memory for what is made of its members; see `UnpackedBytes`."""
        self._budget.take(size, what)

    def __enter__(self) -> ZipFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()
