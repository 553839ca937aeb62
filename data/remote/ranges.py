"""An object at a URL as a stream that can be sought in, with one range of it in memory."""

from __future__ import annotations

import io
from typing import Any

from data.remote.objects import ObjectFacts, ObjectServer, repeated

#: Bytes of a range for reading from the start to the end.
BLOCK = 1 << 22


class RangeReader(io.RawIOBase):
    """Reads an object in ranges; each is asked for again where the request fails for a passing reason.

    Args:
        server: answers the requests.
        url: of the object.
        facts: the object when reading began; a later version is refused.
        block: bytes of a range, at least.
    """

    def __init__(self, server: ObjectServer, url: str, facts: ObjectFacts, block: int = BLOCK) -> None:
        self._server, self._url, self._facts, self._block = server, url, facts, block
        self._position = 0
        self._start, self._range = 0, b""

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, which costs nothing until it is read from."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._facts.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the range in memory goes; of a new range, if it begins elsewhere.

        Raises:
            InputError: the object cannot be read further, or was changed.
        """
        view = memoryview(buffer).cast("B")
        if not view or self._position >= self._facts.size:
            return 0
        if not self._start <= self._position < self._start + len(self._range):
            start = self._position
            end = min(self._facts.size, start + max(len(view), self._block))
            self._range = b""
            self._range = repeated(lambda: self._server.read(self._url, start, end, self._facts), self._url)
            self._start = start
        first = self._position - self._start
        some = self._range[first : first + len(view)]
        view[: len(some)] = some
        self._position += len(some)
        return len(some)
