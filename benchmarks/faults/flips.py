"""Files of ours with a changed bit: a reader may name the damaged file or give the same answer, nothing else.

The same seed changes the same bits.
"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.faults.own_files import FileKind
from data.claim import LOCK
from data.errors import InputError


class Flipper:
    """A bit that is changed in one file after the other of a directory.

    Args:
        kind: what lies in the directory.
        folder: empty; the directory is made in it.
        seed: of the places.
    """

    def __init__(self, kind: FileKind, folder: Path, seed: int) -> None:
        self.kind, self.seed, self.directory = kind, seed, folder / "made"
        kind.make(self.directory)
        self.expected = repr(kind.read(self.directory))
        files = (p for p in sorted(self.directory.rglob("*")) if p.is_file() and p.name != LOCK)
        self.whole = {path: content for path in files if (content := path.read_bytes())}
        self.damaged = next(iter(self.whole))

    def make(self, number: int) -> str:
        """Change one bit of file `number`, counted round and round, and restore the one before; where it was."""
        self.damaged.write_bytes(self.whole[self.damaged])
        chosen = random.Random(f"{self.seed}/{number}/{self.kind.name}")
        self.damaged = list(self.whole)[number % len(self.whole)]
        content = bytearray(self.whole[self.damaged])
        place = chosen.randrange(len(content))
        content[place] ^= 1 << chosen.randrange(8)
        self.damaged.write_bytes(content)
        return f"{self._name} at {place:,}"

    @property
    def _name(self) -> str:
        return str(self.damaged.relative_to(self.directory))

    def outcome(self) -> tuple[str, str]:
        """What came of it, of `trials.OUTCOMES`, and what was said.

        An `InputError` that names something else leads to the wrong place, and counts as a traceback.
        """
        try:
            answer = repr(self.kind.read(self.directory))
        except InputError as error:
            return "named" if self._name in str(error) else "traceback", str(error)
        except Exception as error:
            return "traceback", f"{type(error).__name__}: {error}"
        return ("equal", "") if answer == self.expected else ("silent", "another answer")
