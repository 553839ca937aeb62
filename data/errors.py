"""Errors that a person can act on: each names what was wrong, where, and the remedy."""

from __future__ import annotations

#: Remedy for a file of the user that cannot be read.
DAMAGED = "It may be cut short or damaged: fetch or write it again"


class InputError(Exception):
    """Something the user gave cannot be used; the command ends with status 2 and this one line.

    Args:
        problem: what was found, and what was expected instead.
        where: the file (and line or row) or the config key at fault.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None) -> None:
        problem, where = printable(problem), None if where is None else printable(where)
        # A remedy may be some lines of code.
        remedy = None if remedy is None else "\n".join(map(printable, remedy.split("\n")))
        text = f"{where}: {problem}" if where else problem
        super().__init__(f"{text}. {remedy}" if remedy else text)
        self.problem, self.where, self.remedy = problem, where, remedy


def printable(text: str) -> str:
    r"""Text as one line that a terminal shows: line breaks become blanks, and what cannot be printed its escape.

    Names of columns, of members and of classes come out of files that others wrote, and so may be anything.
    """
    if text.isprintable():
        return text
    blank = text.translate({ord(c): " " for c in "\n\r\t"})
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in blank)


class CorruptStoreError(InputError):
    """Stored bytes are not those that were written: a chunk is missing, truncated or changed."""
