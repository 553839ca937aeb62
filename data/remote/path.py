"""Paths of files at URLs, which readers open, measure and name like those of this machine.

A reader that takes a `pathlib.Path` and opens it by `path.open("rb")` reads from a URL as well, in ranges and with the
memory of one range. Where a library opens a file by its name, a URL is refused with a remedy.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import Any

from data.errors import InputError
from data.remote.objects import MissingObjectError, ObjectFacts, ObjectServer, repeated, shown
from data.remote.ranges import BLOCK, RangeReader

#: What a URL begins with -> what reads it.
SCHEMES = ("s3://", "gs://", "https://", "http://")
#: Object that makes a prefix a directory: the card of a prepared library.
CARD = "library.json"
_SERVERS: dict[str, ObjectServer] = {}


def path_of(text: str | Path) -> Path:
    """The path that a setting names: of a file at a URL, or of one of this machine.

    Raises:
        InputError: it is a URL that cannot be used.
    """
    if isinstance(text, RemotePath):
        return text
    if not is_url(text):
        return Path(text).expanduser()
    path = RemotePath(str(text))
    if path.url != str(text) or "#" in str(text) or len(path.parts) < 3 or ".." in path.parts:
        raise InputError(
            "is no URL of an object: it has an empty part, a dot for a part, a fragment or no name",
            where=shown(str(text)),
            remedy="Write such as s3://bucket/name.csv or https://host/name.csv",
        )
    return path


def is_url(text: object) -> bool:
    """Whether a setting is a URL of an object."""
    return isinstance(text, RemotePath) or (isinstance(text, str) and text.startswith(SCHEMES))


def server_of(url: str) -> ObjectServer:
    """What answers for a URL; one for each scheme.

    Raises:
        InputError: a package is not installed.
    """
    scheme = url.partition("://")[0]
    if scheme not in _SERVERS:
        if scheme in ("http", "https"):
            from data.remote.web import Web

            _SERVERS[scheme] = Web()
        else:
            from data.remote.buckets import Bucket

            _SERVERS[scheme] = Bucket(scheme)
    return _SERVERS[scheme]


class RemotePath(PosixPath):
    """The path of an object.

    Its size and version are asked for once; reading refuses an object that has changed since.
    """

    _query: str = ""
    _facts: ObjectFacts | None = None

    def __new__(cls, *segments: str | Path) -> RemotePath:
        """A path of a URL, or of segments of one."""
        return super().__new__(cls, *map(_without_query, segments))

    def __init__(self, *segments: str | Path) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(*map(_without_query, segments))
        first = segments[0] if segments else ""
        if len(segments) == 1 and isinstance(first, str) and first.startswith("http"):
            self._query = first[len(_without_query(first)) :]

    @property
    def url(self) -> str:
        """The address, with its query."""
        return super().__str__().replace(":/", "://", 1) + self._query

    def __str__(self) -> str:
        """The address for messages and files, without its query."""
        return shown(self.url)

    def __fspath__(self) -> str:
        """Refused: a library that opens a file by its name does not read from a URL.

        Raises:
            InputError: always.
        """
        raise InputError(
            "this kind of file is not read from a URL",
            where=str(self),
            remedy="Copy it to this machine and name the copy",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """By its URL."""
        return type(self), (self.url,)

    def facts(self) -> ObjectFacts:
        """Size and version when it was first looked at.

        Raises:
            InputError: there is no such object, or it cannot be reached.
        """
        if self._facts is None:
            url = self.url
            self._facts = repeated(lambda: server_of(url).facts(url), url)
        return self._facts

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Its size and time of change."""
        facts = self.facts()
        time = int(facts.modified)
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, facts.size, time, time, time))

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            self.facts()
        except MissingObjectError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether it is the prefix of a prepared library."""
        return not self.suffix and self.name != CARD and (self / CARD).is_file()

    def exists(self) -> bool:
        """Whether it is either."""
        return self.is_dir() or self.is_file()

    def is_symlink(self) -> bool:
        """No object is a link."""
        return False

    def expanduser(self) -> RemotePath:
        """Itself."""
        return self

    def absolute(self) -> RemotePath:
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        """Itself."""
        return self

    def glob(self, *args: Any, **kwargs: Any) -> Iterator[Path]:  # type: ignore[override]
        """Nothing: only objects with known names are read."""
        return iter(())

    def open(self, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """The object as a binary stream that can be sought in.

        Raises:
            InputError: it is to be written, or is no such object.
        """
        if mode != "rb":
            raise InputError(
                "is not written to", where=str(self), remedy="Write to this machine; see understudy publish"
            )
        return self.stream()

    def read_bytes(self) -> bytes:
        """All bytes of a small object."""
        with self.stream() as file:
            return file.read()

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """All text of a small object."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def stream(self, block: int = BLOCK) -> io.BufferedReader:
        """The object as a binary stream.

        Args:
            block: bytes that are asked for at once, at least; small where single places of it are read.
        """
        url = self.url
        return io.BufferedReader(RangeReader(server_of(url), url, self.facts(), block), min(block, 1 << 20))


def _without_query(segment: str | Path) -> Any:
    """A segment without the query of a web address, which is no part of its name."""
    return segment.partition("?")[0] if isinstance(segment, str) and segment.startswith("http") else segment
