"""Whether a simulator or a surrogate keeps its promises: equal answers to equal requests, units, refusals, coverage.

The promises are those of `simulators.adapter` and `surrogates.trained`. Each check states what it looked at, because
one that could not be made is neither kept nor broken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.reading_summary import Reading
from data.spec import SimulationError, check, dataset
from data.store.records import RecordStore
from experiments.agents.confinement import capped
from experiments.agents.predictions import Prediction, predict
from experiments.agents.single_requests import answered
from simulators.adapter import Simulator
from simulators.workers.worker import WorkerAnswer

#: Requests of a test, and largest relative difference of two answers that count as equal.
MOST_REQUESTS, TOLERANCE = 5, 1e-6
#: Largest relative difference of a prediction alone and within a batch: float32, whose sums have another order.
BATCH_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ConformanceCheck:
    """One check.

    Attributes:
        name: what was checked.
        kept: whether it holds; None if it could not be checked.
        detail: numbers, or the reason.
    """

    name: str
    kept: bool | None
    detail: str


@dataclass(frozen=True)
class Conformance:
    """The checks of a simulator or surrogate.

    Attributes:
        name, fingerprint: of what was tested.
        passed: whether no promise is broken.
        promises: the checks.
        simulation_core_seconds: processor time of simulations in processes of their own, s.
    """

    name: str
    fingerprint: str
    passed: bool
    promises: tuple[ConformanceCheck, ...]
    simulation_core_seconds: float = 0.0


def test_simulator(simulator: Simulator, requests: Sequence[xr.Dataset], seconds: float) -> Conformance:
    """Check a simulator, whose answers are computed in processes that may be killed.

    Args:
        simulator: the simulator.
        requests: requests that it should answer.
        seconds: limit of wall time of each answer.

    Raises:
        InputError: there are too many requests, or none.
    """
    if not 1 <= len(requests) <= MOST_REQUESTS:
        raise InputError(f"there must be 1 to {MOST_REQUESTS} requests, got {len(requests)}", where="requests")
    spec, promises = simulator.spec, [_described(simulator)]
    problems, differing, failed = [], [], []
    # Each request twice, and at last one without its first input.
    incomplete = dataset(spec.inputs, {str(v): requests[0][v].values for v in list(requests[0].data_vars)[1:]})
    answers = answered(simulator, [*requests, *requests, incomplete], seconds)
    pairs = zip(answers, answers[len(requests) : -1], strict=False)
    for number, ((_, one), (_, two)) in enumerate(pairs):
        if one.status != "ok" or two.status != "ok":
            failed.append(f"request {number}: {one.status}: {capped(one.message)}")
            continue
        if (worst := _difference(one.values, two.values)) > TOLERANCE:
            differing.append(f"request {number} by {worst:.2g}")
        try:
            check(spec.answer(one.values), spec.outputs, sizes=spec.sizes)
            if absent := [v.name for v in spec.outputs if v.name not in one.values]:
                raise SimulationError("invalid_input", f"{', '.join(absent)} is missing")
        except SimulationError as error:
            problems.append(f"request {number}: {capped(error.message)}")
    count = len(requests) - len(failed)
    promises += [
        ConformanceCheck("answers the requests", not failed, "; ".join(failed) or f"{count} answered"),
        _without_problem(
            "gives equal answers to equal requests", differing, f"{count} asked twice, within {TOLERANCE:g}", count
        ),
        _without_problem(
            "has the names, dims, units and finite values of its spec", problems, f"{count} answers", count
        ),
        _refuses(answers[-1][1], several=len(spec.inputs) > 1),
    ]
    return replace(
        _conformance(simulator, promises), simulation_core_seconds=sum(job.core_seconds for job, _ in answers)
    )


def test_surrogate(
    surrogate: Any, directory: Path, requests: Sequence[Mapping[str, Any]], labels: Path | None
) -> Conformance:
    """Check a surrogate: as a simulator, its batches, and the coverage of its intervals on labels it has not seen.

    Args:
        surrogate: the surrogate.
        directory: where it lies.
        requests: requests that it should answer.
        labels: store or table with true values; None: coverage is that of its own held-out scores.
    """
    if len(requests) > MOST_REQUESTS:
        raise InputError(f"there may be {MOST_REQUESTS} requests at most, got {len(requests)}", where="requests")
    promises = [_described(surrogate)]
    if requests:
        first, again = predict(surrogate, "", requests), predict(surrogate, "", requests)
        alone = [predict(surrogate, "", [one]).predictions[0] for one in requests]
        failed = [f"request {p.index}: {p.error}" for p in first.predictions if p.error]
        pairs = list(zip(first.predictions, again.predictions, strict=True))
        apart = max((_apart(a, b) for a, b in pairs), default=0.0)
        batch = max((_apart(a, b) for a, b in zip(first.predictions, alone, strict=True)), default=0.0)
        wrong = [
            f"{name} of request {p.index}"
            for p in first.predictions
            for name, v in p.values.items()
            if v.low is not None and v.high is not None and not v.low <= v.value <= v.high
        ]
        count = len(requests) - len(failed)
        broken = {"not among the inputs": 0.0}
        refused = predict(surrogate, "", [broken]).predictions[0].error
        promises += [
            ConformanceCheck("answers the requests", not failed, "; ".join(failed) or f"{count} answered"),
            ConformanceCheck(
                "gives equal answers to equal requests", apart == 0, f"largest relative difference {apart:.2g}"
            ),
            ConformanceCheck(
                "answers alone as in a batch", batch <= BATCH_TOLERANCE, f"largest relative difference {batch:.2g}"
            ),
            _without_problem("has predictions within their intervals", wrong, f"{count} answers", count),
            ConformanceCheck("refuses a request that does not fit", bool(refused), refused or "it was answered"),
        ]
    else:
        promises.append(ConformanceCheck("answers the requests", None, "no requests were given"))
    promises.append(_coverage(surrogate, directory, labels))
    return _conformance(surrogate, promises)


def _coverage(surrogate: Any, directory: Path, labels: Path | None) -> ConformanceCheck:
    name = "intervals hold the promised share of held-out truths"
    if labels is None:
        scores = {k: v for k, v in surrogate.scores.items() if "coverage" in k}
        said = (
            f"held-out scores of its training: {_listed(scores)}" if scores else "it has no intervals, or no test part"
        )
        return ConformanceCheck(name, None if not scores else all(v >= 0.5 for v in scores.values()), said)
    from experiments.stages.evaluate import ScoredData
    from surrogates.family import FAMILIES
    from surrogates.learning.learned_from import read_hashes
    from surrogates.learning.overlap import UNSEEN

    readings: list[Reading] = []
    metrics = FAMILIES[surrogate.KIND].task.evaluate(
        surrogate, [labels], {**asdict(ScoredData()), "head": None}, None, readings, learned=read_hashes(directory)
    )
    shares = {k: v for k, v in metrics.items() if "coverage_90" in k and math.isfinite(v)}
    # Of a file of which the training has seen some, the others count.
    shares = {k: v for k, v in shares.items() if f"/{UNSEEN}/" in k} or shares
    used = sum(reading.used for reading in readings) - int(metrics.get(f"test/{labels.stem}/seen", 0))
    if not shares:
        return ConformanceCheck(name, None, "no interval could be compared with a label")
    mean, promised = float(np.mean(list(shares.values()))), 0.9
    # Three standard errors of a share among so many labels.
    slack = 3 * math.sqrt(promised * (1 - promised) / max(1, used))
    said = (
        f"{mean:.3f} of {promised} promised, over {used:,} labels (allowed for chance: {slack:.3f}): {_listed(shares)}"
    )
    return ConformanceCheck(name, mean >= promised - slack, said)


def _listed(scores: Mapping[str, float]) -> str:
    few = list(scores.items())[:6]
    return ", ".join(f"{name}={value:.3g}" for name, value in few) + (", ..." if len(scores) > len(few) else "")


def _described(simulator: Any) -> ConformanceCheck:
    facts, spec = simulator.provenance, simulator.spec
    lacking = [key for key in ("simulator", "version", "settings") if key not in facts]
    nameless = [v.name for v in (*spec.inputs, *spec.outputs) if not v.units or not v.long_name]
    problems = [f"provenance lacks {key}" for key in lacking] + [
        f"{name} has no unit or no description" for name in nameless
    ]
    count = len(spec.inputs) + len(spec.outputs)
    return ConformanceCheck("has provenance and units", not problems, "; ".join(problems) or f"{count} variables")


def _refuses(answer: WorkerAnswer, *, several: bool) -> ConformanceCheck:
    """Whether a request without one of its inputs is refused as such."""
    name = "refuses a request that does not fit"
    if not several:
        return ConformanceCheck(name, None, "it has one input alone")
    return ConformanceCheck(name, answer.status == "invalid_input", f"{answer.status}: {capped(answer.message)}")


def _without_problem(name: str, problems: Sequence[str], said: str, count: int) -> ConformanceCheck:
    if problems:
        return ConformanceCheck(name, False, capped("; ".join(problems)))
    return ConformanceCheck(name, True if count else None, said if count else "there was no answer")


def _conformance(tested: Any, promises: Sequence[ConformanceCheck]) -> Conformance:
    passed = all(promise.kept is not False for promise in promises)
    return Conformance(tested.name, tested.fingerprint, passed, tuple(promises))


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Largest difference of two answers, relative to the largest number of each variable."""
    worst = 0.0
    for name, value in one.items():
        a, b = np.asarray(value), np.asarray(other.get(name))
        if a.shape != b.shape:
            return math.inf
        if a.dtype.kind in "fiuc" and a.size:
            scale = max(float(np.abs(a).max()), 1e-300)
            worst = max(worst, float(np.abs(a - b).max()) / scale)
        elif not np.array_equal(a, b):
            return math.inf
    return worst


def _apart(one: Prediction, other: Prediction) -> float:
    if one.values.keys() != other.values.keys():
        return math.inf
    pairs = ((v.value, other.values[name].value) for name, v in one.values.items())
    return max((abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in pairs), default=0.0)


def requests_in(store: Path, names: Sequence[str], count: int = 3) -> list[dict[str, Any]]:
    """Requests of the first records of a store that have an answer."""
    records = RecordStore.open(store).records(names=tuple(names))
    return [{name: values[name] for name in names} for _, (_, values) in zip(range(count), records, strict=False)]
