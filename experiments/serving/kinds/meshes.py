"""Meshes for a surrogate of meshes, answered one after the other."""

from __future__ import annotations

from typing import Protocol

import xarray as xr

from data.meshes.graphs import EDGES_PER_NODE, mesh_edges, padded_nodes
from data.meshes.mesh_samples import ELEMENTS, NODES
from data.spec import SimulationError
from experiments.serving.kinds.answerer import answer_by_requests, indices, rows_read
from experiments.serving.refusals import invalid
from experiments.serving.rows import Answer, Question, Readable
from experiments.serving.values import array_of
from simulators.adapter import Simulator

#: Without a setting, meshes of up to this number of vertices are answered.
LARGEST = 4096


class AnswersMeshes(Simulator, Protocol):
    """A surrogate whose programs are compiled before it is asked."""

    def compile(self, largest: int) -> None:
        """Compile the programs for meshes of up to `largest` vertices."""
        ...


class MeshAnswerer:
    """Answers meshes; see `experiments.serving.kinds.answerer.Answerer`.

    Args:
        surrogate: the surrogate.
        largest: most vertices of a mesh; None for `LARGEST`.
    """

    optional: tuple[str, ...] = ()

    def __init__(self, surrogate: AnswersMeshes, largest: int | None) -> None:
        self.simulator = surrogate
        self.inputs, self.outputs = surrogate.spec.inputs, surrogate.spec.outputs
        self._largest = padded_nodes(largest or LARGEST)
        self.settings: dict[str, object] = {"vertices": f"up to {self._largest:,}"}

    def compile(self) -> None:
        """See `Answerer.compile`."""
        self.simulator.compile(self._largest)

    def read(self, question: Question) -> Readable:
        """See `Answerer.read`."""
        columns = {variable.name: question.column(variable.name) for variable in self.inputs}
        sizes = self.simulator.spec.sizes

        def read(row: int) -> xr.Dataset:
            arrays = {v.name: array_of(v, columns[v.name][row], sizes) for v in self.inputs}
            count = len(arrays[NODES])
            if count > self._largest:
                raise invalid(
                    f"it has {count:,} vertices, and the server was started for {self._largest:,}", NODES,
                    "Start understudy serve with a greater largest=N",
                )  # fmt: skip
            if mesh_edges(arrays[ELEMENTS]).shape[1] > EDGES_PER_NODE * padded_nodes(count):
                raise invalid(f"it has more than {EDGES_PER_NODE // 2} edges for each vertex", ELEMENTS)
            try:
                return self.simulator.spec.request(arrays)
            except SimulationError as error:
                raise invalid(error.message) from None

        good, rows, refusals = rows_read(question, read)
        return Readable(question.rows, indices(good), rows, refusals)

    def answer(self, readable: Readable) -> Answer:
        """See `Answerer.answer`."""
        return answer_by_requests(self.simulator, readable)

    def close(self) -> None:
        """See `Answerer.close`."""
