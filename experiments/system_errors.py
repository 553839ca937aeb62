"""What the operating system refuses, in one line: the file, what is wrong with it, and what to do.

The errors are found where they are, beneath those of the libraries that they came through; some libraries keep no more
of them than their text.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping

from data.errors import InputError

RESUMES = "and give the same command again, which goes on from what is on the disk"
ROOM = f"Make room there, such as by removing runs and checkpoints that nobody needs, {RESUMES}"
OTHER = "Name another path"
OPEN_FILES = f"Allow more (ulimit -n), or set fewer workers, {RESUMES}"
#: What the file system refuses because of a path, a disk or a limit, which a person has to mend -> the remedy.
REMEDIES: Mapping[int, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), ROOM),
    errno.EFBIG: f"Raise the limit on the size of a file (ulimit -f), or name a disk that takes larger ones, {RESUMES}",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), OPEN_FILES),
    errno.EIO: f"Look after the disk, {RESUMES}",
    errno.ESTALE: f"The network file system lost it: look after that, {RESUMES}",
    errno.EROFS: "Name a path on a disk that can be written to",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Change its permissions, or name another path"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP), OTHER),
    errno.EBUSY: f"Wait until nothing else uses it, {RESUMES}",
}
#: As the text of an error of a library that wraps one of the system.
TEXTS: Mapping[str, int] = {
    r"No space left on device|disk is full": errno.ENOSPC,
    r"Disk quota exceeded": errno.EDQUOT,
    r"File too large": errno.EFBIG,
    r"Too many open files": errno.EMFILE,
    r"Read-only file system": errno.EROFS,
}
#: As a shell says of a command whose reader went away.
BROKEN_PIPE = 128 + 13


def system_error(error: BaseException | None, where: str | None = None) -> InputError | None:
    """What to say of what the system refused, if that is what an error comes from.

    Args:
        error: whatever it was seen as.
        where: what to name where the system names no file.
    """
    for cause in _causes(error):
        number = _number(cause)
        if number is None:
            continue
        name = getattr(cause, "filename", None)
        if name is None and number in (errno.ENOENT, errno.EEXIST):
            continue
        said = os.strerror(number)
        place = os.fsdecode(name) if isinstance(name, str | bytes) else where
        return InputError(said[:1].lower() + said[1:], where=place, remedy=REMEDIES[number])
    return None


def _number(cause: BaseException) -> int | None:
    if isinstance(cause, OSError) and cause.errno in REMEDIES:
        return cause.errno
    if isinstance(cause, InputError):
        return None
    text = str(cause)
    return next((number for pattern, number in TEXTS.items() if re.search(pattern, text)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def reader_is_gone() -> bool:
    """Whether what reads the standard output was closed, as `head` does after its lines; then it is left alone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        return True
    except (OSError, ValueError):
        return False
    return False


def silence() -> None:
    """Let what the standard output still holds go nowhere, so that the end of the process does not complain of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # it is no file
    finally:
        os.close(nowhere)
