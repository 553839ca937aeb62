"""Guards calls of libraries that parse foreign files: whatever they raise becomes one line that names the file.

A damaged file makes a library raise whatever its code runs into: `IndexError`, `struct.error`, an error of its own.
Only such a call stands within `parsing`, so that a bug of this project is never reported as damage of the file. A size
that a file declares is compared with its bytes before memory is allocated for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import DAMAGED, InputError

#: Bytes that every file may unpack to, and the largest ratio of unpacked to packed bytes beyond that. Deflate reaches a
#: ratio of 1,032, and fields that are zero nearly everywhere do so.
FREE, RATIO = 1 << 26, 2000
#: Most characters of a library's message that are kept.
MOST_SAID = 300


@contextmanager
def parsing(
    where: object,
    problem: str = "cannot be read",
    *,
    remedy: str = DAMAGED,
    error: type[InputError] = InputError,
) -> Iterator[None]:
    """Turn whatever the enclosed call raises into one line that names the file.

    Args:
        where: the file, and the place in it.
        problem: words before the message of the library.
        remedy: what to do about it.
        error: class of the error; `CorruptStoreError` for files that this project wrote.

    Raises:
        InputError: the call raised anything other than an `InputError` or `ImportError`.
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
    """The first line of an exception's message, or the name of its class."""
    # The text of a `KeyError` has quotes around its message.
    whole = failure.args[0] if isinstance(failure, KeyError) and failure.args else failure
    text = str(whole).strip().split("\n")[0].strip().rstrip(".")
    # Some messages contain all bytes that could not be read.
    return (text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]}...") or type(failure).__name__


class UnpackedBytes:
    """Bytes that a file may unpack to; each part that is read takes its share.

    Args:
        where: the file.
        stored: size of the file, bytes.
    """

    def __init__(self, where: object, stored: int) -> None:
        self.where, self.left = str(where), FREE + RATIO * stored

    def take(self, size: int, what: str) -> None:
        """Take a share before memory is allocated for it.

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
