"""Measures cascades for answers on frames of rMD17: a first network, ACE, an ensemble of four ACE, and the reference.

One small network, of ACE with one layer or what `--first` names instead, and four of ACE learn from 950 frames of the
training file, which are those of `benchmarks.potential_learning`. The single ACE is a member of the ensemble. Labels
of the test file calibrate the cascade, and its other frames are answered, over many random splits of the file. An
answer is wrong if its energy or any component of its forces is off by more than the tolerance.

Costs are processor time of the answers of all frames in batches, on one core: once as a cascade asks, with a Dataset
for each request and each answer, and once of the networks on a table alone. The cost of the reference is not in the
ratios: the share of frames that reach it stands beside them. Without confidence the promise is that of conformal risk
control, a mean over splits; with confidence it holds in that share of the splits, up to the chance of the frames that
are left to measure it. Networks that cost more than they save are left out (`surrogates.cascade.ladder_choice`), as in
`understudy calibrate`, unless `--keep-all` is given.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.potential_learning import FILES, ISOLATED, measure_once, ours, split, write

if TYPE_CHECKING:
    from surrogates.cascade.risk_calibration import LabelledAnswers, Risk
    from surrogates.potentials.surrogate import PotentialSurrogate

#: Configuration and overrides of the first network, and of the ensemble.
FIRST = ("ace_small", ["model.network.features=16", "model.network.layers=1", "model.ensemble=1", "model.committee=0"])
ENSEMBLE = ("ace_small", ["model.ensemble=4"])
RUNGS = ("first", "ACE", "four ACE", "reference")
#: Tolerance of energies, eV.
TAU_ENERGY = 0.02
#: How frames are handed to a network.
WAYS = ("as requests", "on a table")


@dataclass(frozen=True)
class SplitOutcome:
    """What a cascade did with the frames of one split that did not calibrate it.

    Attributes:
        wrong: share of wrong answers.
        shares: share of frames that each rung answered.
        costs: processor time of the networks for one frame, s, as requests and on a table.
        dropped: numbers of the rungs that the calibration left out.
    """

    wrong: float
    shares: Float[np.ndarray, " rung"]
    costs: Float[np.ndarray, " way"]
    dropped: tuple[int, ...]


def member(ensemble: PotentialSurrogate) -> PotentialSurrogate:
    """The first network of an ensemble, without error bars."""
    import jax
    from flax import nnx

    from surrogates.potentials.facts import weights_of
    from surrogates.potentials.surrogate import PotentialSurrogate

    config = replace(ensemble.facts.config, ensemble=1, committee=0)
    facts = replace(ensemble.facts, config=config)
    alone = nnx.eval_shape(facts.model)
    shapes = weights_of(nnx.split(alone)[1])

    def first(one: Any, all_members: Any) -> Any:
        return all_members if one.shape == all_members.shape else all_members[:1]

    weights = jax.tree.map(first, shapes, ensemble.arrays()["networks"])
    return PotentialSurrogate(facts.weighted(weights, alone), facts)


def one_split(
    tables: Mapping[tuple[int, ...], LabelledAnswers],
    costs: Float[np.ndarray, "rung way"],
    risk: Risk,
    options: argparse.Namespace,
    rng: np.random.Generator,
) -> SplitOutcome:
    """Calibrate with some of the frames, and answer the others.

    Args:
        tables: answers of the networks to all frames, by ladder (`surrogates.cascade.ladder_choice`).
        costs: of one answer of each rung before the last one, s; the last way is that by which rungs are chosen.
        risk: what is promised.
        options: `labels`, the number of frames that calibrate, `reference_seconds` and `keep_all`.
        rng: of the split.
    """
    from surrogates.cascade.ladder_choice import cheapest
    from surrogates.cascade.risk import answering_rung
    from surrogates.cascade.risk_calibration import calibrate, chances, wrong_answers

    every = tuple(range(len(costs)))
    order = rng.permutation(len(tables[every].error))

    def rows(labelled: LabelledAnswers, index: np.ndarray) -> LabelledAnswers:
        return replace(
            labelled,
            difficulty=labelled.difficulty[index],
            error=labelled.error[index],
            unlabelled=labelled.unlabelled[index],
        )

    first, later = order[: options.labels], order[options.labels :]
    chosen = every
    if not options.keep_all:
        some = {ladder: rows(labelled, first) for ladder, labelled in tables.items()}
        chosen = cheapest(some, [*costs[:, -1], options.reference_seconds], risk)
    result, others = calibrate(rows(tables[chosen], first), risk), rows(tables[chosen], later)
    rung = answering_rung(chances(result.errors, others.difficulty), result.threshold)
    asked = np.cumsum(np.concatenate([costs[list(chosen)], np.zeros((1, costs.shape[1]))]), axis=0)
    shares = np.zeros(len(costs) + 1)
    shares[[*chosen, len(costs)]] = np.bincount(rung, minlength=len(chosen) + 1) / len(rung)
    return SplitOutcome(
        float(wrong_answers(rung, others.error > 1).mean()),
        shares,
        asked[rung].mean(axis=0),
        tuple(k for k in every if k not in chosen),
    )


def results_of(
    head: str,
    tables: Mapping[tuple[int, ...], LabelledAnswers],
    costs: Float[np.ndarray, "rung way"],
    options: argparse.Namespace,
) -> list[Result]:
    """The numbers of one tolerance: each network alone, and the cascade with each promise."""
    from surrogates.cascade.risk_calibration import Risk

    results = []
    labelled = tables[tuple(range(len(costs)))]
    for k, name in enumerate(RUNGS[:-1]):
        results.append(Result(f"{head}: {name} alone, wrong", float((labelled.error[:, k] > 1).mean()), "1"))
    for confidence in (None, options.confidence):
        risk = Risk(options.alpha, confidence=confidence, design=0.3)
        rng = np.random.default_rng(0)
        outcomes = [one_split(tables, costs, risk, options, rng) for _ in range(options.splits)]
        wrong = np.array([outcome.wrong for outcome in outcomes])
        shares = np.mean([outcome.shares for outcome in outcomes], axis=0)
        promise = "mean" if confidence is None else f"confidence {confidence:g}"
        line = f"{head}, {promise}"
        results += [
            Result(f"{line}: wrong answers, mean of splits", float(wrong.mean()), "1"),
            Result(f"{line}: splits with at most {options.alpha:g} wrong", float((wrong <= options.alpha).mean()), "1"),
        ]
        spent = np.mean([outcome.costs for outcome in outcomes], axis=0) * 1e3
        for way, mine, theirs in zip(WAYS, spent, costs[-1] * 1e3, strict=True):
            what = f"{line}: cost of an answer, {way}"
            results.append(Result.against(what, float(mine), "core-ms", "ensemble on all", float(theirs)))
        results += [
            Result(f"{line}: answered by {name}", float(share), "1") for name, share in zip(RUNGS, shares, strict=True)
        ]
        results += [
            Result(f"{line}: splits without {name}", float(np.mean([k in o.dropped for o in outcomes])), "1")
            for k, name in enumerate(RUNGS[:-1])
        ]
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.set_defaults(cores=1)
    parser.add_argument("--molecules", nargs="+", choices=FILES, default=["ethanol"], help="molecules (%(default)s)")
    parser.add_argument("--first", default=FIRST[0], help="model of the first network (%(default)s)")
    parser.add_argument("--first-set", nargs="+", default=FIRST[1], metavar="KEY=VALUE", help="(%(default)s)")
    parser.add_argument("--first-minutes", type=float, default=3.0, help="its training, minutes (%(default)s)")
    parser.add_argument("--ensemble-minutes", type=float, default=6.9, help="of the four ACE, minutes (%(default)s)")
    parser.add_argument(
        "--tau",
        type=float,
        nargs="+",
        default=[0.05, 0.1, 0.15],
        help="of forces, eV/Angstrom (%(default)s)",
    )
    parser.add_argument("--alpha", type=float, default=0.1, help="promised probability of a wrong answer (%(default)s)")
    parser.add_argument("--confidence", type=float, default=0.9, help="of the second promise (%(default)s)")
    parser.add_argument("--labels", type=int, default=500, help="frames that calibrate, of each split (%(default)s)")
    parser.add_argument(
        "--reference-seconds", type=float, default=10.0, help="core-seconds of a label, for the choice (%(default)s)"
    )
    parser.add_argument("--keep-all", action="store_true", help="keep networks that cost more than they save")
    parser.add_argument("--splits", type=int, default=100, help="random splits (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    from simulators.chemistry.labelled_frames import LabelledFrames
    from simulators.structure_requests import request
    from surrogates.cascade.answer_cascade import ask
    from surrogates.cascade.ladder_choice import ladders
    from surrogates.potentials.structure_reading import read_structures
    from surrogates.potentials.surrogate import PotentialSurrogate

    results: list[Result] = []
    for molecule in options.molecules:
        train_file, test_file = (data_file(options.data, file) for file in FILES[molecule])
        base = (options.out / "answer_cascade" / molecule).resolve()
        base.mkdir(parents=True, exist_ok=True)
        train, valid = split(read_structures(train_file, None))
        parts = {"train": write(train, base / "train.xyz"), "valid": write(valid, base / "valid.xyz")}
        parts["isolated"] = data_file(options.data, ISOLATED).resolve()
        trained = {}
        for name, minutes in (("first", options.first_minutes), ("ensemble", options.ensemble_minutes)):
            model, overrides = (options.first, options.first_set) if name == "first" else ENSEMBLE
            seconds = 60.0 * minutes
            measure_once(
                base / f"{name}.json",
                [model, *overrides, f"{seconds:g} s", f"{options.cores} cores"],
                partial(ours, base / name, parts, model, seconds, overrides),
                resume=True,
            )
            trained[name] = PotentialSurrogate.load(base / name / "surrogate")
            seconds = trained[name].scores["train/core_seconds"]
            results.append(Result(f"{molecule}, {name}: training", seconds, "core-s"))
        rungs = [trained["first"], member(trained["ensemble"]), trained["ensemble"]]
        reference = LabelledFrames(str(test_file))
        table = read_structures(test_file, None)
        requests = [request(reference, table, row) for row in range(len(table))]
        answers, measured = [], []
        for name, rung in zip(RUNGS, rungs, strict=False):
            answers.append(ask(rung, requests))
            # The programs are compiled now; what follows is the time of the answers alone.
            spent = []
            for answer in (partial(ask, rung, requests), partial(rung.predict_structures, table)):
                began = time.process_time()
                answer()
                spent.append((time.process_time() - began) / len(requests))
            measured.append(spent)
            results += [
                Result(f"{molecule}, {name}: one answer, {way}", s * 1e3, "core-ms")
                for way, s in zip(WAYS, spent, strict=True)
            ]
        answers.append(ask(reference, requests))
        costs = np.array(measured)
        for tau in options.tau:
            tables = ladders(answers, {"energy": TAU_ENERGY, "forces": tau})
            head = f"{molecule}, forces within {tau:g} eV/A"
            results += results_of(head, tables, costs, options)
        report("answer_cascade", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
