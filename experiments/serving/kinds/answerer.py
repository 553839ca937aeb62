"""What the server asks of each kind of surrogate: to read rows, to answer them, and to compile ahead."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from data.spec import SimulationError, Variable
from experiments.serving.refusals import Refusal, RowError
from experiments.serving.rows import Answer, Question, Readable
from simulators.adapter import Simulator, answer_each
from surrogates.learning.box import OutOfDomainWarning

NOT_FINITE = Refusal("not_converged", "the prediction is not finite", "", "The row lies far outside of the training")


class Answerer(Protocol):
    """A surrogate or a cascade that answers the rows of requests.

    Attributes:
        simulator: the surrogate or cascade.
        inputs: inputs of a row.
        optional: those that a row may lack.
        outputs: outputs of a row, some of which an answer may lack, such as the stress of an isolated molecule.
        settings: what the programs are compiled for, by name, for people.
    """

    simulator: Any
    inputs: tuple[Variable, ...]
    optional: tuple[str, ...]
    outputs: tuple[Variable, ...]
    settings: dict[str, object]

    def compile(self) -> None:
        """Compile all programs, so that no request has to wait for one."""
        ...

    def read(self, question: Question) -> Readable:
        """Read rows without the accelerator; may be called by several threads."""
        ...

    def answer(self, readable: Readable) -> Answer:
        """Answer rows; called by one thread."""
        ...

    def close(self) -> None:
        """End the processes that were started."""
        ...


def readable_rows(question: Question, read: Callable[[int], Any]) -> Iterator[tuple[int, Any | Refusal]]:
    """Each row as `read` takes it, or why it is refused; rows that are refused already are left out."""
    for row in range(question.rows):
        if row in question.refusals:
            continue
        try:
            yield row, read(row)
        except RowError as error:
            yield row, error.refusal


def rows_read(question: Question, read: Callable[[int], Any]) -> tuple[list[int], list[Any], dict[int, Refusal]]:
    """The good rows of a question, what `read` makes of each, and the refusals of the others."""
    good: list[int] = []
    values: list[Any] = []
    refusals = dict(question.refusals)
    for row, value in readable_rows(question, read):
        if isinstance(value, Refusal):
            refusals[row] = value
        else:
            good.append(row)
            values.append(value)
    return good, values, refusals


def refusal_of(error: SimulationError) -> Refusal:
    """The refusal of a row that a surrogate or a simulator does not answer."""
    return Refusal(error.kind, error.message)


def indices(rows: Sequence[int]) -> np.ndarray:
    """Rows as an array of integers, also where there is none."""
    return np.array(list(rows), np.int64)


def answer_by_requests(simulator: Simulator, readable: Readable) -> Answer:
    """The answer to rows that are requests of their own: a column for each output, in its units and dims.

    Args:
        simulator: the surrogate or cascade.
        readable: the rows, whose inputs are requests; one that fails is refused with its reason.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfDomainWarning)
        answers = answer_each(simulator, readable.inputs) if readable.inputs else []
    failed = [(place, answer) for place, answer in enumerate(answers) if isinstance(answer, SimulationError)]
    columns: dict[str, Any] = {}
    for variable in simulator.spec.outputs:
        values = [None if isinstance(answer, SimulationError) else answer[variable.name].values for answer in answers]
        if not variable.dims:
            plain = [0 if value is None else value.item() for value in values]
            columns[variable.name] = np.array(plain, np.dtype(variable.dtype))
        else:
            columns[variable.name] = values
    return readable.answer(columns, {place: refusal_of(error) for place, error in failed})
