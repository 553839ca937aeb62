"""Errors that a person can act on: each names what was wrong, where, and the remedy."""

from __future__ import annotations

import os
from os import PathLike
from typing import Any, ClassVar

#: Remedy for a file of the user that cannot be read.
DAMAGED = "It may be cut short or damaged: fetch or write it again"


class InputError(Exception):
    """Something the user gave cannot be used; the command ends with status 2 and this one line.

    Args:
        problem: what was found, and what was expected instead.
        where: the file (and line or row) or the config key at fault, as text.
        remedy: what to do about it.
        file: the file or directory at fault, where it is known to be one.
        row: the line, row or frame of the file, counted as the text counts it.
        key: the key of the configuration at fault, where it is known to be one.

    Attributes:
        kind: word for the kind of error, which programs tell errors apart by.
    """

    kind: ClassVar[str] = "input_error"

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        remedy: str | None = None,
        file: str | PathLike[str] | None = None,
        row: int | None = None,
        key: str | None = None,
    ) -> None:
        problem, where = printable(problem), None if where is None else printable(where)
        # A remedy may be some lines of code.
        remedy = None if remedy is None else "\n".join(map(printable, remedy.split("\n")))
        super().__init__()
        self.problem, self.where, self.remedy = problem, where, remedy
        self.file = None if file is None else printable(os.fspath(file))
        self.row, self.key = None if row is None else int(row), None if key is None else printable(key)
        self.give_remedy(remedy)

    def give_remedy(self, remedy: str | None) -> None:
        """Let the error have another remedy."""
        self.remedy = remedy
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        self.args = (f"{text}. {remedy}" if remedy else text,)

    def facts(self) -> dict[str, Any]:
        """The error for a program: its kind, and each part that is known, None elsewhere."""
        names = ("kind", "problem", "where", "file", "row", "key", "remedy")
        return {name: getattr(self, name) for name in names}


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

    kind = "damaged_file"


class UsageError(InputError):
    """An argument of a command that it does not take: an unknown stage, option, key or choice."""

    kind = "usage_error"


class SystemRefusalError(InputError):
    """The operating system refused a path or the room for a file."""

    kind = "system_error"
