"""Shards: parts of one piece of work that separate commands do, on any machines, without a scheduler between them.

Shard i of n of a command with `out=OUT` is a run of its own in `OUT.shards/i-of-n`; `understudy merge OUT` makes `OUT`
of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError

_TEXT = re.compile(r"(\d{1,9})/(\d{1,9})")
_NAME = re.compile(r"(\d{1,9})-of-(\d{1,9})")
SUFFIX = ".shards"


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1.

    Raises:
        ValueError: the number is not from 1 to the count.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"a shard is one of 1/{self.count} to {self.count}/{self.count}, got {self}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """Name of its directory."""
        return f"{self.number}-of-{self.count}"

    @staticmethod
    def parse(text: str) -> Shard:
        """The shard of a text such as "2/8".

        Raises:
            InputError: it is none.
        """
        match = _TEXT.fullmatch(text.strip())
        if match and 1 <= int(match[1]) <= int(match[2]):
            return Shard(int(match[1]), int(match[2]))
        raise InputError(
            f"{text!r} is no shard", where="shard", remedy="Give shard=i/n with i from 1 to n, such as 2/8"
        )

    def takes_key(self, key: str) -> bool:
        """Whether the request with this key, a SHA-256 in hexadecimal digits, belongs to it."""
        return int(key[:16], 16) % self.count == self.number - 1

    def span(self, total: int) -> tuple[int, int]:
        """First and last plus one of its items, of `total` items in a fixed order; the spans follow one another."""
        return total * (self.number - 1) // self.count, total * self.number // self.count

    def directory(self, out: Path) -> Path:
        """Directory of its run."""
        return shards_directory(out) / self.name


def shards_directory(out: Path) -> Path:
    """The directory that holds the shards of an output."""
    return out.with_name(out.name + SUFFIX)


def shards_in(out: Path) -> Sequence[Shard]:
    """All shards of an output, in their order, of which at least one has a directory.

    Raises:
        InputError: there are none, or their counts differ.
    """
    folder = shards_directory(out)
    matches = [_NAME.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ()) if path.is_dir()]
    counts = sorted({int(match[2]) for match in matches if match})
    if not counts:
        raise InputError(
            f"there are no shards of it in {folder}", where=str(out), remedy="Run the command with shard=1/2 and so on"
        )
    if len(counts) > 1:
        raise InputError(
            f"holds shards of {' and of '.join(map(str, counts))}",
            where=str(folder),
            remedy="Remove the directories of the number that you do not mean",
        )
    return [Shard(number, counts[0]) for number in range(1, counts[0] + 1)]


def whole_of(shard: Shard, directory: Path) -> Path:
    """The output of which a directory holds a shard, or something within the directory of the shard.

    Raises:
        InputError: the path is not one that `Shard.directory` gives.
    """
    for path in (directory, *directory.parents):
        if path.name == shard.name and path.parent.name.endswith(SUFFIX):
            return path.parent.with_name(path.parent.name.removesuffix(SUFFIX))
    raise InputError(
        f"shard {shard} is written to OUT{SUFFIX}/{shard.name}",
        where=str(directory),
        remedy="Give out=OUT on the command line together with shard",
    )
