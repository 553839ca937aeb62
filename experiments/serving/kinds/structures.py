"""Geometries for a potential or a mixture of potentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data.spec import FIXED_DIMS, SimulationError
from data.structures.structures import MAX_ATOMIC_NUMBER, Structures
from experiments.serving.kinds.answerer import NOT_FINITE, indices, refusal_of, rows_read
from experiments.serving.refusals import Refusal, invalid
from experiments.serving.rows import MISSING, Answer, Question, Readable
from experiments.serving.values import array_of
from surrogates.potentials.fixed_shapes import FixedShapes, compile_shapes
from surrogates.potentials.potential_spec import OPTIONAL, OUTPUTS

if TYPE_CHECKING:
    from surrogates.mixture.surrogate import MixtureSurrogate
    from surrogates.potentials.surrogate import PotentialSurrogate

#: Without a setting, structures of up to this number of atoms are answered.
LARGEST = 32
STRESS = "stress"
#: Height of the thinnest cell that is taken, Angstrom: a thin one has more images within reach than fit into memory.
THINNEST = 0.5


class StructureAnswerer:
    """Answers structures; see `experiments.serving.kinds.answerer.Answerer`.

    Args:
        surrogate: the potential or the mixture.
        largest: most atoms of a structure; None for `LARGEST`.
        neighbours: most neighbours of an atom of a periodic structure; None to refuse periodic structures.
        max_batch: most structures of a batch.
    """

    optional: tuple[str, ...] = OPTIONAL

    def __init__(
        self,
        surrogate: PotentialSurrogate | MixtureSurrogate,
        largest: int | None,
        neighbours: int | None,
        max_batch: int,
    ) -> None:
        self.simulator: Any = surrogate
        self.inputs = surrogate.spec.inputs
        self._names = tuple(v.name for v in surrogate.spec.outputs)
        self.outputs = (*surrogate.spec.outputs, *((OUTPUTS[STRESS],) if neighbours else ()))
        self._shapes = FixedShapes.up_to(largest or LARGEST, neighbours, max_batch)
        self._experts: tuple[Any, ...] = getattr(surrogate, "experts", (surrogate,))
        self.settings: dict[str, object] = {
            "padded sizes": ", ".join(f"{n} atoms" for n in self._shapes.sizes),
            "periodic structures": f"up to {self._shapes.neighbours} neighbours" if neighbours else "refused",
        }

    def compile(self) -> None:
        """See `Answerer.compile`."""
        for expert in self._experts:
            compile_shapes(expert, self._shapes)

    def read(self, question: Question) -> Readable:
        """See `Answerer.read`."""
        columns = {variable.name: question.column(variable.name) for variable in self.inputs}
        by_name = {variable.name: variable for variable in self.inputs}
        largest = self._shapes.sizes[-1]

        def read(row: int) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
            charge, cell = 0, np.zeros((3, 3))
            numbers = array_of(by_name["numbers"], columns["numbers"][row], FIXED_DIMS)
            positions = array_of(by_name["positions"], columns["positions"][row], FIXED_DIMS)
            if "charge" in columns and columns["charge"][row] not in (MISSING, None):
                charge = int(array_of(by_name["charge"], columns["charge"][row], FIXED_DIMS))
            if "cell" in columns and columns["cell"][row] is not MISSING and columns["cell"][row] is not None:
                cell = array_of(by_name["cell"], columns["cell"][row], FIXED_DIMS)
            if len(numbers) != len(positions):
                raise invalid(f"it has {len(positions)} atoms, and numbers has {len(numbers)}", "positions")
            if len(numbers) > largest:
                raise invalid(
                    f"it has {len(numbers)} atoms, and the server was started for {largest}", "numbers",
                    "Start understudy serve with a greater largest=N",
                )  # fmt: skip
            if (numbers < 1).any() or (numbers > MAX_ATOMIC_NUMBER).any():
                raise invalid(f"an atomic number lies outside of 1 to {MAX_ATOMIC_NUMBER}", "numbers")
            if np.abs(positions).max() > 1e6:
                raise invalid("a position is larger than 10^6 Angstrom", "positions")
            if cell.any() and self._shapes.neighbours is None:
                raise invalid(
                    "periodic structures are refused", "cell",
                    "Leave it out, or start understudy serve with neighbours=N, the most neighbours of an atom",
                )  # fmt: skip
            if cell.any() and _height(cell) < THINNEST:
                raise invalid(f"the cell is thinner than {THINNEST} Angstrom, or its vectors do not span it", "cell")
            return numbers, positions, charge, cell

        good, rows, refusals = rows_read(question, read)
        return Readable(question.rows, indices(good), rows, refusals)

    def answer(self, readable: Readable) -> Answer:
        """See `Answerer.answer`."""
        rows: list[Any] = readable.inputs
        refusals = self._refused(rows)
        places = [place for place in range(len(rows)) if place not in refusals]
        named: dict[str, list[Any]] = {variable.name: [None] * len(rows) for variable in self.outputs}
        if places:
            table = _table([rows[place] for place in places])
            answers = self.simulator.predict_structures(table)
            for i, place in enumerate(places):
                atoms = slice(int(table.atom_start[i]), int(table.atom_start[i + 1]))
                one = {}
                for name in named:
                    values = getattr(answers, name)
                    if values is not None:
                        one[name] = values[atoms] if OUTPUTS[name].dims[:1] == ("atom",) else values[i]
                if STRESS in one and not np.isfinite(one[STRESS]).all():
                    del one[STRESS]
                if not all(np.isfinite(values).all() for values in one.values()):
                    refusals[place] = NOT_FINITE
                    continue
                for name, values in one.items():
                    named[name][place] = values
        columns: dict[str, Any] = {name: values for name, values in named.items() if name in self._names or any(
            value is not None for value in values)}  # fmt: skip
        for variable in self.outputs:
            if not variable.dims and variable.name in columns:
                columns[variable.name] = np.array([0 if v is None else v for v in columns[variable.name]],
                                                  np.dtype(variable.dtype))  # fmt: skip
        return readable.answer(columns, refusals)

    def _refused(self, rows: list[Any]) -> dict[int, Refusal]:
        """The rows that the potential does not answer; each is asked about alone if one of them is refused."""
        if not rows or self._refusal(rows) is None:
            return {}
        refusals = {}
        for place, row in enumerate(rows):
            if (why := self._refusal([row])) is not None:
                refusals[place] = why
        return refusals

    def _refusal(self, rows: list[Any]) -> Refusal | None:
        table = _table(rows)
        try:
            self.simulator.refuse_unknown(table)
            for expert in self._experts:
                self._shapes.refuse_crowded(table, expert.cutoff_angstrom)
        except SimulationError as error:
            return Refusal(error.kind, error.message.replace("structure 0", "the structure"))
        except ValueError as error:  # such as a cell whose vectors do not span it
            return refusal_of(SimulationError("invalid_input", str(error)))
        return None

    def close(self) -> None:
        """See `Answerer.close`."""


def _height(cell: np.ndarray) -> float:
    """The smallest distance of two faces of a cell, Angstrom; 0 if its vectors do not span it."""
    vectors = cell[cell.any(axis=1)]
    if np.linalg.matrix_rank(vectors) < len(vectors):
        return 0.0
    return float(1 / np.linalg.norm(np.linalg.pinv(vectors), axis=0).max())


def _table(rows: list[Any]) -> Structures:
    numbers, positions, charge, cell = zip(*rows, strict=True)
    return Structures.from_arrays(numbers, positions, charge=charge, lattice=cell)
