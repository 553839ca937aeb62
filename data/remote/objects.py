"""What every server of objects answers: the size and the version of an object, and a range of its bytes.

Requests that fail for a passing reason are repeated with growing pauses; all others become one line that names the URL
and the remedy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from data.errors import InputError

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds before each further try of a request; the first one counts as well.
PAUSES_S = (0.5, 2.0, 8.0, 20.0)
CHANGED = "the object was changed since this command first looked at it"
CHANGED_REMEDY = "Run the command again once nothing writes to it"


@dataclass(frozen=True)
class ObjectFacts:
    """An object as a server describes it.

    Attributes:
        size: bytes.
        version: what changes with the content, such as an ETag or a time of change; "" where the server says neither.
        modified: time of change, seconds since 1970; 0 where the server does not say it.
    """

    size: int
    version: str
    modified: float = 0.0


class MissingObjectError(InputError):
    """The server has no such object."""


class PassingError(Exception):
    """A request failed for a reason that may be gone at the next try."""


class ObjectServer(Protocol):
    """Objects of one kind of server. Methods raise `PassingError`, or an `InputError` that is final."""

    def facts(self, url: str) -> ObjectFacts:
        """Size and version of an object.

        Raises:
            MissingObjectError: there is none.
        """
        ...

    def read(self, url: str, start: int, end: int, facts: ObjectFacts) -> bytes:
        """The bytes from `start` to before `end`.

        Raises:
            InputError: the object is no longer the one that `facts` describes.
        """
        ...


def repeated(request: Callable[[], T], url: str) -> T:
    """The answer to a request, which is repeated where it fails for a passing reason.

    Raises:
        InputError: it failed each time, or for another reason.
    """
    for pause in (*PAUSES_S, None):
        try:
            return request()
        except PassingError as error:
            if pause is None:
                raise InputError(
                    f"no answer in {len(PAUSES_S) + 1} tries: {error}",
                    where=shown(url),
                    remedy="Check the network and the address; the same command resumes",
                ) from error
            LOG.info("%s: %s; the next try is in %g s", shown(url), error, pause)
            time.sleep(pause)
    raise AssertionError


def shown(url: str) -> str:
    """A URL for messages and files, without its query, which may hold a signature that gives access."""
    address, mark, _ = url.partition("?")
    return f"{address}?..." if mark else address


def missing(url: str) -> MissingObjectError:
    """The error for an object that does not exist."""
    return MissingObjectError("no such object (404)", where=shown(url), remedy="Check the URL")


def changed(url: str) -> InputError:
    """The error for an object that is no longer the one that reading began with."""
    return InputError(CHANGED, where=shown(url), remedy=CHANGED_REMEDY)
