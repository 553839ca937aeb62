"""Calls into libraries that parse what others wrote: whatever they raise becomes one line that names the file.

A damaged file makes a library raise whatever its code runs into: `IndexError`, `struct.error`, an error of its own.
Such a call stands in `parsing`, and only the call, so that a fault of ours is never taken for one of the file. What a
file says of its own size is held against its bytes before memory is taken for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import InputError

DAMAGED = "It may be cut short or damaged: fetch or write it again"
#: Bytes that may always be asked for, and how many times the bytes of a file what it unpacks to may be. Deflate reaches
#: 1,032 times, and fields that are zero nearly everywhere do so.
FREE, RATIO = 1 << 26, 2000
#: Characters of what a library says that are passed on.
MOST_SAID = 300


@contextmanager
def parsing(
    where: object,
    problem: str = "cannot be read",
    *,
    remedy: str = DAMAGED,
    error: type[InputError] = InputError,
) -> Iterator[None]:
    """Around a call of a library that parses a file.

    Args:
        where: the file, and the place in it.
        problem: said before what the library says.
        remedy: what to do about it.
        error: what is raised; `CorruptStoreError` for files of our own.

    Raises:
        InputError: the call raised anything but that, or an `ImportError` of something that is not installed.
    """
    try:
        yield
    except (InputError, ImportError):
        raise
    except MemoryError as lack:
        raise error(f"{problem}: it needs more memory than there is", where=str(where), remedy=remedy) from lack
    except Exception as failure:
        raise error(f"{problem}: {first_line(failure)}", where=str(where), remedy=remedy) from failure


def first_line(failure: BaseException) -> str:
    """The first line of what an exception says, or its name."""
    # A `KeyError` shows the quotes of what it says.
    whole = failure.args[0] if isinstance(failure, KeyError) and failure.args else failure
    text = str(whole).strip().split("\n")[0].strip().rstrip(".")
    # Some show the bytes that they could not read, all of them.
    return (text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]}...") or type(failure).__name__


class Budget:
    """Bytes that a file may unpack to; each part that is read takes its share.

    Args:
        where: the file.
        stored: its bytes.
    """

    def __init__(self, where: object, stored: int) -> None:
        self.where, self.left = str(where), FREE + RATIO * stored

    def take(self, size: int, what: str) -> None:
        """Ask for memory before it is taken.

        Raises:
            InputError: the file is too small to hold so much.
        """
        if size < 0 or size > self.left:
            raise InputError(
                f"{what} is said to have {size:,} bytes, more than the file can hold",
                where=self.where,
                remedy="It is damaged, or made to fill the memory: fetch or write it again",
            )
        self.left -= size
