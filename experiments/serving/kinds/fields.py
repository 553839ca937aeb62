"""Fields on the grid of the training for a surrogate of fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data.fields.batches import FieldBatch
from data.spec import Variable
from experiments.serving.kinds.answerer import NOT_FINITE, indices, rows_read
from experiments.serving.refusals import Refusal, invalid
from experiments.serving.rows import Answer, Question, Readable
from experiments.serving.values import array_of

if TYPE_CHECKING:
    from surrogates.fields.surrogate import FieldSurrogate

#: Samples of a batch: each of these sizes is compiled once.
SIZES = (1, 8, 64)
#: Most values of the answers to a batch.
MOST_VALUES = 4_000_000


class FieldAnswerer:
    """Answers fields on the grid of the training; see `experiments.serving.kinds.answerer.Answerer`.

    Args:
        surrogate: the surrogate.
        max_batch: most samples of a batch.
    """

    optional: tuple[str, ...] = ()

    def __init__(self, surrogate: FieldSurrogate, max_batch: int) -> None:
        self.simulator = surrogate
        self.inputs, self.outputs = surrogate.spec.inputs, surrogate.spec.outputs
        layout = surrogate.facts.layout
        times = len(layout.axis("time").values) if layout.evolves else 1
        each = surrogate.facts.config.ensemble * times * layout.channels * int(np.prod(layout.points))
        most = min(max_batch, max(1, MOST_VALUES // each))
        self._sizes = tuple(size for size in SIZES if size <= most)
        self._limits = surrogate.spec.sizes
        self.settings: dict[str, object] = {"samples of a batch": ", ".join(map(str, self._sizes))}

    def compile(self) -> None:
        """See `Answerer.compile`."""
        layout = self.simulator.facts.layout
        for size in self._sizes:
            first = np.ones((size, *layout.points, layout.channels), np.float32)
            static = np.ones((size, *layout.points, len(layout.static)))
            self._predict(first, static, np.ones((size, len(layout.parameters))))

    def read(self, question: Question) -> Readable:
        """See `Answerer.read`."""
        layout, domain = self.simulator.facts.layout, self.simulator.facts.domain
        columns = {variable.name: question.column(variable.name) for variable in self.inputs}

        def value(variable: Variable, row: int) -> np.ndarray:
            return array_of(variable, columns[variable.name][row], self._limits)

        def read(row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            first = np.zeros((*layout.points, layout.channels), np.float32)
            if layout.initial is not None:
                dims, array = layout.initial.dims, value(layout.initial, row)
                if "channel" not in dims:
                    dims, array = (*dims, "channel"), array[..., None]
                first = array.transpose([dims.index(dim) for dim in (*layout.space, "channel")])
            static = [value(v, row).transpose([v.dims.index(dim) for dim in layout.space]) for v in layout.static]
            fields = np.stack(static, -1) if static else np.zeros((*layout.points, 0))
            numbers = np.array([float(value(v, row)) for v in layout.parameters])
            if domain is not None and (wrong := domain.of_other_sign(numbers)):
                raise invalid("; ".join(wrong), layout.parameters[0].name)
            return first, fields, numbers

        good, rows, refusals = rows_read(question, read)
        return Readable(question.rows, indices(good), rows, refusals)

    def answer(self, readable: Readable) -> Answer:
        """See `Answerer.answer`."""
        rows: list[Any] = readable.inputs
        named: dict[str, list[Any]] = {variable.name: [] for variable in self.outputs}
        refusals: dict[int, Refusal] = {}
        for start in range(0, len(rows), self._sizes[-1]):
            some = rows[start : start + self._sizes[-1]]
            size = next(size for size in self._sizes if size >= len(some))
            # A batch is filled with repeated samples, so that it has the shape that was compiled.
            filled = [some[i % len(some)] for i in range(size)]
            answers = self._predict(*(np.stack(arrays) for arrays in zip(*filled, strict=True)))
            for variable in self.outputs:
                named[variable.name] += list(np.asarray(answers[variable.name][: len(some)], np.dtype(variable.dtype)))
        for place in range(len(rows)):
            if not all(np.isfinite(values[place]).all() for values in named.values()):
                refusals[place] = NOT_FINITE
        columns: dict[str, Any] = dict(named)
        for variable in self.outputs:
            if not variable.dims:
                columns[variable.name] = np.array(named[variable.name], np.dtype(variable.dtype))
        return readable.answer(columns, refusals)

    def _predict(self, first: np.ndarray, static: np.ndarray, numbers: np.ndarray) -> dict[str, np.ndarray]:
        return self.simulator.predict(FieldBatch(first[:, None], static, numbers, np.ones(len(first))))

    def close(self) -> None:
        """See `Answerer.close`."""
