"""Rows of requests and of their answers, column by column, as batches join and part them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from experiments.serving.refusals import Refusal


class _Missing:
    """Stands for the value of an input that a row does not name."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = _Missing()
#: A value for each row.
Column = Sequence[Any] | np.ndarray


@dataclass(frozen=True)
class Question:
    """Rows of inputs.

    Attributes:
        rows: number of rows.
        columns: name of an input -> a value for each row, `MISSING` where a row has none.
        refusals: row -> why it is refused, for rows that could not be read.
    """

    rows: int
    columns: Mapping[str, Column]
    refusals: Mapping[int, Refusal] = field(default_factory=dict)

    def column(self, name: str) -> Column:
        """The values of an input."""
        return self.columns[name] if name in self.columns else [MISSING] * self.rows

    def part(self, start: int, stop: int) -> Question:
        """The rows from `start` up to `stop`, which is not among them."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        refusals = {row - start: why for row, why in self.refusals.items() if start <= row < stop}
        return Question(min(stop, self.rows) - start, columns, refusals)

    @staticmethod
    def joined(parts: Sequence[Question]) -> Question:
        """The rows of several questions, one after the other."""
        if len(parts) == 1:
            return parts[0]
        names = dict.fromkeys(name for part in parts for name in part.columns)
        columns = {name: _joined([part.column(name) for part in parts]) for name in names}
        refusals: dict[int, Refusal] = {}
        start = 0
        for part in parts:
            refusals |= {start + row: why for row, why in part.refusals.items()}
            start += part.rows
        return Question(start, columns, refusals)


@dataclass(frozen=True)
class Answer:
    """Answers to the rows of a question.

    Attributes:
        rows: number of rows.
        columns: name of an output -> a value for each row: an array of numbers, or a list of arrays. Those of refused
            rows, and None, mean nothing.
        refusals: row -> why it has no answer.
    """

    rows: int
    columns: Mapping[str, Column]
    refusals: Mapping[int, Refusal] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Answer:
        """The rows from `start` up to `stop`, which is not among them."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        refusals = {row - start: why for row, why in self.refusals.items() if start <= row < stop}
        return Answer(min(stop, self.rows) - start, columns, refusals)

    @staticmethod
    def joined(parts: Sequence[Answer]) -> Answer:
        """The rows of several answers of one server, one after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = {name: _joined([part.columns[name] for part in parts]) for name in parts[0].columns}
        refusals: dict[int, Refusal] = {}
        start = 0
        for part in parts:
            refusals |= {start + row: why for row, why in part.refusals.items()}
            start += part.rows
        return Answer(start, columns, refusals)

    @property
    def answered(self) -> int:
        """Number of rows that have an answer."""
        return self.rows - len(self.refusals)


@dataclass(frozen=True)
class Readable:
    """The rows of a question that can be answered, as a kind of surrogate takes them.

    Attributes:
        rows: number of rows of the question.
        good: which of them can be answered.
        inputs: these, as the kind takes them.
        refusals: row -> why it is refused, for the others.
    """

    rows: int
    good: np.ndarray
    inputs: Any
    refusals: Mapping[int, Refusal]

    def answer(self, columns: Mapping[str, Column], refusals: Mapping[int, Refusal] | None = None) -> Answer:
        """Put the answers to the good rows in their places.

        Args:
            columns: name of an output -> a value for each of the good rows.
            refusals: place among the good rows -> why it has no answer after all.
        """
        late = {int(self.good[place]): why for place, why in (refusals or {}).items()}
        return Answer(
            self.rows,
            {name: _placed(values, self.good, self.rows) for name, values in columns.items()},
            {**self.refusals, **late},
        )


def _placed(values: Column, good: np.ndarray, rows: int) -> Column:
    if len(good) == rows:
        return values
    if isinstance(values, np.ndarray):
        whole = np.zeros((rows, *values.shape[1:]), values.dtype)
        whole[good] = values
        return whole
    spread: list[Any] = [None] * rows
    for row, value in zip(good.tolist(), values, strict=True):
        spread[row] = value
    return spread


def _joined(columns: Sequence[Column]) -> Column:
    if all(isinstance(column, np.ndarray) for column in columns):
        return np.concatenate([np.asarray(column) for column in columns])
    return [value for column in columns for value in column]
