"""Answers of a potential to many requests: all structures in batches, and one error for each that it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import xarray as xr

from data.spec import SimulationError, Spec, check, dataset
from data.structures.structures import Structures
from surrogates.potentials.potential_spec import INPUTS, OPTIONAL, OUTPUTS, StructurePredictions
from surrogates.trained import refuse_not_finite


class PredictsStructures(Protocol):
    """The part of a potential that answers requests."""

    @property
    def spec(self) -> Spec: ...

    def refuse_unknown(self, structures: Structures) -> None:
        """Raise SimulationError for structures that cannot be predicted."""
        ...

    def predict_structures(self, structures: Structures) -> StructurePredictions:
        """Predict a table of structures."""
        ...


def structures_of(requests: Sequence[xr.Dataset]) -> Structures:
    """The structures of checked requests, in their order; an absent charge or cell is 0."""
    return Structures.from_arrays(
        [request["numbers"].values for request in requests],
        [request["positions"].values for request in requests],
        charge=[int(request["charge"]) if "charge" in request else 0 for request in requests],
        lattice=[request["cell"].values if "cell" in request else np.zeros((3, 3)) for request in requests],
    )


def answer_of(
    potential: PredictsStructures, predictions: StructurePredictions, table: Structures, row: int
) -> xr.Dataset:
    """The answer to the request of one row of a table.

    Raises:
        SimulationError: `not_converged`: it is not finite.
    """
    variables = potential.spec.outputs
    if predictions.stress is not None and table.volume[row] > 0:
        variables = (*variables, OUTPUTS["stress"])
    atoms = slice(table.atom_start[row], table.atom_start[row + 1])
    named: dict[str, Any] = {}
    for variable in variables:
        values = getattr(predictions, variable.name)
        named[variable.name] = values[atoms] if variable.dims[:1] == ("atom",) else values[row]
    answer = dataset(variables, named)
    refuse_not_finite(answer)
    return answer


def answer_requests(
    potential: PredictsStructures, requests: Sequence[xr.Dataset]
) -> list[xr.Dataset | SimulationError]:
    """The answer to each request, or why there is none; see `simulators.adapter.AnswersMany`."""
    answers: list[xr.Dataset | SimulationError | None] = [None] * len(requests)
    good: list[int] = []
    for row, request in enumerate(requests):
        try:
            check(request, INPUTS, optional=OPTIONAL)
            good.append(row)
        except SimulationError as error:
            answers[row] = error
    if good and _refused(potential, [requests[row] for row in good]) is not None:
        # One structure is enough for a refusal of all, so that each is asked about alone.
        for row in good:
            answers[row] = _refused(potential, [requests[row]])
        good = [row for row in good if answers[row] is None]
    if good:
        table = structures_of([requests[row] for row in good])
        try:
            predictions = potential.predict_structures(table)
        except SimulationError as error:
            # What all structures share is missing, such as the baseline.
            return [error if answer is None else answer for answer in answers]
        for place, row in enumerate(good):
            try:
                answers[row] = answer_of(potential, predictions, table, place)
            except SimulationError as error:
                answers[row] = error
    return [answer for answer in answers if answer is not None]


def _refused(potential: PredictsStructures, requests: Sequence[xr.Dataset]) -> SimulationError | None:
    try:
        potential.refuse_unknown(structures_of(requests))
    except SimulationError as error:
        return error
    return None
