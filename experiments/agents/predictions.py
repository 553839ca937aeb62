"""Answers of a trained surrogate for requests that a call holds, each with its interval and whether it may be trusted.

Molecules are parsed in a process that may die, as by the stages. Surrogates that were asked stay loaded.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.spec import SimulationError
from experiments.agents.confinement import Root, capped
from experiments.agents.failures import shown

#: Requests of a call, and surrogates that stay loaded.
MOST_INPUTS, MOST_LOADED = 1000, 4
#: Values of one request that are listed, such as the entries of a curve.
MOST_VALUES = 200
NOT_FINITE = "the answer is not finite; the request lies far outside of the domain"
ENDS = ("_std", "_low", "_high")


@dataclass(frozen=True)
class Value:
    """A predicted quantity.

    Attributes:
        value: the prediction.
        low, high: ends of its interval; None where it is not calibrated.
        std: standard deviation.
    """

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Prediction:
    """The answer to one request.

    Attributes:
        index: place of the request in the call.
        values: quantity -> prediction; empty if there is none.
        in_domain: whether the request looks like what was learned from; None where this surrogate cannot tell.
        arrays: outputs that are arrays, in words.
        error: why there is no answer.
    """

    index: int
    values: dict[str, Value] = field(default_factory=dict)
    in_domain: bool | None = None
    arrays: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Predictions:
    """The answers of a surrogate.

    Attributes:
        surrogate: directory, relative to the root.
        name, fingerprint: of the surrogate.
        labels_fingerprint: fingerprint of the simulator or the data that it learned from.
        units: unit of each quantity.
        coverage: share of intervals that hold the truth, on which they were calibrated; None where none is.
        out_of_domain: number of requests outside of the training domain: their intervals do not hold.
        predictions: answers in the order of the requests.
        scores: held-out scores with `coverage`, `mae` or a relative error in their names.
    """

    surrogate: str
    name: str
    fingerprint: str
    labels_fingerprint: str
    units: dict[str, str]
    coverage: float | None
    out_of_domain: int
    predictions: tuple[Prediction, ...]
    scores: dict[str, float] = field(default_factory=dict)


class Loaded:
    """Surrogates that stay in memory, the latest ones."""

    def __init__(self) -> None:
        self._surrogates: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def surrogate(self, directory: Path) -> Any:
        """The surrogate in a directory, read anew if it has changed.

        Raises:
            InputError: there is none, or a file of it is damaged.
        """
        from surrogates.learning.devices import enable_compilation_cache
        from surrogates.saved import CARD, load_surrogate

        key = (str(directory), (directory / CARD).stat().st_mtime_ns)
        with self._lock:
            if key not in self._surrogates:
                enable_compilation_cache()
                self._surrogates[key] = load_surrogate(directory)
                while len(self._surrogates) > MOST_LOADED:
                    self._surrogates.popitem(last=False)
            self._surrogates.move_to_end(key)
            return self._surrogates[key]


def surrogate_place(run: str, root: Root) -> Path:
    """The directory of a surrogate below the root, or of the run that made it, or of one of this package.

    Raises:
        InputError: there is none.
    """
    from surrogates.saved import surrogate_directory
    from surrogates.shipped import is_shipped

    return surrogate_directory(run if is_shipped(run) else str(root.inside(run, "surrogate")), "surrogate")


def predict(surrogate: Any, directory: str, inputs: Sequence[Mapping[str, Any]]) -> Predictions:
    """Answer requests.

    Args:
        surrogate: the surrogate.
        directory: its name for callers.
        inputs: requests: name of an input -> value.

    Raises:
        InputError: there are too many, or none.
    """
    if not 1 <= len(inputs) <= MOST_INPUTS:
        raise InputError(
            f"there must be 1 to {MOST_INPUTS:,} requests, got {len(inputs):,}", where="inputs",
            remedy="Write more to a file, and start predict or screen",
        )  # fmt: skip
    names = [v.name for v in surrogate.spec.inputs]
    answers: list[Prediction] = []
    rows: list[int] = []
    for index, request in enumerate(inputs):
        if set(request) != set(names):
            problem = f"takes {', '.join(names)}, got {capped(', '.join(map(str, request)) or 'nothing')}"
            answers.append(Prediction(index, error=problem))
        else:
            rows.append(index)
    with warnings.catch_warnings():
        # `in_domain` says it of each answer.
        warnings.simplefilter("ignore")
        answers += _answers(surrogate, [inputs[i] for i in rows], rows)
    answers.sort(key=lambda one: one.index)
    calibrated = getattr(surrogate.facts, "conformal", None) or {}
    levels = {1 - one.alpha for one in calibrated.values() if hasattr(one, "alpha")}
    kept = ("coverage", "mae", "relative", "rmse")
    return Predictions(
        directory,
        surrogate.name,
        surrogate.fingerprint,
        surrogate.labels_fingerprint,
        _units(surrogate),
        min(levels) if levels else None,
        sum(one.in_domain is False for one in answers),
        tuple(answers),
        {name: float(v) for name, v in surrogate.scores.items() if any(word in name for word in kept)},
    )


def _units(surrogate: Any) -> dict[str, str]:
    outputs = {v.name: v.units for v in surrogate.spec.outputs if not v.name.endswith(ENDS) and v.name != "in_domain"}
    if surrogate.KIND != "parameters":
        return outputs
    # Entries of a curve are quantities of their own.
    layout = surrogate.facts.layout
    names = (t for v in layout.outputs for t in layout.targets[layout.target_slices[v.name]])
    units = (v.units for v in layout.outputs for _ in layout.targets[layout.target_slices[v.name]])
    return dict(zip(names, units, strict=True))


def _answers(surrogate: Any, inputs: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> list[Prediction]:
    if not rows:
        return []
    if surrogate.KIND == "properties" and surrogate.facts.on is None:
        return _of_molecules(surrogate, [str(one["smiles"]) for one in inputs], rows)
    if surrogate.KIND == "parameters":
        return _of_numbers(surrogate, inputs, rows)
    return [_one(surrogate, request, index) for request, index in zip(inputs, rows, strict=True)]


def _of_molecules(surrogate: Any, smiles: Sequence[str], rows: Sequence[int]) -> list[Prediction]:
    from data.molecules.foreign import encode

    table, rejected = encode(smiles)
    answers = [Prediction(rows[i], error=capped(reason)) for i, reason in rejected]
    if not len(table):
        return answers
    columns = surrogate.predict_table(table)
    calibrated = frozenset(surrogate.facts.conformal)
    return answers + _of_columns(columns, surrogate.targets, [rows[int(i)] for i in table.source_index], calibrated)


def _of_numbers(surrogate: Any, inputs: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> list[Prediction]:
    layout, answers = surrogate.facts.layout, []
    table, kept = [], []
    for request, index in zip(inputs, rows, strict=True):
        try:
            row = layout.flat({name: np.asarray(value, np.float64) for name, value in request.items()})
            if row.shape != (len(layout.columns),) or not np.isfinite(row).all():
                raise ValueError("an input has another shape, or is not finite")
        except (TypeError, ValueError) as error:
            answers.append(Prediction(index, error=capped(str(error))))
            continue
        table.append(row)
        kept.append(index)
    if not table:
        return answers
    columns = surrogate.predict_table(np.stack(table))
    return answers + _of_columns(columns, surrogate.targets, kept, frozenset(surrogate.facts.conformal))


def _of_columns(
    columns: Mapping[str, np.ndarray], targets: Sequence[str], rows: Sequence[int], calibrated: frozenset[str]
) -> list[Prediction]:
    answers = []
    for place, index in enumerate(rows):
        values = {}
        for name in targets[:MOST_VALUES]:
            number = float(columns[name][place])
            if not math.isfinite(number):
                break
            # An interval that no labels were set aside for is none.
            low, high = (
                float(columns[f"{name}{end}"][place]) if name in calibrated else None for end in ("_low", "_high")
            )
            values[name] = Value(number, low, high, float(columns[f"{name}_std"][place]))
        if len(values) < min(len(targets), MOST_VALUES):
            answers.append(
                Prediction(index, error="the answer is not finite; the request lies far outside of the domain")
            )
            continue
        answers.append(Prediction(index, values, bool(columns["in_domain"][place])))
    return answers


def _one(surrogate: Any, request: Mapping[str, Any], index: int) -> Prediction:
    """The answer to a request as a simulator gives it, for kinds whose outputs are arrays."""
    try:
        answer = surrogate.simulate(surrogate.spec.request(request))
    except SimulationError as error:
        return Prediction(index, error=capped(str(error)))
    except (TypeError, ValueError) as error:
        return Prediction(index, error=capped(f"invalid_input: {error}"))
    numbers = {str(name): float(v) for name, v in answer.data_vars.items() if not v.dims and v.dtype.kind in "fiu"}
    values = {
        name: Value(number, numbers.get(f"{name}_low"), numbers.get(f"{name}_high"), numbers.get(f"{name}_std"))
        for name, number in numbers.items()
        if not name.endswith(ENDS)
    }
    arrays = {str(name): str(shown(v.values)) for name, v in answer.data_vars.items() if v.dims}
    inside = bool(answer["in_domain"]) if "in_domain" in answer and not answer["in_domain"].dims else None
    return Prediction(index, values, inside, arrays)
