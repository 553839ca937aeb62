"""Framed messages with checksums between a campaign and its workers; the campaign's end never blocks.

A frame is `MAGIC`, the length of the payload, its CRC-32 and the payload. Workers send JSON and the bytes of arrays, so
that nothing from a worker is unpickled.
"""

from __future__ import annotations

import json
import socket
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

MAGIC = b"USF1"
_HEAD = struct.Struct("<4sQI")
#: Largest size of a message, bytes.
LARGEST = 1 << 32
#: Bytes that are read from the socket at a time.
PART = 1 << 20
#: Largest number of parts that are read in a row, so that one worker does not block the others.
PARTS = 64


class GarbledError(Exception):
    """The received bytes are not a valid frame or message."""


def frame(payload: bytes) -> list[bytes]:
    """Frame a message: header and payload."""
    return [_HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)), payload]


def payloads_of(content: bytes) -> Iterator[bytes]:
    """The payloads of frames that stand one after the other.

    Raises:
        GarbledError: one is cut short or damaged; it is raised after those before it.
    """
    at = 0
    while at < len(content):
        if len(content) - at < _HEAD.size:
            raise GarbledError("it is cut short")
        magic, length, crc = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        payload = content[at : at + length]
        if magic != MAGIC or len(payload) != length or zlib.crc32(payload) != crc:
            raise GarbledError("it is not what was sent")
        yield payload
        at += length


class WorkerConnection:
    """The campaign's end of a connection, which never blocks.

    Args:
        end: one socket of a pair.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        #: Time of the last received bytes (`time.monotonic`), s.
        self.heard = time.monotonic()

    def fileno(self) -> int:
        """The descriptor of the socket; -1 once it is closed."""
        return self._end.fileno()

    @property
    def sending(self) -> bool:
        """Whether part of a message has not been sent yet."""
        return bool(self._out)

    @property
    def begun(self) -> int:
        """Number of received bytes of an incomplete message."""
        return len(self._in)

    def send(self, payload: bytes) -> None:
        """Send a message; bytes that the socket does not accept now are sent by later calls of `push`."""
        self._out.extend(map(memoryview, frame(payload)))
        self.push()

    def push(self) -> None:
        """Send as much as the socket accepts. A closed connection is reported by `receive`."""
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
        """The next message; None if no complete one has arrived.

        Raises:
            EOFError: the other end is closed.
            GarbledError: the received bytes are no valid message.
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
    """The worker's end: send a message and block until it has been sent."""
    for part in frame(payload):
        end.sendall(part)


def receive(end: socket.socket) -> bytes:
    """The worker's end: wait for a message.

    Raises:
        EOFError: the campaign has closed its end.
        GarbledError: the received bytes are no valid message.
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
    """Serialise facts and arrays of numbers or strings.

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
    """The inverse of `pack`.

    Raises:
        GarbledError: the bytes were not produced by `pack`.
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
