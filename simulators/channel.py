"""Messages between a campaign and its workers: framed, checked, and never waited for by the campaign.

A frame is `MAGIC`, the length of what follows, and its CRC-32. What a worker sends is JSON and the bytes of arrays;
nothing that comes from it is unpickled.
"""

from __future__ import annotations

import json
import socket
import struct
import time
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

MAGIC = b"USF1"
_HEAD = struct.Struct("<4sQI")
#: Bytes of one message at most.
LARGEST = 1 << 32
#: Bytes that are taken from the socket at a time.
PART = 1 << 20
#: Parts that are taken in a row, so that one worker does not keep the others waiting.
PARTS = 64


class GarbledError(Exception):
    """What came is no frame, or another one than was sent."""


def frame(payload: bytes) -> list[bytes]:
    """A message as it travels."""
    return [_HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)), payload]


class Channel:
    """The campaign's end: nothing that it does waits for the other side.

    Args:
        end: of a pair of sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        #: When bytes came last (`time.monotonic`).
        self.heard = time.monotonic()

    def fileno(self) -> int:
        """The descriptor of the socket; -1 once it is closed."""
        return self._end.fileno()

    @property
    def sending(self) -> bool:
        """Whether a part of a message has not left yet."""
        return bool(self._out)

    @property
    def begun(self) -> int:
        """Bytes of a message that has not come whole."""
        return len(self._in)

    def send(self, payload: bytes) -> None:
        """Send a message; what the socket does not take now leaves with later calls of `push`."""
        self._out.extend(map(memoryview, frame(payload)))
        self.push()

    def push(self) -> None:
        """Send what the socket takes. That the other side is gone shows when something is received."""
        try:
            while self._out:
                sent = self._end.send(self._out[0])
                self._out[0] = self._out[0][sent:]
                if not self._out[0]:
                    self._out.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()

    def receive(self) -> bytes | None:
        """The next message, or None if none has come whole.

        Raises:
            EOFError: the other side is closed.
            GarbledError: what came is no message.
        """
        for _ in range(PARTS):
            payload = self._whole()
            if payload is not None:
                return payload
            try:
                part = self._end.recv(PART)
            except BlockingIOError:
                return None
            except OSError as error:
                raise EOFError from error
            if not part:
                raise EOFError
            self.heard = time.monotonic()
            self._in += part
        return self._whole()

    def _whole(self) -> bytes | None:
        start = bytes(self._in[: len(MAGIC)])
        if start != MAGIC[: len(start)]:
            raise GarbledError(f"it begins with {start!r}")
        if len(self._in) < _HEAD.size:
            return None
        _, length, crc = _HEAD.unpack_from(self._in)
        if length > LARGEST:
            raise GarbledError(f"it has {length:,} bytes, and {LARGEST:,} are allowed")
        if len(self._in) < _HEAD.size + length:
            return None
        payload = bytes(self._in[_HEAD.size : _HEAD.size + length])
        if zlib.crc32(payload) != crc:
            raise GarbledError(f"the checksum of its {length:,} bytes does not fit")
        del self._in[: _HEAD.size + length]
        return payload

    def close(self) -> None:
        """Close the socket."""
        self._end.close()


def send(end: socket.socket, payload: bytes) -> None:
    """The worker's end: send a message, and wait until it has left."""
    for part in frame(payload):
        end.sendall(part)


def receive(end: socket.socket) -> bytes:
    """The worker's end: wait for a message.

    Raises:
        EOFError: the campaign has closed its end.
        GarbledError: what came is no message.
    """
    magic, length, crc = _HEAD.unpack(_exactly(end, _HEAD.size))
    payload = _exactly(end, length if magic == MAGIC else 0)
    if magic != MAGIC or zlib.crc32(payload) != crc:
        raise GarbledError("the request is not what was sent")
    return payload


def _exactly(end: socket.socket, count: int) -> bytes:
    taken = bytearray()
    while len(taken) < count:
        part = end.recv(min(PART, count - len(taken)))
        if not part:
            raise EOFError
        taken += part
    return bytes(taken)


def pack(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Facts and arrays of numbers or strings as bytes.

    Raises:
        TypeError: an array holds something else.
    """
    entries, bodies = [], []
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind in "OU":
            if not all(isinstance(item, str) for item in array.flat):
                raise TypeError(f"{name} holds something that is neither a number nor a string")
            body, kind = json.dumps(array.tolist()).encode(), "str"
        else:
            array = array.astype(array.dtype.newbyteorder("<"))
            if array.dtype.kind not in "biufc":
                raise TypeError(f"{name} holds {array.dtype}, which is neither a number nor a string")
            body, kind = array.tobytes(), array.dtype.str
        entries.append([name, kind, list(array.shape), len(body)])
        bodies.append(body)
    head = json.dumps({"facts": dict(facts), "arrays": entries}).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *bodies])


def unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `pack` was given.

    Raises:
        GarbledError: it is nothing that `pack` made.
    """
    try:
        at = 8 + int.from_bytes(payload[:8], "little")
        head = json.loads(payload[8:at])
        arrays = {}
        for name, kind, shape, count in head["arrays"]:
            body = payload[at : at + count]
            at += count
            if kind == "str":
                arrays[name] = np.array(json.loads(body), dtype=object).reshape(shape)
            else:
                arrays[name] = np.frombuffer(body, kind).reshape(shape).copy()
        return dict(head["facts"]), arrays
    except (ValueError, KeyError, TypeError) as error:
        raise GarbledError(f"it cannot be read: {error}") from error
