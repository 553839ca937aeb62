"""Files that are broken on purpose, and what a reader does with them: the fuzzer of tests and of `faults`.

A reader is a pair of functions: one writes a valid file, one reads a file to its end. Of a broken file a reader may
give an answer or an `InputError` of one line; anything else is counted as a fault of ours, and so are more memory or
time than the file's size accounts for. The same seed breaks the same bytes.
"""

from __future__ import annotations

import random
import re
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import InputError

#: What becomes of a broken file; the last six are faults of ours.
OUTCOMES = ("answer", "named", "unnamed", "traceback", "lines", "memory", "hang", "crash")
_NUMBER = re.compile(rb"\d+")
_NUMBERS = (b"0", b"-1", b"999999999999", b"4294967296", b"1e999", b"nan", b"\xc2\xb2", b"", b"1.5", b"2147483647")
_WORDS = tuple(
    value.to_bytes(size, order, signed=value < 0)
    for size in (1, 2, 4, 8)
    for value in (0, 1, -1, (1 << (8 * size - 1)) - 1, -(1 << (8 * size - 1)), 1 << (8 * size - 2))
    for order in ("little", "big")
)


#: The bytes of a file, those of another one, and what decides, to broken bytes.
Change = Callable[[bytes, bytes, random.Random], bytes]


@dataclass(frozen=True)
class FaultReader:
    """A kind of file that is read.

    Attributes:
        name: of it, such as "netcdf".
        file: name of the file, or of the directory, that is read.
        make: writes a valid one at a path; another seed writes another one.
        read: reads all of what lies at a path.
        parts: of a directory, the pattern of the files that are broken.
        changes: name of a change that this kind of file takes besides those of its bytes -> what makes it; as often
            drawn as those, and alone.
    """

    name: str
    file: str
    make: Callable[[Path, int], None]
    read: Callable[[Path], object]
    parts: str = "*"
    changes: tuple[tuple[str, Change], ...] = ()


@dataclass
class FaultTally:
    """What became of the broken files of a reader.

    Attributes:
        outcomes: of `OUTCOMES`, how many.
        faults: (number of the mutation, what was broken, outcome, what was said) of those that are faults of ours.
        peak: most memory that one of them took above that of the process, bytes.
        slowest: seconds that the slowest took.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, str, str]] = field(default_factory=list)
    peak: int = 0
    slowest: float = 0.0

    def add(self, number: int, how: str, outcome: str, said: str, peak: int = 0, seconds: float = 0.0) -> None:
        """Count one."""
        self.outcomes[outcome] += 1
        self.peak, self.slowest = max(self.peak, peak), max(self.slowest, seconds)
        if outcome not in ("answer", "named"):
            self.faults.append((number, how, outcome, said))


def mutated(content: bytes, other: bytes, rng: random.Random) -> tuple[str, bytes]:
    """The bytes of a file, broken in one to three ways.

    Args:
        content: of the file.
        other: of another valid file of the kind, that is spliced in.
        rng: decides what is broken.

    Returns:
        What was done, and what came of it.
    """
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name, change = rng.choice(MUTATIONS)
        names.append(name)
        content = change(content, other, rng)
    return "+".join(names), content


def _place(content: bytes, rng: random.Random) -> int:
    """A position: anywhere, or near the head or the end, where formats say what they hold."""
    size = max(1, len(content))
    near = min(size, 512)
    return rng.choice((rng.randrange(size), rng.randrange(near), size - 1 - rng.randrange(near)))


def _length(rng: random.Random) -> int:
    return rng.choice((1, 2, 4, 8, 64, 1024))


def _flip(content: bytes, _: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _bit in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, _: bytes, rng: random.Random) -> bytes:
    at, new = _place(content, rng), rng.randbytes(_length(rng))
    return content[:at] + new + content[at + len(new) :]


def _word(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """A number at the edge of what its bytes can hold, in place of some bytes."""
    at, new = _place(content, rng), rng.choice(_WORDS)
    return content[:at] + new + content[at + len(new) :]


def _number(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """Another number in place of one that is written in digits; of the first or of any."""
    numbers = list(_NUMBER.finditer(content[: 1 << 16]))
    if not numbers:
        return content
    match = rng.choice(numbers[: rng.choice((8, len(numbers)))])
    return content[: match.start()] + rng.choice(_NUMBERS) + content[match.end() :]


def _truncate(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _insert(content: bytes, _: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.randbytes(_length(rng)) + content[at:]


def _remove(content: bytes, _: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at + _length(rng) :]


def _double(content: bytes, _: bytes, rng: random.Random) -> bytes:
    at, size = _place(content, rng), _length(rng)
    return content[:at] + content[at : at + size] * rng.choice((2, 2, 50)) + content[at + size :]


def _splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)] + other[_place(other, rng) :]


MUTATIONS: tuple[tuple[str, Callable[[bytes, bytes, random.Random], bytes]], ...] = (
    ("flip", _flip),
    ("overwrite", _overwrite),
    ("word", _word),
    ("number", _number),
    ("truncate", _truncate),
    ("insert", _insert),
    ("remove", _remove),
    ("double", _double),
    ("splice", _splice),
)


class Breaker:
    """Broken copies of a valid file, or of a directory of which one file is broken.

    Args:
        reader: whose file it is.
        folder: empty; two valid files and the broken one lie in it.
        seed: of all.
    """

    def __init__(self, reader: FaultReader, folder: Path, seed: int) -> None:
        self.reader, self.seed = reader, seed
        self.valid = [folder / "valid" / reader.file, folder / "other" / reader.file]
        self.path = folder / "broken" / reader.file
        for number, path in enumerate(self.valid):
            path.parent.mkdir(parents=True)
            reader.make(path, 2 * seed + number)
        self.path.parent.mkdir()

    def make(self, number: int) -> str:
        """Write broken file `number` at `path`; what was done to it."""
        rng = random.Random(f"{self.seed}/{number}/{self.reader.name}")
        if self.path.is_dir():
            shutil.rmtree(self.path)
        target, source, other = self.path, self.valid[0], self.valid[1]
        if source.is_dir():
            shutil.copytree(source, self.path)
            part = rng.choice(sorted(p.relative_to(source) for p in source.rglob(self.reader.parts) if p.is_file()))
            target, source, other = self.path / part, source / part, other / part
        whole, another = source.read_bytes(), other.read_bytes() if other.is_file() else b""
        if self.reader.changes and rng.random() < 0.75:
            how, change = rng.choice(self.reader.changes)
            content = change(whole, another, rng)
        else:
            how, content = mutated(whole, another, rng)
        target.write_bytes(content)
        return how if target == self.path else f"{target.relative_to(self.path)}: {how}"

    def outcome(self) -> tuple[str, str]:
        """What the reader makes of the broken file; see `outcome_of`. `unnamed`: it is not said which file it is."""
        outcome, said = outcome_of(self.reader.read, self.path)
        # Some readers take what is broken out of a file of another suffix.
        lacks = self.path.name not in said and f"/{self.path.stem}" not in said
        return "unnamed" if outcome == "named" and lacks else outcome, said


def outcome_of(read: Callable[[Path], object], path: Path) -> tuple[str, str]:
    """What a reader makes of a file: one of `OUTCOMES`, and what was said."""
    try:
        read(path)
    except InputError as error:
        text = str(error)
        if _lacked_memory(error):
            return "memory", text
        if len(text.splitlines()) != 1 or len(text) > 2000 or not text.isprintable():
            return "lines", text
        return "named", text
    except MemoryError as error:
        return "memory", repr(error)
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename][-1]
        return (
            "traceback",
            f"{type(error).__name__}: {error} ({ours.filename}:{ours.lineno}, {at.filename}:{at.lineno})",
        )
    return "answer", ""


def _lacked_memory(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def broken_here(reader: FaultReader, folder: Path, count: int, *, seed: int = 0) -> FaultTally:
    """Read so many broken files in this process, which a crash or a hang would end; memory is not measured."""
    breaker, tally = Breaker(reader, folder, seed), FaultTally()
    reader.read(breaker.valid[0])
    for number in range(count):
        how = breaker.make(number)
        start = time.perf_counter()
        tally.add(number, how, *breaker.outcome(), 0, time.perf_counter() - start)
    return tally
