"""Molecules from SMILES for a surrogate of properties; SMILES are parsed in processes that may die."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from data.molecules.foreign import encode
from data.molecules.graph_tables import GraphTable
from data.molecules.graphs import assign
from data.processes.parsing import Lane, Lost, RowLimits, each
from experiments.serving.kinds.answerer import NOT_FINITE, indices, rows_read
from experiments.serving.refusals import Refusal
from experiments.serving.rows import Answer, Question, Readable
from experiments.serving.values import text_of
from simulators.chemistry.standardise import standard_form

if TYPE_CHECKING:
    from surrogates.properties.surrogate import PropertySurrogate

#: Limits of one SMILES: a client does not hold up the others for long.
SMILES_LIMITS = RowLimits(seconds=2.0)
#: SMILES below which splitting them between processes costs more than it saves.
FEWEST = 64
#: Without a setting, molecules of up to this many times the atoms of the largest of the training are answered.
ROOM = 2


#: Graphs, (index, reason) of what cannot be read, and the SMILES that were parsed.
Parsed = tuple[GraphTable, list[tuple[int, str]], list[str]]


class ParsingProcesses:
    """Processes that parse SMILES side by side.

    Args:
        count: number of processes.
        steps: steps of standardisation (`simulators.chemistry.standardise`).
    """

    def __init__(self, count: int, steps: tuple[str, ...] = ()) -> None:
        self._steps = steps
        self._lanes = [Lane(SMILES_LIMITS) for _ in range(count)]
        self._idle: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in self._lanes:
            self._idle.put(lane)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="parse")

    def start(self) -> None:
        """Start all processes, and wait for them."""
        list(self._threads.map(Lane.start, self._lanes))

    def encode(self, smiles: Sequence[str]) -> Parsed:
        """The graphs of SMILES with `source_index` into them, those that cannot be read, and the standard forms."""
        pieces = max(1, min(len(self._lanes), len(smiles) // FEWEST))
        if pieces == 1:
            return self._encode(smiles)
        starts = [len(smiles) * i // pieces for i in range(pieces + 1)]
        parts = list(self._threads.map(self._encode, [smiles[a:b] for a, b in pairwise(starts)]))
        tables, rejects, forms = [], [], []
        for start, (table, bad, standard) in zip(starts, parts, strict=False):
            tables.append(replace(table, source_index=table.source_index + start))
            rejects += [(start + i, why) for i, why in bad]
            forms += standard
        return GraphTable.concat(tables), rejects, forms

    def _encode(self, smiles: Sequence[str]) -> Parsed:
        lane = self._idle.get()
        try:
            if not self._steps:
                return (*encode(smiles, lane=lane), list(smiles))
            standard = each(partial(standard_form, steps=self._steps), smiles, lane=lane)
            lost = {i: form.reason for i, form in enumerate(standard) if isinstance(form, Lost)}
            # A form is empty where it is the molecule itself.
            forms = [
                "" if isinstance(form, Lost) else form or text for form, text in zip(standard, smiles, strict=True)
            ]
            table, rejects = encode(forms, lane=lane)
            return table, [(i, lost.get(i, why)) for i, why in rejects], forms
        finally:
            self._idle.put(lane)

    def close(self) -> None:
        """End the processes."""
        for lane in self._lanes:
            lane.stop()
        self._threads.shutdown(wait=True)


class MoleculeAnswerer:
    """Answers SMILES; see `experiments.serving.kinds.answerer.Answerer`.

    Args:
        surrogate: the surrogate.
        processes: number of processes that parse SMILES.
        largest: most atoms of a molecule; None for twice those of the training.
        steps: steps of standardisation.
    """

    optional: tuple[str, ...] = ()

    def __init__(
        self, surrogate: PropertySurrogate, processes: int, largest: int | None, steps: tuple[str, ...] = ()
    ) -> None:
        self.simulator = surrogate
        self.inputs, self.outputs = surrogate.spec.inputs, surrogate.spec.outputs
        self._parsing = ParsingProcesses(processes, steps)
        learned = surrogate.facts.buckets[-1].atoms
        most = ROOM * learned if largest is None else max(largest, learned)
        # The first size that holds the most atoms is the last one.
        below = sum(bucket.atoms < most for bucket in surrogate.buckets)
        self._buckets = surrogate.buckets[: below + 1]
        self.settings: dict[str, object] = {
            "padded sizes": ", ".join(f"{b.atoms} atoms" for b in self._buckets),
            "processes that parse": processes,
        }

    def compile(self) -> None:
        """See `Answerer.compile`."""
        self._parsing.start()
        self.simulator.compile(self._buckets)

    def read(self, question: Question) -> Readable:
        """See `Answerer.read`."""
        (variable,) = self.inputs
        column = question.column(variable.name)
        good, texts, refusals = rows_read(question, lambda row: text_of(variable, column[row]))
        table, rejects, forms = self._parsing.encode(texts)
        refusals |= {good[i]: Refusal("invalid_input", reason, variable.name) for i, reason in rejects}
        fits = assign(table, self._buckets) < len(self._buckets)
        if not fits.all():
            largest = self._buckets[-1]
            for place in np.flatnonzero(~fits).tolist():
                refusals[good[int(table.source_index[place])]] = Refusal(
                    "invalid_input",
                    f"it has {int(table.atom_counts[place])} atoms and {int(table.bond_counts[place])} bonds, and the "
                    f"server was started for {largest.atoms} and {largest.bonds}",
                    variable.name,
                    "Start understudy serve with a greater largest=N",
                )
            table = table.take(np.flatnonzero(fits))
        sources = table.source_index.tolist()
        return Readable(
            question.rows, indices([good[i] for i in sources]), (table, [forms[i] for i in sources]), refusals
        )

    def answer(self, readable: Readable) -> Answer:
        """See `Answerer.answer`."""
        table, smiles = readable.inputs
        refusals: dict[int, Refusal] = {}
        more: tuple[np.ndarray, ...] = ()
        if self.simulator.standing is not None:
            cheaper = self.simulator.ask_rung(smiles)
            refusals = {
                place: Refusal("not_converged", f"{cheaper.simulator.name}: {cheaper.reasons[place] or 'not finite'}")
                for place in np.flatnonzero(~cheaper.ok).tolist()
            }
            more = (np.where(cheaper.ok[:, None], cheaper.values, 0.0),)
        columns = self.simulator.predict_table(table, *more)
        named = {variable.name: columns[variable.name] for variable in self.outputs}
        finite = np.logical_and.reduce([np.isfinite(values) for values in named.values()])
        refusals |= {place: NOT_FINITE for place in np.flatnonzero(~finite).tolist() if place not in refusals}
        for place in refusals:
            for values in named.values():
                values[place] = 0
        return readable.answer(named, refusals)

    def close(self) -> None:
        """See `Answerer.close`."""
        self._parsing.close()
