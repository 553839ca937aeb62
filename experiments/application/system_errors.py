"""Reports errors of the operating system in one line: the file, the problem and the remedy.

These errors are searched for in the chain of causes of an exception, because libraries wrap them; some libraries keep
only their text.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping

from data.errors import InputError, SystemRefusalError

RESUMES = "and give the same command again, which resumes from what is on the disk"
ROOM = f"Make room there, such as by removing runs and checkpoints that nobody needs, {RESUMES}"
OTHER = "Name another path"
OPEN_FILES = f"Allow more (ulimit -n), or set fewer workers, {RESUMES}"
#: Errors of a path, a disk or a limit that the user has to correct -> remedy.
REMEDIES: Mapping[int, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), ROOM),
    errno.EFBIG: f"Raise the limit on the size of a file (ulimit -f), or name a disk that takes larger ones, {RESUMES}",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), OPEN_FILES),
    errno.EIO: f"Check the disk, {RESUMES}",
    errno.ESTALE: f"The network file system lost it: check it, {RESUMES}",
    errno.EROFS: "Name a path on a disk that can be written to",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Change its permissions, or name another path"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP), OTHER),
    errno.EBUSY: f"Wait until nothing else uses it, {RESUMES}",
}
#: Text in the error of a library -> the error of the system that it wraps.
TEXTS: Mapping[str, int] = {
    r"No space left on device|disk is full": errno.ENOSPC,
    r"Disk quota exceeded": errno.EDQUOT,
    r"File too large": errno.EFBIG,
    r"Too many open files": errno.EMFILE,
    r"Read-only file system": errno.EROFS,
}
#: The place of an error of the standard output.
STANDARD_OUTPUT = "standard output"
#: Exit status that a shell reports for a command whose reader closed the pipe (SIGPIPE).
BROKEN_PIPE = 128 + 13


def system_error(error: BaseException | None, where: str | None = None) -> InputError | None:
    """The error message for a refusal of the operating system, if that is the cause of an error.

    Args:
        error: exception that was caught.
        where: place to name if the system names no file.
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
        file = None if place in (None, STANDARD_OUTPUT) else place
        return SystemRefusalError(said[:1].lower() + said[1:], where=place, file=file, remedy=REMEDIES[number])
    return None


def _number(cause: BaseException) -> int | None:
    if isinstance(cause, OSError) and cause.errno in REMEDIES:
        return cause.errno
    if isinstance(cause, InputError):
        return None
    text = str(cause)
    return next((number for pattern, number in TEXTS.items() if re.search(pattern, text)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its chain of causes, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def reader_is_gone() -> bool:
    """Whether the reader of the standard output closed it, as `head` does; the output is then silenced."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        return True
    except (OSError, ValueError):
        return False
    return False


def silence() -> None:
    """Discard what is left in the standard output, so that the process ends without an error about it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # it is no file
    finally:
        os.close(nowhere)
