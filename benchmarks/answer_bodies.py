"""Measures cascades for answers on bodies in a channel: a network of numbers, one of meshes, and NGSolve.

Two networks learn from the same labels: one maps the numbers of a body to its drag and lift, the other the body's own
mesh to velocity, pressure, drag and lift. Its mesh is made by the solver's mesher, which counts in its cost. The last
rung is the solver as it made the labels. Fresh bodies calibrate the cascade, and the others are answered, over many
random splits of them. An answer is wrong if its drag, or its drag or lift, is off by more than the tolerance.

Beside it stand both networks alone, the solver with lower orders on the same mesh and on coarser ones, and a second
ladder that has these solvers in place of the mesh network. The best cheaper solver is the cheapest one that is wrong on
at most the promised share of all fresh bodies, which is known only with hindsight. Costs are processor time of answers
to requests on one core, meshing counted, and include the last rung. Rungs that cost more than they save are left out
of each cascade (`surrogates.cascade.ladder_choice`), as in `understudy calibrate`; the cascade of both networks is also
printed with all of its rungs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import drag, mesh_flow
from benchmarks.answer_cascade import SplitOutcome, one_split
from benchmarks.common import Result, arguments, pin, report

if TYPE_CHECKING:
    from simulators.adapter import Simulator
    from surrogates.cascade.difficulty import Answer
    from surrogates.cascade.risk_calibration import LabelledAnswers

#: Overrides of the mesh network. Two members, because a single one finds every body equally hard.
MESHES = [
    "model.ensemble=2",
    "model.network.features=32",
    "model.network.blocks=6",
    "train.epochs=100000",
]
#: Cheaper settings of the solver: factor on the default mesh size, and polynomial order; the labels have 1 and 4.
SOLVERS = ((4.0, 2), (2.0, 2), (1.0, 2), (1.0, 3))
OUTPUTS = (("drag",), ("drag", "lift"))
#: Seed of the fresh bodies; those of training have 0.
FRESH = 1


@dataclass(frozen=True)
class LadderRung:
    """Answers of one rung to all fresh bodies.

    Attributes:
        name: for people.
        answers: to each body, or its failure.
        cost_s: processor time of one of them, s.
    """

    name: str
    answers: Sequence[Answer]
    cost_s: float


def answered(name: str, rung: Simulator, requests: Sequence[Any], first: int) -> LadderRung:
    """The answers of a rung and their cost, after the first `first` requests loaded libraries and compiled programs."""
    from surrogates.cascade.answer_cascade import ask

    ask(rung, requests[:first])
    began = time.process_time()
    answers = ask(rung, requests)
    return LadderRung(name, answers, (time.process_time() - began) / len(requests))


def cheap_rungs(base: Path, requests: Sequence[Any]) -> tuple[list[LadderRung], list[LadderRung]]:
    """The networks trained below `base`, and the cheaper solvers, from cheap to expensive."""
    from simulators.fluids.ngsolve.flow import NGSolveFlow
    from simulators.mesh_first import MeshFirst
    from surrogates.saved import load_surrogate

    flow = NGSolveFlow()
    numbers = load_surrogate(base / "numbers" / "surrogate")
    meshes = MeshFirst(load_surrogate(base / "mesh" / "surrogate"), flow)
    # Each size of mesh is a program of its own, so that all of them are asked first.
    networks = [
        answered("network of numbers", numbers, requests, len(requests)),
        answered("mesh network", meshes, requests, len(requests)),
    ]
    solvers = []
    for factor, order in SOLVERS:
        solver = flow.with_mesh(maxh=flow.maxh * factor, order=order)
        solvers.append(answered(f"P{order}, maxh {solver.maxh:g} m", solver, requests, 2))
    return networks, solvers


def wrong_share(rung: LadderRung, last: LadderRung, tau: Mapping[str, float]) -> float:
    """The share of bodies of which the answer of a rung alone is wrong, or is missing."""
    from data.spec import SimulationError
    from surrogates.cascade.difficulty import error

    pairs = zip(rung.answers, last.answers, strict=True)
    return float(
        np.mean([isinstance(answer, SimulationError) or error(answer, label, tau) > 1 for answer, label in pairs])
    )


def splits_of(
    tables: Mapping[tuple[int, ...], LabelledAnswers],
    rungs: Sequence[LadderRung],
    last_s: float,
    options: argparse.Namespace,
    confidence: float | None,
    *,
    keep_all: bool = False,
) -> list[SplitOutcome]:
    """A cascade of `rungs` and the solver on many random splits of the fresh bodies.

    Args:
        tables: see `surrogates.cascade.ladder_choice.ladders`.
        rungs: rungs before the last one.
        last_s: processor time of an answer of the last one, s.
        options: `alpha`, `labels` and `splits`.
        confidence: of the promise; None for a mean over splits.
        keep_all: whether rungs that cost more than they save are kept.
    """
    from surrogates.cascade.risk_calibration import Risk

    risk = Risk(options.alpha, confidence=confidence, design=0.3)
    how = argparse.Namespace(labels=options.labels, reference_seconds=last_s, keep_all=keep_all)
    costs, rng = np.array([[rung.cost_s] for rung in rungs]), np.random.default_rng(0)
    return [one_split(tables, costs, risk, how, rng) for _ in range(options.splits)]


def cascade_results(
    line: str,
    outcomes: Sequence[SplitOutcome],
    rungs: Sequence[LadderRung],
    beside: Mapping[str, float],
    last_s: float,
    alpha: float,
) -> list[Result]:
    """The numbers of one cascade: what was wrong, who answered, and its cost beside others.

    Args:
        line: description of the cascade.
        outcomes: of all splits.
        rungs: rungs before the last one.
        beside: name of what is always asked instead -> processor time of one of its answers, s.
        last_s: processor time of an answer of the solver, s.
        alpha: promised share of wrong answers.
    """
    wrong = np.array([outcome.wrong for outcome in outcomes])
    shares = np.mean([outcome.shares for outcome in outcomes], axis=0)
    cost = float(np.mean([outcome.costs[0] + outcome.shares[-1] * last_s for outcome in outcomes]))
    names = [*(rung.name for rung in rungs), "NGSolve"]
    return [
        Result(f"{line}: wrong answers, mean of splits", float(wrong.mean()), "1"),
        Result(f"{line}: splits with at most {alpha:g} wrong", float((wrong <= alpha).mean()), "1"),
        *(
            Result.against(f"{line}: cost of an answer", 1e3 * cost, "core-ms", f"always {name}", 1e3 * seconds)
            for name, seconds in beside.items()
        ),
        *(Result(f"{line}: answered by {name}", float(s), "1") for name, s in zip(names, shares, strict=True) if s),
        *(
            Result(f"{line}: splits without {name}", without, "1")
            for k, name in enumerate(names[:-1])
            if (without := float(np.mean([k in o.dropped for o in outcomes])))
        ),
    ]


def results_of(
    head: str,
    tau: Mapping[str, float],
    networks: Sequence[LadderRung],
    solvers: Sequence[LadderRung],
    last: LadderRung,
    options: argparse.Namespace,
) -> list[Result]:
    """The numbers of one tolerance: each rung alone, and the cascades with each promise."""
    from surrogates.cascade.ladder_choice import ladders
    from surrogates.cascade.risk_calibration import LabelledAnswers

    every = [*networks, *solvers]
    labelled = LabelledAnswers.of([*(rung.answers for rung in every), last.answers], tau, domain=False)
    wrong = (labelled.error > 1).mean(axis=0)
    results = [Result(f"{head}: {rung.name} alone, wrong", float(w), "1") for rung, w in zip(every, wrong, strict=True)]
    cheap = [rung for rung, w in zip(every, wrong, strict=True) if rung in solvers and w <= options.alpha]
    beside = {"mesh network": networks[1].cost_s, "NGSolve": last.cost_s}
    if cheap:
        best = min(cheap, key=lambda rung: rung.cost_s)
        beside[f"best cheaper NGSolve ({best.name})"] = best.cost_s
    groups = {"networks": networks, "network of numbers and cheaper NGSolve": [networks[0], *solvers]}
    for group, rungs in groups.items():
        tables = ladders([*(rung.answers for rung in rungs), last.answers], tau)
        for confidence in (None, options.confidence):
            promise = "mean" if confidence is None else f"confidence {confidence:g}"
            for keep_all in (False, True):
                if keep_all and rungs is not networks:
                    continue
                outcomes = splits_of(tables, rungs, last.cost_s, options, confidence, keep_all=keep_all)
                line = f"{head}, {group}{', all kept' if keep_all else ''}, {promise}"
                results += cascade_results(line, outcomes, rungs, beside, last.cost_s, options.alpha)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.set_defaults(cores=1)
    parser.add_argument("--bodies", type=int, default=400, help="labels from which networks learn (%(default)s)")
    parser.add_argument("--fresh", type=int, default=200, help="labels that calibrate and test (%(default)s)")
    parser.add_argument("--labels", type=int, default=100, help="of these, that calibrate each split (%(default)s)")
    parser.add_argument(
        "--core-seconds", type=float, default=200.0, help="training of the mesh network, processor time (%(default)s)"
    )
    parser.add_argument(
        "--tau", type=float, nargs="+", default=[0.05, 0.1, 0.2], help="of the coefficients (%(default)s)"
    )
    parser.add_argument("--alpha", type=float, default=0.1, help="promised probability of a wrong answer (%(default)s)")
    parser.add_argument("--confidence", type=float, default=0.9, help="of the second promise (%(default)s)")
    parser.add_argument("--splits", type=int, default=100, help="random splits (%(default)s)")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    base = (options.out / "answer_bodies").resolve()
    base.mkdir(parents=True, exist_ok=True)
    store, _ = mesh_flow.label_flows(base, options.bodies, len(cores))
    fresh = drag.label_bodies(base / "fresh", options.fresh, len(cores), FRESH)
    scores, training = drag.train_surrogate(store, base / "numbers", [], OUTPUTS[-1])
    limit = f"train.max_core_seconds={options.core_seconds:g}"
    mesh_scores = mesh_flow.train_surrogate(store, base / "mesh", None, [*MESHES, limit])
    from data.spec import SimulationError
    from experiments.answering.labelled_requests import read_labels
    from simulators.fluids.ngsolve.flow import NGSolveFlow

    labelled = read_labels(fresh, NGSolveFlow(), "ngsolve", OUTPUTS[-1])
    last = LadderRung("NGSolve", labelled.labels, labelled.cost_s)
    networks, solvers = cheap_rungs(base, labelled.requests)
    count = len(labelled.requests)
    results = [
        Result(f"labels: {options.bodies} bodies with fields", scores["train/label_core_seconds"], "core-s"),
        Result(f"fresh labels: {count} bodies", count * last.cost_s, "core-s"),
        Result("network of numbers: training", training, "core-s"),
        Result("mesh network: training", mesh_scores["train/core_seconds"], "core-s"),
    ]
    for name in OUTPUTS[-1]:
        sizes = [abs(float(label[name])) for label in labelled.labels if not isinstance(label, SimulationError)]
        size = float(np.mean(sizes))
        results.append(Result(f"mean size of the {name}", size, "1"))
    results += [
        Result(f"{rung.name}: one answer", 1e3 * rung.cost_s, "core-ms") for rung in (*networks, *solvers, last)
    ]
    for outputs in OUTPUTS:
        for tau in options.tau:
            head = f"{' and '.join(outputs)} within {tau:g}"
            results += results_of(head, dict.fromkeys(outputs, tau), networks, solvers, last, options)
    report("answer_bodies", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
