"""What a server refuses: a whole request, with a status of HTTP, or a single row of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from data.errors import printable

#: Longest text of a message that repeats what a client sent.
LONGEST = 300


@dataclass(frozen=True)
class Refusal:
    """Why a row has no answer.

    Attributes:
        kind: one of `data.spec.ERROR_KINDS`.
        problem: what is wrong with it.
        where: the input at fault; "" where it is the row as a whole.
        remedy: what to do about it; "" where nothing is certain.
    """

    kind: str
    problem: str
    where: str = ""
    remedy: str = ""

    def plain(self, row: int) -> dict[str, object]:
        """The refusal of a row, counted from 0, as JSON."""
        where = f"row {row}" + (f", {self.where}" if self.where else "")
        return {"row": row, "kind": self.kind, "where": where, "problem": shown(self.problem), "remedy": self.remedy}


class RowError(Exception):
    """A row cannot be answered.

    Args:
        refusal: the reason.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.problem)
        self.refusal = refusal


def invalid(problem: str, where: str = "", remedy: str = "") -> RowError:
    """The error of a row whose inputs cannot be used."""
    return RowError(Refusal("invalid_input", problem, where, remedy))


@dataclass(frozen=True)
class ProblemDetails:
    """Why a request as a whole is refused.

    Attributes:
        status: status of HTTP.
        kind: a word for programs.
        problem: what is wrong, for people.
        where: the part of the request at fault.
        remedy: what to do about it.
        retry_after_s: seconds after which the same request may succeed; None where it will not.
        closes: whether the connection is closed, because the rest of the request is not read.
    """

    status: int
    kind: str
    problem: str
    where: str = "body"
    remedy: str = ""
    retry_after_s: int | None = None
    closes: bool = False

    def plain(self) -> dict[str, object]:
        """The error as JSON."""
        problem = shown(self.problem)
        return {"error": {"kind": self.kind, "problem": problem, "where": self.where, "remedy": self.remedy}}

    def closing(self) -> ProblemDetails:
        """The same, after which the connection is closed."""
        return replace(self, closes=True)


class RequestError(Exception):
    """A request is refused.

    Args:
        problem: the reason.
    """

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(problem.problem)
        self.problem = problem


def malformed(problem: str, remedy: str = "") -> RequestError:
    """The error of a body that cannot be read."""
    return RequestError(ProblemDetails(400, "malformed", problem, "body", remedy))


def unusable(problem: str, where: str = "body", remedy: str = "") -> RequestError:
    """The error of a body that can be read and asks for nothing that can be answered."""
    return RequestError(ProblemDetails(422, "invalid_input", problem, where, remedy))


def shown(text: str) -> str:
    """A text of a client or of a parser, in one line of bounded length."""
    line = printable(text)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
