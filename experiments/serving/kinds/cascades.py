"""Requests of any inputs for a calibrated cascade, whose rungs may be simulators.

Its programs are compiled when a rung is first asked, because a cascade does not tell their shapes.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from data.spec import SimulationError, Variable, dataset
from experiments.serving.kinds.answerer import answer_by_requests, indices, rows_read
from experiments.serving.refusals import invalid
from experiments.serving.rows import MISSING, Answer, Question, Readable
from experiments.serving.values import array_of, text_of
from simulators.adapter import Simulator

#: Inputs that a row may lack where the last rung takes them.
OPTIONAL = ("charge", "cell", "spin")


class CascadeAnswerer:
    """Answers what the last rung of a cascade takes; see `experiments.serving.kinds.answerer.Answerer`.

    Args:
        cascade: the cascade.
    """

    def __init__(self, cascade: Simulator) -> None:
        self.simulator = cascade
        self.inputs, self.outputs = cascade.spec.inputs, cascade.spec.outputs
        self.optional = tuple(v.name for v in self.inputs if v.name in OPTIONAL)
        self.settings: dict[str, object] = {"programs": "compiled when a rung is first asked"}

    def compile(self) -> None:
        """See `Answerer.compile`; nothing is compiled."""

    def read(self, question: Question) -> Readable:
        """See `Answerer.read`."""
        columns = {variable.name: question.column(variable.name) for variable in self.inputs}
        sizes = self.simulator.spec.sizes

        def value(variable: Variable, row: int) -> Any:
            raw = columns[variable.name][row]
            return text_of(variable, raw) if variable.dtype == "str" else array_of(variable, raw, sizes)

        def read(row: int) -> xr.Dataset:
            present = [
                v
                for v in self.inputs
                if v.name not in self.optional
                or (columns[v.name][row] is not MISSING and columns[v.name][row] is not None)
            ]
            try:
                return dataset(self.inputs, {v.name: value(v, row) for v in present})
            except SimulationError as error:
                raise invalid(error.message) from None

        good, rows, refusals = rows_read(question, read)
        return Readable(question.rows, indices(good), rows, refusals)

    def answer(self, readable: Readable) -> Answer:
        """See `Answerer.answer`."""
        return answer_by_requests(self.simulator, readable)

    def close(self) -> None:
        """See `Answerer.close`."""
