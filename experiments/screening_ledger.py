"""The ledger of a screen: which parts of its results are committed, and what their bytes sum to.

`ledger.jsonl` has a line for each part, which holds its own checksum and those of the part's file and of the rejects so
far. Whoever reads results reads them through here, so that a changed byte is noticed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from data.checksums import crc32_of, seal, unseal
from data.errors import CorruptStoreError
from data.plain import decode, parse_json

LOG = logging.getLogger(__name__)
LEDGER, RESULTS, REJECTS = "ledger.jsonl", "results", "rejects.csv"
_ANEW = "Restore it from a copy, or delete the output directory and start anew"


@dataclass(frozen=True)
class Tally:
    """Counts: rows read, those that are candidates, and of these those outside the training domain, those
    in the domain and in every window, and those with a score."""

    read: int = 0
    valid: int = 0
    out_of_domain: int = 0
    in_window: int = 0
    eligible: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Spent:
    """Time (s) and peak memory (10^6 bytes) of a screen, over all its sessions."""

    seconds: float = 0.0
    core_seconds: float = 0.0
    startup_seconds: float = 0.0
    peak_memory_mb: float = 0.0


@dataclass(frozen=True)
class Commit:
    """One line of the ledger: a part, and the totals of the screen up to its end.

    Attributes:
        part: number of the part, from 0.
        position, line: where the candidates go on after it.
        total: fields of a `Tally`.
        cost: fields of a `Spent`.
        complete: whether the candidates end here and the best are written.
        rows: candidates in its file; without any there is no file.
        bytes: size of the file.
        rejects_bytes: length of `rejects.csv` once its rejects are in.
        file_crc32: of the file; None in ledgers of earlier versions, as without a file.
        rejects_crc32: of so much of `rejects.csv`.
    """

    part: int
    position: int
    line: int
    total: dict[str, int]
    cost: dict[str, float]
    complete: bool = False
    rows: int = 0
    bytes: int = 0
    rejects_bytes: int = 0
    file_crc32: int | None = None
    rejects_crc32: int | None = None

    @staticmethod
    def of(part: int, position: int, line: int, total: Tally, cost: Spent, *, complete: bool = False) -> Commit:
        """An entry for a part that is yet to be written."""
        return Commit(part, position, line, asdict(total), asdict(cost), complete)

    def tally(self) -> Tally:
        """The counts."""
        # Ledgers of earlier versions call the rows that were read molecules.
        return Tally(**{"read" if name == "molecules" else name: count for name, count in self.total.items()})

    def spent(self) -> Spent:
        """The cost."""
        return Spent(**self.cost)


def part_path(out: Path, part: int) -> Path:
    """Where a part of a screen in `out` lies."""
    return out / RESULTS / f"part-{part:05d}.parquet"


def ledger_line(commit: Commit) -> bytes:
    """A part as its line of the ledger."""
    return (json.dumps(seal(asdict(commit))) + "\n").encode()


def read_ledger(out: Path) -> tuple[list[Commit], int]:
    """The committed parts of a screen, and the bytes of the ledger that tell of them.

    Behind those there may be a line that was being written when the run was killed.

    Raises:
        CorruptStoreError: a line is not what was written.
    """
    path = out / LEDGER
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    *lines, torn = content.split(b"\n")
    commits: list[Commit] = []
    for number, line in enumerate(lines):
        try:
            commits.append(_commit(line, f"{path}, line {number + 1}"))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, number, str(error)) from error
        if commits[-1].part != number:
            raise _damaged(path, number, f"it tells of part {commits[-1].part}, not {number}")
    if torn and _is_commit(torn[:-1]):
        raise _damaged(path, len(lines), "its line break is not what was written")
    return commits, len(content) - len(torn)


def _commit(line: bytes, where: str) -> Commit:
    commit = decode(Commit, unseal(decode(dict[str, Any], parse_json(line)), where=where, remedy=_ANEW, warn=False))
    # Of the names that they have to have.
    commit.tally()
    commit.spent()
    return commit


def _is_commit(line: bytes) -> bool:
    try:
        return isinstance(_commit(line, ""), Commit)
    except (ValueError, TypeError, AttributeError, RecursionError, CorruptStoreError):
        return False


def _damaged(path: Path, number: int, problem: str) -> CorruptStoreError:
    return CorruptStoreError(f"line {number + 1} is damaged: {problem}", where=str(path), remedy=_ANEW)


def verify_part(out: Path, commit: Commit) -> None:
    """Check the file of a part.

    Raises:
        CorruptStoreError: it is missing or not what was written.
    """
    path = part_path(out, commit.part)
    if not commit.rows:
        return
    if not path.is_file() or path.stat().st_size != commit.bytes:
        problem = "missing" if not path.is_file() else "not as long as it was"
    elif commit.file_crc32 is not None and crc32_of(path) != commit.file_crc32:
        problem = "not what was written: its checksum differs"
    else:
        return
    raise CorruptStoreError(f"a committed part is {problem}", where=str(path), remedy=_ANEW)


def verify_rejects(out: Path, commit: Commit) -> None:
    """Check so much of `rejects.csv` as a part and those before it rejected.

    Raises:
        CorruptStoreError: it is missing or not what was written.
    """
    path, size = out / REJECTS, commit.rejects_bytes
    if not size:
        return
    if not path.is_file() or path.stat().st_size < size:
        problem = "committed rejects are missing"
    elif commit.rejects_crc32 is not None and crc32_of(path, size) != commit.rejects_crc32:
        problem = "committed rejects are not what was written: their checksum differs"
    else:
        return
    raise CorruptStoreError(problem, where=str(path), remedy=_ANEW)


def refuse_lost_ledger(out: Path, parts: int) -> None:
    """Refuse results that reach further than the ledger: a kill leaves no more than the file of the next part.

    Args:
        out: of the screen.
        parts: of which the ledger tells.

    Raises:
        CorruptStoreError: lines of the ledger, or all of it, were lost.
    """
    last = max((part_number(path) for path in (out / RESULTS).glob("part-*.parquet")), default=-1)
    if last > parts:
        raise CorruptStoreError(
            f"it tells of {parts} parts, and {RESULTS} has part {last}: lines of it were lost",
            where=str(out / LEDGER),
            remedy=_ANEW,
        )


def part_number(path: Path) -> int:
    """Of the file of a part; -1 for what is named otherwise."""
    digits = path.stem.removeprefix("part-")
    return int(digits) if digits.isascii() and digits.isdigit() else -1


def say_unverified(out: Path, commits: list[Commit]) -> None:
    """Say how many parts are of an earlier version, which noted no checksums."""
    if count := sum(c.rows > 0 and c.file_crc32 is None for c in commits):
        LOG.warning("%s: %d parts were written without checksums, so that changed bytes go unnoticed", out, count)


def result_parts(out: Path) -> list[Path]:
    """The files of the results of a screen, in order, each of them what was written.

    Raises:
        CorruptStoreError: the ledger or a file is damaged or missing.
    """
    commits, _ = read_ledger(out)
    if not commits:
        # Results that were brought from elsewhere have no ledger.
        return sorted((out / RESULTS).glob("part-*.parquet"))
    refuse_lost_ledger(out, len(commits))
    say_unverified(out, commits)
    for commit in commits:
        verify_part(out, commit)
    return [part_path(out, commit.part) for commit in commits if commit.rows]


def verified_rejects(out: Path) -> Path:
    """`rejects.csv` of a screen, which is what was written.

    Raises:
        CorruptStoreError: the ledger or the rejects are damaged.
    """
    commits, _ = read_ledger(out)
    if commits:
        verify_rejects(out, commits[-1])
    return out / REJECTS
