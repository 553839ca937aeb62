"""Results of a screen at a URL: each commit is one object, written only where there is none.

    screen.json                 settings; another screen is refused
    results/part-00000.parquet  rows of a commit
    rejects/part-00000.csv      its rejected rows, if it has any
    ledger/00000.json           the commit itself, the line of the local ledger, which is written last

The objects of a part are never replaced. If two commands work on the same URL, the first object of a part that arrives
is the part, and the command that comes second with a commit stops. A part without a commit, which a kill left, is taken
over by the next command. So a screen resumes from its URL alone, on any machine, and no row is there twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from data.errors import CorruptStoreError, InputError
from data.remote.path import RemotePath
from data.uploads import bucket_path, fetch, objects_below, put, put_bytes_if_absent, put_if_absent, remove
from experiments.screening.ledger import LEDGER, REJECTS, Commit, part_path, read_ledger

_LEDGER = re.compile(r"ledger/(\d{5,9})\.json")
#: Files of a finished screen, which a later command with another `top_k` writes again.
RESULTS_OF_END = (
    "top.csv", "top.parquet", "filtered.csv", "columns.json", "metrics.json", "reading.json", "rejects.csv",
    "recheck.csv", "ledger.jsonl",
)  # fmt: skip
OTHER = "Give another publish=URL, or remove what is there"


@dataclass(frozen=True)
class PublishedResults:
    """Where the commits of a screen go beside their directory.

    Attributes:
        url: prefix of the objects.
        out: directory of the screen.
        kind: name of the file of settings, without its suffix.
    """

    url: RemotePath
    out: Path
    kind: str = "screen"

    @staticmethod
    def at(url: str, out: Path, kind: str = "screen") -> PublishedResults:
        """The results at a URL.

        Raises:
            InputError: it cannot be written to.
        """
        return PublishedResults(bucket_path(url.rstrip("/"), "publish"), out, kind)

    def settle(self, commits: Sequence[Commit]) -> bool:
        """Bring the directory and the URL to the same commits, and refuse another screen.

        Args:
            commits: commits of the directory.

        Returns:
            Whether commits came from the URL, so that the directory has to be read again.

        Raises:
            InputError: the URL holds another screen, or commits that contradict those of the directory.
        """
        name = f"{self.kind}.json"
        if not put_if_absent(self.out / name, self.url / name):
            raise InputError(f"holds another {self.kind}", where=str(self.url), remedy=OTHER)
        numbers = sorted(int(match[1]) for match in map(_LEDGER.fullmatch, objects_below(self.url)) if match)
        if numbers != list(range(len(numbers))):
            raise CorruptStoreError(
                "commits are missing between others", where=str(self.url / "ledger"), remedy="Restore them from a copy"
            )
        lines = _lines(self.out)
        common = min(len(lines), len(numbers))
        if common and self._line(common - 1) != lines[common - 1]:
            raise InputError(
                f"commit {common - 1} is not that of {self.out}: another command has written it",
                where=str(self.url),
                remedy=f"Remove {self.out} to resume from the URL, or give another publish=URL",
            )
        for commit, line in zip(commits[common:], lines[common:], strict=True):
            self._push(commit, commits[commit.part - 1].rejects_bytes if commit.part else 0, line)
        for number in numbers[common:]:
            self._pull(number)
        return len(numbers) > common

    def put_part(self, number: int, rows: int) -> None:
        """Write the rows of a part; if its object is there already, that one takes the place of the file.

        Raises:
            InputError: the object has another number of rows.
        """
        path = part_path(self.out, number)
        target = self._part(number)
        if put_if_absent(path, target):
            return
        fetch(target, path)
        with pq.ParquetFile(path) as file:
            present = file.metadata.num_rows
        if present != rows:
            raise InputError(f"has {present:,} rows, and the part has {rows:,}", where=str(target), remedy=OTHER)

    def put_rejects(self, number: int, content: bytes) -> None:
        """Write the rejected rows of a part, if there are any.

        Raises:
            InputError: the object has other rows.
        """
        target = self._rejects(number)
        if content and not put_bytes_if_absent(content, target):
            raise InputError("holds other rows than were rejected here", where=str(target), remedy=OTHER)

    def put_commit(self, number: int, line: bytes) -> None:
        """Write the commit of a part, the objects of which are there.

        Raises:
            InputError: another command has committed this part.
        """
        target = self.url / "ledger" / f"{number:05d}.json"
        if not put_bytes_if_absent(line, target):
            raise InputError(
                "another command has written this commit meanwhile",
                where=str(target),
                remedy="Let one command at a time write to a URL; this one resumes from there once its out is removed",
            )

    def put_end(self) -> None:
        """Write the files of a finished screen, in place of those of a command before it."""
        present = objects_below(self.url)
        for name in RESULTS_OF_END:
            target = self.url / name
            if (self.out / name).is_file():
                put(self.out / name, target)
            elif name in present:
                remove(target)

    def _push(self, commit: Commit, before: int, line: bytes) -> None:
        part = part_path(self.out, commit.part)
        if commit.rows and not put_if_absent(part, self._part(commit.part)):
            raise InputError(f"is not {part}", where=str(self._part(commit.part)), remedy=OTHER)
        with (self.out / REJECTS).open("rb") as file:
            file.seek(before)
            self.put_rejects(commit.part, file.read(commit.rejects_bytes - before))
        self.put_commit(commit.part, line)

    def _pull(self, number: int) -> None:
        """Add a commit of the URL to the directory; nothing counts before its line is in the ledger."""
        line = self._line(number)
        rejects = self._rejects(number)
        if rejects.is_file():
            _append(self.out / REJECTS, rejects.read_bytes())
        part = self._part(number)
        if part.is_file():
            fetch(part, part_path(self.out, number))
        _append(self.out / LEDGER, line)

    def _line(self, number: int) -> bytes:
        return (self.url / "ledger" / f"{number:05d}.json").read_bytes()

    def _part(self, number: int) -> RemotePath:
        path = self.url / "results" / f"part-{number:05d}.parquet"
        assert isinstance(path, RemotePath)
        return path

    def _rejects(self, number: int) -> RemotePath:
        path = self.url / "rejects" / f"part-{number:05d}.csv"
        assert isinstance(path, RemotePath)
        return path


def _lines(out: Path) -> list[bytes]:
    """The lines of the ledger of a directory."""
    length = read_ledger(out)[1]
    if not length:
        return []
    return (out / LEDGER).read_bytes()[:length].splitlines(keepends=True)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
