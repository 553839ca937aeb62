"""The rows of input files that could not be used, as a CSV that is whole after every row."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, TextIO

from data.formats.cells import safe_row

#: Characters of a bad row that are kept.
KEPT_TEXT = 1000
HEADER = ("file", "line", "text", "reason")


class Rejects(Protocol):
    """What takes the rows that could not be used; `RejectLog` writes them down."""

    def add(self, file: Path | str, line: int, text: str, reason: str) -> None:
        """Note a row: its file, its line from 1 on, its text and why it cannot be used."""
        ...


class RejectLog:
    """Writes file, line, text and reason of each row that was refused.

    The file is created, over an old one, when the log is entered: a rerun reads everything again. Each row
    is handed to the operating system at once, so a killed process loses none, and `close` syncs the disk.

    Args:
        path: of the CSV; its directory is made if absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._count = 0
        self._file: TextIO | None = None

    @property
    def count(self) -> int:
        """Rows refused since the log was entered."""
        return self._count

    def __enter__(self) -> RejectLog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", encoding="utf-8", newline="")
        self._count = 0
        self._write(HEADER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, file: Path | str, line: int, text: str, reason: str) -> None:
        """Note one row; its text is cut at `KEPT_TEXT` characters.

        Raises:
            ValueError: the log is not open.
        """
        self._write((str(file), str(line), text[:KEPT_TEXT], reason))
        self._count += 1

    def close(self) -> None:
        """Sync to disk and close; closing twice does nothing."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _write(self, row: tuple[str, ...]) -> None:
        if self._file is None:
            raise ValueError("the log of rejected rows is not open; use it in a with statement")
        csv.writer(self._file, lineterminator="\n").writerow(safe_row(row))
        self._file.flush()
