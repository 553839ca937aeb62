"""The ledger of a screen, which lists the committed parts of its results with their checksums.

`ledger.jsonl` has a line for each part, which contains its own checksum and those of the file of the part and of the
rejects so far. All code that reads results reads them through this module, so that a changed byte is detected.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from data.checksums import crc32_of, seal, unseal
from data.errors import CorruptStoreError
from data.json_files import parse_json
from data.plain import from_plain

LOG = logging.getLogger(__name__)
LEDGER, RESULTS, REJECTS = "ledger.jsonl", "results", "rejects.csv"
_ANEW = "Restore it from a copy, or delete the output directory and start anew"


@dataclass(frozen=True)
class Tally:
    """Number of rows read, of candidates, and of candidates outside the domain, in all windows, and with a score."""

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
        position, line: position and line of the first candidate after the part.
        total: fields of a `Tally`.
        cost: fields of a `Spent`.
        complete: whether the candidates end here and the best are written.
        rows: number of candidates in the file of the part; there is no file if it is 0.
        bytes: size of the file.
        rejects_bytes: length of `rejects.csv` with the rejects of this part.
        file_crc32: checksum of the file; None without a file, and in ledgers of earlier versions.
        rejects_crc32: checksum of the first `rejects_bytes` of `rejects.csv`.
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
        """An entry for a part that is not written yet."""
        return Commit(part, position, line, asdict(total), asdict(cost), complete)

    def tally(self) -> Tally:
        """The counts."""
        # Ledgers of earlier versions call the rows that were read molecules.
        return Tally(**{"read" if name == "molecules" else name: count for name, count in self.total.items()})

    def spent(self) -> Spent:
        """The cost."""
        return Spent(**self.cost)


def part_path(out: Path, part: int) -> Path:
    """Path of a part of a screen in `out`."""
    return out / RESULTS / f"part-{part:05d}.parquet"


def ledger_line(commit: Commit) -> bytes:
    """The line of the ledger for a part."""
    return (json.dumps(seal(asdict(commit))) + "\n").encode()


def read_ledger(out: Path) -> tuple[list[Commit], int]:
    """The committed parts of a screen, and the number of bytes of the ledger that list them.

    An incomplete line may follow these bytes, if the run was killed while it was written.

    Raises:
        CorruptStoreError: a line differs from what was written.
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
    commit = from_plain(
        Commit, unseal(from_plain(dict[str, Any], parse_json(line)), where=where, remedy=_ANEW, warn=False)
    )
    # This checks the names of their fields.
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
    """Check the rejects in `rejects.csv` of a part and those before it.

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
    """Refuse results with more parts than the ledger lists: a kill leaves at most the file of the next part.

    Args:
        out: directory of the screen.
        parts: number of parts in the ledger.

    Raises:
        CorruptStoreError: lines of the ledger, or the whole ledger, were lost.
    """
    last = max((part_number(path) for path in (out / RESULTS).glob("part-*.parquet")), default=-1)
    if last > parts:
        raise CorruptStoreError(
            f"it lists {parts} parts, and {RESULTS} has part {last}: lines of the ledger were lost",
            where=str(out / LEDGER),
            remedy=_ANEW,
        )


def part_number(path: Path) -> int:
    """Number of a part from the name of its file; -1 for files with other names."""
    digits = path.stem.removeprefix("part-")
    return int(digits) if digits.isascii() and digits.isdigit() else -1


def say_unverified(out: Path, commits: list[Commit]) -> None:
    """Warn about parts of an earlier version, which saved no checksums."""
    if count := sum(c.rows > 0 and c.file_crc32 is None for c in commits):
        LOG.warning("%s: %d parts were written without checksums, so that changed bytes go unnoticed", out, count)


def result_parts(out: Path) -> list[Path]:
    """The verified files of the results of a screen, in order.

    Raises:
        CorruptStoreError: the ledger or a file is damaged or missing.
    """
    commits, _ = read_ledger(out)
    if not commits:
        # Results that were copied without their ledger are not verified.
        return sorted((out / RESULTS).glob("part-*.parquet"))
    refuse_lost_ledger(out, len(commits))
    say_unverified(out, commits)
    for commit in commits:
        verify_part(out, commit)
    return [part_path(out, commit.part) for commit in commits if commit.rows]


def verified_rejects(out: Path) -> Path:
    """Path of the verified `rejects.csv` of a screen.

    Raises:
        CorruptStoreError: the ledger or the rejects are damaged.
    """
    commits, _ = read_ledger(out)
    if commits:
        verify_rejects(out, commits[-1])
    return out / REJECTS
