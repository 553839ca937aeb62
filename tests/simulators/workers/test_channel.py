"""Messages between a campaign and its workers: whole and unchanged, or refused; and never waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.workers import channel
from simulators.workers.channel import GarbledError, WorkerConnection, frame, pack, unpack
from simulators.workers.worker import WorkerAnswer
from simulators.workers.worker import unpack as worker_unpack


@pytest.fixture
def ends() -> Iterator[tuple[WorkerConnection, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield WorkerConnection(ours), theirs


def test_a_message_arrives_whole_however_it_is_cut(ends: tuple[WorkerConnection, socket.socket]) -> None:
    ours, theirs = ends
    sent = b"".join(frame(b"first") + frame(b"") + frame(b"third"))
    taken = []
    for at in range(len(sent)):
        theirs.sendall(sent[at : at + 1])
        while (message := ours.receive()) is not None:
            taken.append(message)
    assert taken == [b"first", b"", b"third"]
    assert ours.begun == 0
    theirs.sendall(frame(b"half")[0])
    assert ours.receive() is None
    assert ours.begun == len(frame(b"half")[0])
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()


def test_a_large_message_is_sent_without_waiting_for_who_does_not_read(
    ends: tuple[WorkerConnection, socket.socket],
) -> None:
    ours, theirs = ends
    payload = np.random.default_rng(0).bytes(5_000_000)
    ours.send(payload)
    assert ours.sending
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(channel.receive(theirs)))
    reader.start()
    while ours.sending:
        ours.push()
        time.sleep(0.001)
    reader.join()
    assert received == [payload]
    channel.send(theirs, b"back")
    assert ours.receive() == b"back"


def test_what_is_no_message_is_refused_before_it_is_waited_for(ends: tuple[WorkerConnection, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"Tra")
    with pytest.raises(GarbledError, match=r"it begins with b'Tra'"):
        ours.receive()


def test_a_length_beyond_all_answers_is_refused(ends: tuple[WorkerConnection, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(channel._HEAD.pack(channel.MAGIC, channel.LARGEST + 1, 0))
    with pytest.raises(GarbledError, match="are allowed"):
        ours.receive()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_byte_of_an_answer_is_refused(data: st.DataObject) -> None:
    arrays = {"y": np.arange(3.0), "s": np.array("ok", dtype=object)}
    sent = bytearray(b"".join(frame(WorkerAnswer("ok", arrays, "", "{}", 1.0, 1.0).pack())))
    at = data.draw(st.integers(0, len(sent) - 1))
    sent[at] ^= data.draw(st.integers(1, 255))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        try:
            taken = WorkerConnection(ours).receive()
        except GarbledError:
            taken = None
        # A longer length is waited for; nothing else is taken.
        assert taken is None


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_no_worker_made_are_refused_and_nothing_else_is_raised(body: bytes, answer: bool) -> None:
    message = WorkerAnswer("ok", {"y": np.arange(3.0)}, "", "{}", 1.0, 1.0).pack()
    with pytest.raises(GarbledError):
        worker_unpack(message[: len(message) // 2] + body if answer else body)


def test_arrays_and_strings_come_back_as_they_were() -> None:
    arrays = {
        "scalar": np.float64(-0.5),
        "big": np.arange(6, dtype=">f4").reshape(2, 3),
        "none": np.empty((0, 3), np.int32),
        "words": np.array([["a", "é\ud800"], ["", "d"]], dtype=object),
        "word": np.array("x", dtype=object),
    }
    facts, unpacked = unpack(pack({"n": 1, "text": "é\ud800"}, arrays))
    assert facts == {"n": 1, "text": "é\ud800"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(unpacked[name], array)
        assert unpacked[name].shape == np.shape(array)
    assert unpacked["big"].flags.writeable
    with pytest.raises(TypeError, match="neither a number nor a string"):
        pack({}, {"y": np.array(len, dtype=object)})
    with pytest.raises(TypeError, match="neither a number nor a string"):
        pack({}, {"y": np.array(["2020"], dtype="datetime64[D]")})
