"""What a surrogate stands on: a cheaper simulator or surrogate, whose answers are inputs and a first estimate.

A surrogate that stands on another one learns what is wrong with its answers: a line through these answers is fitted to
the labels first, and a network learns what the line leaves, with the answers among its inputs (Ramakrishnan et al.
2015, doi:10.1021/acs.jctc.5b00099). The facts of the surrogate hold the name, settings and fingerprint of the cheaper
one, so that its fingerprint does too, and another one is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from data.errors import InputError
from data.plain import to_plain
from data.spec import SimulationError, Spec, Variable
from simulators.adapter import Simulator
from simulators.rebuild import describe
from surrogates.learning.normalise import Standardise, refuse_unlike

#: Dim of lists whose entries have names, which the Spec gives as a coordinate, and are a column each.
NAMED = "descriptor"
#: What any other list of numbers, such as the charges of atoms, is reduced to, by suffix of the column.
SUMMARIES: Mapping[str, Callable[[np.ndarray], Any]] = {"min": np.min, "max": np.max, "std": np.std}


@dataclass(frozen=True)
class RungAnswers:
    """Answers to requests, in the order of the requests.

    Attributes:
        values: the outputs of each answer by name; not meaningful where there is none.
        reasons: why a request has no answer; "" where it has one.
        core_seconds: processor time of all answers, s; failures count.
    """

    values: Sequence[Mapping[str, Any]]
    reasons: Sequence[str]
    core_seconds: float

    @property
    def ok(self) -> Bool[np.ndarray, " request"]:
        """Whether each request was answered."""
        return np.array([not reason for reason in self.reasons], bool)


class Rung(Protocol):
    """A cheaper simulator, and how it is asked in training.

    Attributes:
        simulator: the simulator, or a surrogate.
        outputs: those of its outputs that are used; empty for all that the kind of surrogate can use.
    """

    @property
    def simulator(self) -> Simulator: ...

    @property
    def outputs(self) -> Sequence[str]: ...

    def ask(
        self, requests: Sequence[xr.Dataset], names: Sequence[str], store: Path, *, progress: bool = True
    ) -> RungAnswers:
        """Answers to requests.

        Args:
            requests: requests that fit the simulator.
            names: outputs to return.
            store: store of the answers; those in it are not computed again.
            progress: whether to show a progress bar and a table.
        """
        ...


@dataclass(frozen=True)
class FittedRung:
    """A first estimate that a kind of surrogate fits to its training samples itself.

    Attributes:
        name: one of `Task.FITTED_RUNGS` of the kind.
    """

    name: str


@dataclass(frozen=True)
class Line:
    """A linear map from features to targets: `offset + weights @ features`.

    Attributes:
        offset: by target.
        weights: by target, then by feature.
    """

    offset: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        refuse_unlike(offset=self.offset, weights=self.weights)

    @staticmethod
    def fit(features: Float[np.ndarray, "sample feature"], targets: Float[np.ndarray, "sample target"]) -> Line:
        """Least squares over the samples whose target is finite; of many solutions, the one of smallest norm.

        Raises:
            InputError: a target has no finite value.
        """
        offsets, weights = [], []
        design = np.concatenate([np.ones((len(features), 1)), np.asarray(features, np.float64)], axis=1)
        for values in np.asarray(targets, np.float64).T:
            keep = np.isfinite(values)
            if not keep.any():
                raise InputError("a target has no finite label to learn from")
            # The mean is taken off first, so that it is the answer where features say nothing.
            mean = float(values[keep].mean())
            solution = np.linalg.lstsq(design[keep], values[keep] - mean, rcond=1e-10)[0]
            offsets.append(mean + float(solution[0]))
            weights.append(tuple(solution[1:].tolist()))
        return Line(tuple(offsets), tuple(weights))

    def without(self, targets: Collection[int]) -> Line:
        """The line that is zero for targets at these places."""
        offset = tuple(0.0 if k in targets else value for k, value in enumerate(self.offset))
        weights = tuple((0.0,) * len(row) if k in targets else row for k, row in enumerate(self.weights))
        return Line(offset, weights)

    def apply(self, features: Float[np.ndarray, "sample feature"]) -> Float[np.ndarray, "sample target"]:
        """The targets of samples, in double precision."""
        weights = np.array(self.weights, np.float64).reshape(len(self.offset), -1)
        return np.asarray(features, np.float64) @ weights.T + np.array(self.offset)


@dataclass(frozen=True)
class Standing:
    """What is saved with a surrogate of the one that it stands on.

    Attributes:
        simulator: description by `simulators.rebuild.describe`, with the fingerprint.
        outputs: outputs that are used, and the unit of each.
        scale: mean and standard deviation of the columns (see `columns`) over the training samples.
        line: the line through the columns, divided by their scale, that is the first estimate of the targets.
        cost_s: processor time of one answer in training, s.
    """

    simulator: Mapping[str, Any]
    outputs: Mapping[str, str]
    scale: Standardise
    line: Line
    cost_s: float

    def __post_init__(self) -> None:
        if any(len(row) != len(self.scale.names) for row in self.line.weights):
            raise ValueError(f"the line must have a weight for each of {', '.join(self.scale.names)}")
        if not self.simulator.get("fingerprint") or not self.cost_s >= 0:
            raise ValueError("simulator must have a fingerprint, and cost_s must be 0 or more")

    @staticmethod
    def fit(
        simulator: Simulator,
        outputs: Sequence[Variable],
        values: Float[np.ndarray, "sample column"],
        labels: Float[np.ndarray, "sample target"],
        cost_s: float,
        names: Sequence[str] | None = None,
    ) -> Standing:
        """Fit scale and line to training samples.

        Args:
            simulator: the cheaper one.
            outputs: outputs of it that are used.
            values: the columns of its answers, as `columns` names them.
            labels: targets; NaN where a label is missing.
            cost_s: processor time of one answer, s.
            names: names of the columns; None for those of `columns`.
        """
        scale = Standardise.fit(tuple(names or columns(outputs, simulator.spec)), values)
        line = Line.fit(scale.apply(values), labels)
        units = {v.name: v.units for v in outputs}
        return Standing(to_plain(describe(simulator)), units, scale, line, cost_s)

    @property
    def name(self) -> str:
        """Name of the cheaper simulator."""
        return str(self.simulator["name"])

    def variables(self, simulator: Simulator) -> list[Variable]:
        """The outputs that are used, of a simulator that is asked for them.

        Raises:
            InputError: it is another simulator, or gives another unit.
        """
        if simulator.fingerprint != self.simulator["fingerprint"]:
            raise InputError(f"the surrogate stands on {self.name}, not on this {simulator.name}", where="on")
        by_name = {v.name: v for v in simulator.spec.outputs}
        if lacking := [name for name in self.outputs if name not in by_name]:
            remedy = f"It gives {', '.join(by_name)}"
            raise InputError(f"{simulator.name} gives no {lacking[0]}", where="on", remedy=remedy)
        chosen = [by_name[name] for name in self.outputs]
        for variable in chosen:
            if variable.units != self.outputs[variable.name]:
                raise InputError(
                    f"{simulator.name} gives {variable.name} in {variable.units}, not in {self.outputs[variable.name]}",
                    where="on",
                )
        return chosen

    def attrs(self) -> dict[str, str]:
        """What the Spec says of it."""
        return {"on": self.name, "on_fingerprint": str(self.simulator["fingerprint"])}


@dataclass(frozen=True)
class RungColumns:
    """Answers to labelled samples as a table.

    Attributes:
        simulator: the simulator that gave them.
        outputs: outputs that the columns hold.
        values: one row for each sample, NaN where there is no answer.
        reasons: why a sample has no answer; "" where it has one.
        core_seconds: processor time of all answers, s.
        requests: number of requests, which may be fewer than samples.
    """

    simulator: Simulator
    outputs: Sequence[Variable]
    values: Float[np.ndarray, "sample column"]
    reasons: Sequence[str] = field(repr=False)
    core_seconds: float
    requests: int

    @staticmethod
    def of(simulator: Simulator, outputs: Sequence[Variable], answers: RungAnswers) -> RungColumns:
        """The columns of answers."""
        values = np.full((len(answers.reasons), len(columns(outputs, simulator.spec))), np.nan)
        for row in np.flatnonzero(answers.ok).tolist():
            values[row] = flat(outputs, answers.values[row])
        return RungColumns(simulator, outputs, values, answers.reasons, answers.core_seconds, len(answers.reasons))

    @property
    def ok(self) -> Bool[np.ndarray, " sample"]:
        """Whether each sample has an answer."""
        return np.isfinite(self.values).all(axis=1)

    @property
    def cost_s(self) -> float:
        """Processor time of one answer, s."""
        return self.core_seconds / max(self.requests, 1)

    def costs(self) -> dict[str, float]:
        """Metrics: processor time (s), requests and failures."""
        failed = float(self.requests - int(self.ok.sum()))
        return {"on/core_seconds": self.core_seconds, "on/requests": float(self.requests), "on/failed": failed}


def usable_outputs(simulator: Simulator, names: Sequence[str] = (), *, lists: Sequence[str] = ()) -> list[Variable]:
    """Outputs of a simulator that can be inputs of a surrogate: numbers, and lists of numbers.

    Args:
        simulator: simulator or surrogate.
        names: outputs that are chosen; empty for all numbers, and all lists along one of `lists`.
        lists: dims of lists that are used if no output is chosen, such as atom.

    Raises:
        InputError: there is no such output, it is neither a number nor a list of numbers, or none is left.
    """
    by_name = {v.name: v for v in simulator.spec.outputs}
    if not names:
        numbers = [v for v in by_name.values() if v.dtype.startswith("float")]
        chosen = [v for v in numbers if not v.dims or (len(v.dims) == 1 and v.dims[0] in lists)]
        if not chosen:
            raise InputError(f"{simulator.name} gives no number", where="on", remedy="Name another simulator")
        return chosen
    for name in names:
        variable = by_name.get(name)
        if variable is None:
            remedy = f"It gives {', '.join(by_name)}"
            raise InputError(f"{simulator.name} gives no {name}", where="rung.outputs", remedy=remedy)
        if len(variable.dims) > 1 or not variable.dtype.startswith("float"):
            raise InputError(f"{name} is neither a number nor a list of numbers", where="rung.outputs")
    return [by_name[name] for name in names]


def columns(outputs: Sequence[Variable], spec: Spec) -> tuple[str, ...]:
    """Names of the columns: those of numbers, of the entries of lists of descriptors, and three for each other list.

    The three are such as charges_min, charges_max and charges_std.

    Args:
        outputs: outputs that are used.
        spec: the Spec that has them.
    """
    names: list[str] = []
    for variable in outputs:
        if variable.dims == (NAMED,):
            names += map(str, spec.coordinate(NAMED).values)
        else:
            names += [f"{variable.name}_{suffix}" for suffix in SUMMARIES] if variable.dims else [variable.name]
    return tuple(names)


def flat(outputs: Sequence[Variable], answer: Mapping[str, Any]) -> list[float]:
    """The columns of one answer."""
    row: list[float] = []
    for variable in outputs:
        value = np.asarray(answer[variable.name], np.float64)
        if variable.dims == (NAMED,):
            row += value.tolist()
        elif variable.dims:
            row += [float(reduce(value)) if value.size else float("nan") for reduce in SUMMARIES.values()]
        else:
            row.append(float(value))
    return row


def ask_here(simulator: Simulator, requests: Sequence[xr.Dataset], names: Sequence[str]) -> RungAnswers:
    """Answers to requests, one after the other in this process."""
    values: list[Mapping[str, Any]] = []
    reasons: list[str] = []
    start = time.process_time()
    for request in requests:
        try:
            answer = simulator.simulate(request)
        except SimulationError as error:
            values.append({})
            reasons.append(f"{error.kind}: {error.message}")
        else:
            values.append({name: answer[name].values for name in names})
            reasons.append("")
    return RungAnswers(values, reasons, time.process_time() - start)
