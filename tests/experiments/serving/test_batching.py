"""Rows of several requests are answered together, in order, within limits, and a fault stays with its request."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from serving import Squares

from experiments.serving.batching import Batcher
from experiments.serving.limits import RequestLimits
from experiments.serving.refusals import RequestError
from experiments.serving.rows import Answer, Question

Ask = Callable[..., "queue.Queue[Answer | Exception]"]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that only a fault does not fulfil."""
    step = threading.Event()
    for _ in range(30_000):
        if condition():
            return
        step.wait(0.002)
    raise AssertionError("it does not happen")


class Office:
    """A batcher of squares, whose first batch is kept waiting until `open` is called."""

    def __init__(self, **limits: Any) -> None:
        self.squares = Squares()
        self.squares.gate.clear()
        self.batches: list[tuple[int, int]] = []
        self.batcher = Batcher(
            self.squares,
            RequestLimits(**limits),
            lambda pieces, answer, seconds: self.batches.append((len({id(p.job) for p in pieces}), answer.rows)),
        )
        self.batcher.start()

    def ask(self, *values: Any) -> queue.Queue[Answer | Exception]:
        outcome: queue.Queue[Answer | Exception] = queue.Queue()
        self.last = self.batcher.submit(Question(len(values), {"x": list(values)}), outcome.put)
        return outcome

    def open(self) -> None:
        self.squares.gate.set()


@pytest.fixture
def office() -> Iterator[Callable[..., Office]]:
    offices: list[Office] = []

    def make(**limits: Any) -> Office:
        offices.append(Office(**limits))
        return offices[-1]

    yield make
    for one in offices:
        one.open()
        one.batcher.stop()
        assert not one.batcher.is_alive
        assert one.batcher.waiting == 0


def squares(outcome: queue.Queue[Answer | Exception]) -> list[float | None]:
    answer = outcome.get(timeout=300)
    assert isinstance(answer, Answer)
    return [None if row in answer.refusals else float(v) for row, v in enumerate(answer.columns["square"])]


def test_rows_that_arrive_while_a_batch_is_answered_form_the_next_one(office: Callable[..., Office]) -> None:
    one = office(max_batch=100)
    first = one.ask(1)
    # The second batch is read while the first one is answered, and the others wait together.
    wait_until(lambda: not one.batcher._pieces)
    second = one.ask(2)
    wait_until(lambda: not one.batcher._pieces)
    third = one.ask(3)
    wait_until(lambda: not one.batcher._pieces)
    others = [one.ask(n, n + 1) for n in range(10, 40)]
    one.open()
    assert [squares(outcome) for outcome in (first, second, third)] == [[1], [4], [9]]
    for n, outcome in zip(range(10, 40), others, strict=True):
        assert squares(outcome) == [n**2 if n != 13 else None, (n + 1) ** 2 if n + 1 != 13 else None]
    assert sum(rows for _, rows in one.batches) == 63
    assert max(requests for requests, _ in one.batches) >= 20


def test_a_large_request_is_answered_in_batches_and_comes_back_in_order(office: Callable[..., Office]) -> None:
    one = office(max_batch=7)
    one.open()
    values = [float(n) for n in range(50)]
    assert squares(one.ask(*values)) == [None if v == 13 else v**2 for v in values]
    assert max(rows for _, rows in one.batches) == 7


def test_beyond_the_queue_a_request_is_refused_and_told_when_to_come_again(office: Callable[..., Office]) -> None:
    one = office(queue=10)
    waiting = one.ask(*range(9))
    with pytest.raises(RequestError) as caught:
        one.ask(1, 2)
    assert caught.value.problem.status == 429
    assert (caught.value.problem.retry_after_s or 0) >= 1
    last = one.ask(5)
    one.open()
    assert len(squares(waiting)) == 9
    assert squares(last) == [25]
    assert squares(one.ask(*range(10)))[3] == 9


def test_what_breaks_a_batch_breaks_its_own_request_alone(office: Callable[..., Office]) -> None:
    one = office(max_batch=100)
    blocking = [one.ask(1), one.ask(1)]
    good, bad, other = one.ask(2), one.ask(3, 99), one.ask(4)
    one.open()
    assert squares(good) == [4]
    assert squares(other) == [16]
    assert isinstance(bad.get(timeout=300), RuntimeError)
    assert [squares(outcome) for outcome in blocking] == [[1], [1]]
    assert one.batcher.is_alive


def test_a_request_that_nobody_waits_for_is_left_out(office: Callable[..., Office]) -> None:
    one = office(max_batch=1)
    first, second, third = one.ask(1), one.ask(2), one.ask(3)
    wait_until(lambda: not one.batcher._pieces)
    one.ask(*range(20, 30))
    one.batcher.cancel(one.last)
    after = one.ask(4)
    one.open()
    assert [squares(outcome) for outcome in (first, second, third, after)] == [[1], [4], [9], [16]]
    assert one.squares.batches == [1, 1, 1, 1]


def test_a_batch_waits_for_requests_that_are_being_received_and_for_no_others() -> None:
    squares_ = Squares()
    now = [0.0]
    batcher = Batcher(squares_, RequestLimits(max_wait_ms=1000.0), clock=lambda: now[0])
    outcomes: queue.Queue[Any] = queue.Queue()
    batcher.arrive()
    batcher.start()
    batcher.submit(Question(1, {"x": [1]}), outcomes.put)
    # Time stands still, so that only the end of the other request lets the batch go.
    assert outcomes.empty()
    batcher.submit(Question(1, {"x": [2]}), outcomes.put)
    batcher.leave()
    answers = [outcomes.get(timeout=300) for _ in range(2)]
    batcher.stop()
    assert squares_.batches == [2]
    np.testing.assert_array_equal([float(answer.columns["square"][0]) for answer in answers], [1, 4])
