"""Requests of any inputs for a calibrated cascade, whose rungs may be simulators.

Its programs are compiled when a rung is first asked, because a cascade does not tell their shapes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from data.spec import SimulationError, Variable, dataset
from experiments.serving.kinds.answerer import indices, refusal_of, rows_read
from experiments.serving.refusals import Refusal, invalid
from experiments.serving.rows import MISSING, Answer, Question, Readable
from experiments.serving.values import array_of, text_of
from simulators.adapter import Simulator, answer_each
from surrogates.learning.box import OutOfDomainWarning

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfDomainWarning)
            answers = answer_each(self.simulator, readable.inputs) if readable.inputs else []
        refusals: dict[int, Refusal] = {}
        named: dict[str, list[Any]] = {variable.name: [] for variable in self.outputs}
        for place, answer in enumerate(answers):
            if isinstance(answer, SimulationError):
                refusals[place] = refusal_of(answer)
            for name, column in named.items():
                column.append(None if isinstance(answer, SimulationError) else answer[name].values)
        columns: dict[str, Any] = dict(named)
        for variable in self.outputs:
            if not variable.dims:
                plain = [0 if value is None else value.item() for value in named[variable.name]]
                columns[variable.name] = np.array(plain, np.dtype(variable.dtype))
        return readable.answer(columns, refusals)

    def close(self) -> None:
        """See `Answerer.close`."""
