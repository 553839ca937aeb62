"""Rows of parameters for a surrogate of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.serving.kinds.answerer import NOT_FINITE
from experiments.serving.refusals import Refusal, RowError
from experiments.serving.rows import Answer, Question, Readable
from experiments.serving.values import array_of, number_column
from surrogates.learning.box import IN_DOMAIN

if TYPE_CHECKING:
    from surrogates.parameters.surrogate import ParameterSurrogate


class NumberAnswerer:
    """Answers rows of parameters; see `experiments.serving.kinds.answerer.Answerer`.

    Args:
        surrogate: the surrogate.
    """

    optional: tuple[str, ...] = ()

    def __init__(self, surrogate: ParameterSurrogate) -> None:
        self.simulator = surrogate
        self.inputs, self.outputs = surrogate.spec.inputs, surrogate.spec.outputs
        self.settings: dict[str, object] = {"columns": ", ".join(surrogate.columns)}

    def compile(self) -> None:
        """See `Answerer.compile`."""
        self.simulator.compile(every=True)

    def read(self, question: Question) -> Readable:
        """See `Answerer.read`."""
        refusals = dict(question.refusals)
        named: dict[str, np.ndarray] = {}
        sizes = self.simulator.spec.sizes
        for variable in self.inputs:
            values = question.column(variable.name)
            if not variable.dims:
                named[variable.name], bad = number_column(variable, values)
            else:
                bad = {}
                arrays = np.zeros((question.rows, *(sizes[dim] for dim in variable.dims)))
                for row, value in enumerate(values):
                    try:
                        arrays[row] = array_of(variable, value, sizes)
                    except RowError as error:
                        bad[row] = error.refusal
                named[variable.name] = arrays
            refusals = {**bad, **refusals}
        good = np.array([row for row in range(question.rows) if row not in refusals], np.int64)
        table = self.simulator.facts.layout.flat(named)
        return Readable(question.rows, good, table[good], refusals)

    def answer(self, readable: Readable) -> Answer:
        """See `Answerer.answer`."""
        table: np.ndarray = readable.inputs
        refusals: dict[int, Refusal] = {}
        cheaper = None
        if self.simulator.facts.on is not None:
            answers = self.simulator.ask_rung(table)
            refusals = {
                place: Refusal("not_converged", f"{answers.simulator.name}: {answers.reasons[place] or 'not finite'}")
                for place in np.flatnonzero(~answers.ok).tolist()
            }
            cheaper = np.where(answers.ok[:, None], answers.values, 0.0)
        layout = self.simulator.facts.layout
        columns: dict[str, np.ndarray] = {IN_DOMAIN: self.simulator.facts.domain.holds(table)}
        for kind, values in self.simulator.predict_columns(table, cheaper).items():
            ending = f"_{kind}" if kind else ""
            columns |= {f"{name}{ending}": array for name, array in layout.named_outputs(values).items()}
        named = {variable.name: np.array(columns[variable.name]) for variable in self.outputs}
        for values in named.values():
            for place in np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))).tolist():
                refusals.setdefault(place, NOT_FINITE)
        for place in refusals:
            for values in named.values():
                values[place] = 0
        return readable.answer(named, refusals)

    def close(self) -> None:
        """See `Answerer.close`."""
