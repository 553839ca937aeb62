"""Joins the rows of several requests into batches, and answers them in two threads: one reads, one predicts.

Rows are answered in the order of their requests. Rows that arrive while a batch is answered form the next one, so that
a lone client never waits for others, and many clients share a batch. Rows of a large request are answered in batches
of `max_batch`, and are read while those before them are predicted.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from experiments.serving.kinds.answerer import Answerer
from experiments.serving.limits import RequestLimits
from experiments.serving.refusals import ProblemDetails, RequestError
from experiments.serving.rows import Answer, Question, Readable

LOG = logging.getLogger(__name__)
#: Longest time after which a client is asked to come again, s.
LONGEST_RETRY_S = 60
#: Called with the answer to a request, or with the error that ended it.
Done = Callable[["Answer | Exception"], None]


@dataclass
class RequestJob:
    """A request that is being answered.

    Attributes:
        rows: number of its rows.
        done: called once, by the thread that predicts.
        parts: answers to its pieces so far, in their order.
        left: number of pieces without an answer.
        cancelled: whether nobody waits for the answer any more.
        failure: the error that ended it.
    """

    rows: int
    done: Done
    parts: list[Answer] = field(default_factory=list)
    left: int = 0
    cancelled: bool = False
    failure: Exception | None = None


@dataclass(frozen=True)
class RequestPiece:
    """Rows of a request that are answered in one batch."""

    job: RequestJob
    question: Question


#: Called after each batch with its pieces, the answers to them, and the seconds that these took.
Observer = Callable[[list[RequestPiece], Answer, float], None]


class Batcher:
    """Answers the rows of requests in batches.

    Args:
        answerer: what answers rows.
        limits: the limits of the server.
        observe: called after each batch with its pieces, its answer and the seconds that it took.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        answerer: Answerer,
        limits: RequestLimits,
        observe: Observer = lambda pieces, answer, seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answerer, self._limits, self._observe, self._clock = answerer, limits, observe, clock
        self._condition = threading.Condition()
        self._pieces: deque[RequestPiece] = deque()
        self._rows = self._arriving = 0
        self._stopping = False
        self._seconds, self._predicted = 0.0, 0
        # One batch is read while another one is predicted.
        self._read: queue.Queue[tuple[list[RequestPiece], Readable | Exception] | None] = queue.Queue(maxsize=1)
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._read_batches, "read"), (self._predict_batches, "predict"))
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer what waits, and end the threads."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def waiting(self) -> int:
        """Rows without an answer."""
        return self._rows

    # Requests

    def arrive(self) -> None:
        """A request is being received: a batch may wait for its rows for a moment."""
        with self._condition:
            self._arriving += 1

    def leave(self) -> None:
        """A request that was being received is submitted, or refused."""
        with self._condition:
            self._arriving -= 1
            self._condition.notify_all()

    def submit(self, question: Question, done: Done) -> RequestJob:
        """Let the rows of a request be answered.

        Args:
            question: the rows.
            done: called by another thread with the answer, or with the error that ended the request.

        Raises:
            RequestError: 429: too many rows wait already.
        """
        size = self._limits.max_batch
        job = RequestJob(question.rows, done)
        starts = range(0, question.rows, size)
        job.left = len(starts)
        with self._condition:
            if self._rows + question.rows > self._limits.queue:
                raise RequestError(
                    ProblemDetails(
                        429, "busy", f"{self._rows:,} rows wait, and {self._limits.queue:,} may", "body",
                        "Send the request again after the seconds of Retry-After", retry_after_s=self.retry_after_s(),
                    )
                )  # fmt: skip
            self._rows += question.rows
            self._pieces.extend(RequestPiece(job, question.part(start, start + size)) for start in starts)
            self._condition.notify_all()
        return job

    def cancel(self, job: RequestJob) -> None:
        """Nobody waits for the answer: what is not being answered yet is left out."""
        job.cancelled = True

    def retry_after_s(self) -> int:
        """Seconds in which the rows that wait are answered, by the rate so far; 1 or more."""
        rate = self._predicted / self._seconds if self._seconds > 0 else 0.0
        return min(LONGEST_RETRY_S, max(1, math.ceil(self._rows / rate))) if rate else 1

    # The thread that reads

    def _read_batches(self) -> None:
        while pieces := self._next_batch():
            try:
                readable: Readable | Exception = self._answerer.read(_joined(pieces))
            except Exception as error:
                readable = error
            self._read.put((pieces, readable))
        self._read.put(None)

    def _next_batch(self) -> list[RequestPiece]:
        """The pieces of the next batch; none once the batcher is stopped and everything is answered."""
        most = self._limits.max_batch
        with self._condition:
            while True:
                self._drop_cancelled()
                if self._pieces or self._stopping:
                    break
                self._condition.wait()
            until = self._clock() + self._limits.max_wait_ms / 1000
            while not self._stopping and self._arriving > 0 and self._count() < most:
                left = until - self._clock()
                if left <= 0:
                    break
                self._condition.wait(left)
            pieces: list[RequestPiece] = []
            rows = 0
            while self._pieces and (not pieces or rows + self._pieces[0].question.rows <= most):
                piece = self._pieces.popleft()
                pieces.append(piece)
                rows += piece.question.rows
            return pieces

    def _count(self) -> int:
        return sum(piece.question.rows for piece in self._pieces)

    def _drop_cancelled(self) -> None:
        for piece in [piece for piece in self._pieces if piece.job.cancelled]:
            self._pieces.remove(piece)
            self._rows -= piece.question.rows

    # The thread that predicts

    def _predict_batches(self) -> None:
        while (batch := self._read.get()) is not None:
            pieces, readable = batch
            began = time.perf_counter()
            answers = self._answers(pieces, readable)
            seconds = time.perf_counter() - began
            good = [answer for answer in answers if isinstance(answer, Answer)]
            with self._condition:
                self._rows -= sum(piece.question.rows for piece in pieces)
                self._predicted += sum(answer.rows for answer in good)
                self._seconds += seconds
            if good:
                self._observe(pieces, Answer.joined(good), seconds)
            for piece, answer in zip(pieces, answers, strict=True):
                self._finish(piece.job, answer)

    def _answers(self, pieces: list[RequestPiece], readable: Readable | Exception) -> list[Answer | Exception]:
        """The answer to each piece; if a batch fails as a whole, each piece is answered alone."""
        try:
            if isinstance(readable, Exception):
                raise readable
            whole = self._answerer.answer(readable)
        except Exception as error:
            if len(pieces) == 1:
                LOG.warning("a batch of %d rows failed", pieces[0].question.rows, exc_info=error)
                return [error]
            return [self._alone(piece) for piece in pieces]
        parts, start = [], 0
        for piece in pieces:
            parts.append(whole.part(start, start + piece.question.rows))
            start += piece.question.rows
        return list(parts)

    def _alone(self, piece: RequestPiece) -> Answer | Exception:
        try:
            return self._answers([piece], self._answerer.read(piece.question))[0]
        except Exception as error:
            return error

    def _finish(self, job: RequestJob, answer: Answer | Exception) -> None:
        job.left -= 1
        if isinstance(answer, Exception):
            job.failure = job.failure or answer
            # The other pieces of the request are of no use.
            job.cancelled = True
            done, job.done = job.done, _nothing
            done(job.failure)
            return
        job.parts.append(answer)
        if not job.left:
            done, job.done = job.done, _nothing
            done(Answer.joined(job.parts))


def _joined(pieces: list[RequestPiece]) -> Question:
    return Question.joined([piece.question for piece in pieces])


def _nothing(answer: Answer | Exception) -> None:
    """Stands for the callback of a request that has ended."""
