"""The limits of a server: rows of a batch, rows that wait, bytes of a body, and seconds of a client."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.serving.refusals import ProblemDetails, RequestError

#: All bodies that are being received at a time may have this many times the bytes of the largest one.
BODIES = 8
#: Connections at a time.
CONNECTIONS = 800


@dataclass(frozen=True)
class RequestLimits:
    """Limits of a server.

    Attributes:
        max_batch: most rows that are answered together.
        max_wait_ms: longest time for which rows wait for those of requests that are being received, ms.
        queue: most rows that wait for their answers, and most rows of a request.
        body_mb: size of the largest body, in 10^6 bytes.
        timeout_s: seconds in which a client has to send its request and to take its answer, and in which rows are
            answered.

    Raises:
        ValueError: a limit is not positive.
    """

    max_batch: int = 1024
    max_wait_ms: float = 2.0
    queue: int = 65_536
    body_mb: float = 64.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if min(self.max_batch, self.queue) < 1 or not min(self.body_mb, self.timeout_s) > 0 or self.max_wait_ms < 0:
            raise ValueError(f"max_batch, queue, body_mb and timeout_s must be positive, got {self}")

    @property
    def body_bytes(self) -> int:
        """Bytes of the largest body."""
        return int(self.body_mb * 1e6)

    def refuse_rows(self, rows: int) -> None:
        """Refuse a request with no rows, or with more than ever fit.

        Raises:
            RequestError: 413 or 422.
        """
        if rows == 0:
            raise RequestError(
                ProblemDetails(422, "invalid_input", "there are no rows", "body", "Send one row or more")
            )
        if rows > self.queue:
            raise RequestError(
                ProblemDetails(413, "too_large", f"{rows:,} rows, and the server takes {self.queue:,}", "body",
                        f"Send them in requests of at most {self.queue:,} rows")
            )  # fmt: skip


class ReceivedBytes:
    """Counts the bytes of all bodies that are being received, so that many clients cannot fill the memory.

    Used by the event loop alone.

    Args:
        limits: the limits.
    """

    def __init__(self, limits: RequestLimits) -> None:
        self._most, self._each = BODIES * limits.body_bytes, limits.body_bytes
        #: Bytes in memory now.
        self.now = 0

    def refuse_length(self, length: int) -> None:
        """Refuse a body by its length alone.

        Raises:
            RequestError: 413.
        """
        if length > self._each:
            raise RequestError(
                ProblemDetails(413, "too_large", f"the body has {length / 1e6:,.3g} MB, and the server takes "
                        f"{self._each / 1e6:,.3g} MB", "body",
                        "Send the rows in several requests, or raise body_mb of understudy serve")
            )  # fmt: skip

    def add(self, more: int, length: int) -> None:
        """Count a piece of a body.

        Args:
            more: bytes of the piece.
            length: bytes of the body so far, the piece included.

        Raises:
            RequestError: 413 or 429; the piece is not counted.
        """
        self.refuse_length(length)
        if self.now + more > self._most:
            raise RequestError(
                ProblemDetails(429, "busy", "the server is receiving as many bytes as it can hold", "body",
                        "Send the request again later", retry_after_s=1)
            )  # fmt: skip
        self.now += more

    def remove(self, length: int) -> None:
        """A body of this many bytes is no longer in memory."""
        self.now -= length
