"""Screening QM9's gap with a promised recall: how many labels it takes, and whether the promise is kept.

All labels are known, so that nothing is simulated: a label counts as paid once it is looked at. Hits are the molecules
with the largest gaps, and the cascade knows the value that a hit reaches, as a user does. A cascade labels random
molecules and then, batch by batch, those that a model expects to be best; a promise takes an audit of the others
(`surrogates.cascade.elusion`), which counts as labels. Beside it are, at equal numbers of labels, batches chosen
greedily and by an upper confidence bound (MolPAL: Graff, Shakhnovich and Coley, Chem. Sci. 2021, 12, 7866), one batch
from one model, and the same with gradient boosting on Morgan fingerprints (Luttens et al., Nat. Comput. Sci. 2025, 5,
301).

python -m benchmarks.cascade [--repeats N] [--trainings N] [--peer-trainings N] [--budgets SHARE ...]
    [--tops SHARE ...] [--sizes N] [--network] [--plan]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from benchmarks.cascade_models import (
    PREDICTED,
    ChosenLabels,
    Molecules,
    StoredChoices,
    boosting,
    choose,
    featurised,
    random_start,
)
from benchmarks.cascade_network import network
from benchmarks.common import Result, arguments, data_file, pin, report, run
from data.errors import InputError
from surrogates.cascade.elusion import SLACK, Stratum, allocate, fewest_refuted, hits_p_value, near_ranks, quiet_share

FILE = "qm9_homo_lumo_gap_hartree.csv"
RECALL, CONFIDENCE = 0.9, 0.95
#: Share of a budget that is labelled at random to begin with, and the growth of the labels by each batch.
RANDOM, GROWTH = 0.05, 1.25
#: Share of all molecules that an audit labels; budgets below twice as much have no audit. Its strata are those of
#: `understudy screen`.
AUDIT = 0.026
#: Labelled shares with which the first network is trained, those of the batches before the second one, and the growth
#: of the batches after it.
FIRST_NETWORK, SECOND_NETWORK, SLOWER_GROWTH = 0.01867, (0.0247, 0.0307, 0.034), 1.05
#: Standard deviations that the bounds add: of the cascade, and of MolPAL's upper confidence bound.
BETA, BETA_MOLPAL = 1.0, 2.0
BATCHES = 5


@dataclass(frozen=True)
class CascadeRepeat:
    """One repeat of a cascade.

    Attributes:
        labels: number of labelled molecules, everything counted.
        recall: share of the hits among them.
        promised: whether the recall was proved within the budget.
    """

    labels: int
    recall: float
    promised: bool


def left_out(chosen: ChosenLabels) -> Int[np.ndarray, " row"]:
    """Molecules without a label, the best ones first."""
    order = np.argsort(-chosen.score, kind="stable")
    return order[~np.isin(order, chosen.rows)]


def audited(
    hit: Bool[np.ndarray, " molecule"], chosen: ChosenLabels, rest: Int[np.ndarray, " row"], budget: int, seed: int
) -> CascadeRepeat | None:
    """Audit what was left out, and promise a recall if the draws prove it; None if no draws could.

    Args:
        hit: whether each molecule is a hit.
        chosen: what is labelled.
        rest: the others; see `left_out`.
        budget: number of molecules that may be labelled, everything counted.
        seed: seed of the draws.
    """
    known_hits, draws = int(hit[chosen.rows].sum()), budget - len(chosen.rows)
    share = quiet_share(known_hits, RECALL, 1 - CONFIDENCE)
    if share * len(rest) > draws:
        return None
    parts = np.split(rest, np.cumsum(near_ranks(len(chosen.rows), len(rest))))
    rng = np.random.default_rng(seed)
    strata = []
    for part, count in zip(parts, allocate([len(part) for part in parts], draws, SLACK * share), strict=True):
        drawn = rng.choice(part, count, replace=False)
        strata.append(Stratum(len(part), count, int(hit[drawn].sum())))
    drawn_hits = sum(stratum.hits for stratum in strata)
    p = hits_p_value(strata, fewest_refuted(known_hits + drawn_hits, drawn_hits, RECALL))
    return CascadeRepeat(len(chosen.rows) + draws, (known_hits + drawn_hits) / int(hit.sum()), p <= 1 - CONFIDENCE)


def promises(hit: np.ndarray, chosen: Sequence[ChosenLabels], budget: int, repeats: int) -> dict[str, float]:
    """Numbers of repeated audits, whose choices take turns."""
    rest = [left_out(one) for one in chosen]
    tried = [
        audited(hit, one, others, budget, seed)
        for seed, one, others in zip(range(repeats), cycle(chosen), cycle(rest), strict=False)
    ]
    runs = [run for run in tried if run is not None]
    issued = [run for run in runs if run.promised]
    numbers = {
        "audits": float(repeats),
        "promised": len(issued) / repeats,
        "promised and kept": sum(run.recall >= RECALL for run in issued) / repeats,
        "broken": sum(run.recall < RECALL for run in issued) / repeats,
    }
    if runs:
        numbers["audited recall"] = float(np.mean([run.recall for run in runs]))
    return numbers


def totals(count: int, shares: Sequence[float]) -> list[int]:
    """Numbers of labels from shares of the molecules."""
    return [round(share * count) for share in shares]


def ladder(first: float, stop: float, last: float, growth: float) -> list[float]:
    """Shares of the molecules after each batch, which grow by a factor up to `stop`; one more batch ends at `last`."""
    shares, now = [], first
    while now < stop - 1e-12:
        now = min(growth * now, stop)
        shares.append(now)
    return shares + [last] * (last > stop)


#: Name of a cascade, its budget, what each of its trainings labels without a promise, and what before an audit.
Cascade = tuple[str, float, list[ChosenLabels], list[ChosenLabels]]


def cascades(all_of: Molecules, options: Any, kept: StoredChoices) -> Iterator[Cascade]:
    """Cascades whose model is a forest."""
    count = len(all_of.gap)
    for budget in options.budgets:
        stop = budget - AUDIT if budget > 2 * AUDIT else budget
        shares = ladder(RANDOM * budget, stop, budget, GROWTH)
        runs = []
        for seed in range(options.trainings):
            start = random_start(all_of, round(RANDOM * budget * count), seed)
            make = partial(choose, all_of, start, totals(count, shares), BETA, seed, options.trees)
            runs.append(kept.all_of(f"forest-{budget:g}-{seed}", make))
        yield "cascade, forest", budget, [run[-1] for run in runs], [run[shares.index(stop)] for run in runs]


def with_networks(all_of: Molecules, options: Any, kept: StoredChoices) -> Iterator[Cascade]:
    """Cascades whose forest takes the answers of 2D networks as inputs.

    One network is trained on random molecules, another one on those and on the best ones; neither is trained again.
    """
    count, folder, path = len(all_of.gap), options.out / "cascade", data_file(options.data, FILE)
    rows = np.random.default_rng(0).permutation(count)[: round(FIRST_NETWORK * count)]
    one = network(path, rows, np.arange(count), folder / "network-0")
    start = ChosenLabels(rows, one.mean, one.core_seconds)
    make = partial(choose, all_of, start, totals(count, SECOND_NETWORK), BETA, 0, options.trees, [one.mean])
    second = kept.all_of("network-rows", make)[-1]
    pool = np.sort(np.argsort(-one.mean, kind="stable")[: round(PREDICTED * count)])
    two = network(path, second.rows, pool, folder / "network-1")
    start = ChosenLabels(second.rows, one.mean, second.core_seconds + two.core_seconds)
    for budget in options.budgets:
        if budget <= SECOND_NETWORK[-1]:
            continue
        stop = budget - AUDIT if budget - AUDIT > SECOND_NETWORK[-1] else budget
        shares = ladder(SECOND_NETWORK[-1], stop, budget, SLOWER_GROWTH)
        answers = [one.mean, two.mean]
        runs = []
        for seed in range(options.trainings):
            make = partial(choose, all_of, start, totals(count, shares), BETA, seed, options.trees, answers)
            runs.append(kept.all_of(f"network-{budget:g}-{seed}", make))
        yield (
            "cascade, networks and forest",
            budget,
            [run[-1] for run in runs],
            [run[shares.index(stop)] for run in runs],
        )


def peers(all_of: Molecules, options: Any, kept: StoredChoices) -> Iterator[tuple[str, float, list[ChosenLabels]]]:
    """Name, budget, and what each training labels."""
    count = len(all_of.gap)
    for budget in options.budgets:
        labels = round(budget * count)
        sixths = [round(labels * (i + 1) / (BATCHES + 1)) for i in range(BATCHES + 1)]
        plans = {
            "greedy": (sixths, 0.0),
            "upper confidence bound": (sixths, BETA_MOLPAL),
            "one shot": ([labels // 2, labels], 0.0),
            "one shot, Morgan and boosting": ([], 0.0),
        }
        for name, (sizes, beta) in plans.items():
            short = name.replace(",", "").replace(" ", "-")
            runs = []
            if not options.peer_trainings:
                continue
            for seed in range(options.peer_trainings):
                make: Callable[[], Iterable[ChosenLabels]] = partial(boosting, all_of, labels, seed)
                if sizes:
                    start = random_start(all_of, sizes[0], seed)
                    make = partial(choose, all_of, start, sizes[1:], beta, seed, options.trees)
                runs.append(kept.all_of(f"{short}-{budget:g}-{seed}", make)[-1])
            yield name, budget, runs


def table(all_of: Molecules, options: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """Numbers by method, budget and share of hits."""
    kept = StoredChoices(options.out / "cascade")
    networks = with_networks(all_of, options, kept) if options.network else iter(())
    for name, budget, free, before in chain(networks, cascades(all_of, options, kept)):
        for top in options.tops:
            hit = all_of.top(top)[1]
            numbers = unpromised(hit, free)
            if len(before[0].rows) < len(free[0].rows):
                numbers |= promises(hit, before, len(free[0].rows), options.repeats)
            yield f"top {top:.1%}, budget {budget:.0%}: {name}", numbers
    for name, budget, runs in peers(all_of, options, kept):
        for top in options.tops:
            yield f"top {top:.1%}, budget {budget:.0%}: {name}", unpromised(all_of.top(top)[1], runs)


def unpromised(hit: Bool[np.ndarray, " molecule"], runs: Sequence[ChosenLabels]) -> dict[str, float]:
    """Recall and cost of what was labelled without an audit."""
    recalls = np.array([hit[one.rows].sum() / hit.sum() for one in runs])
    return {
        "trainings": float(len(runs)),
        "recall": float(recalls.mean()),
        "least recall": float(recalls.min()),
        "core-s": float(np.mean([one.core_seconds for one in runs])),
    }


def planned(budget: float, repeats: int) -> Iterator[tuple[str, dict[str, float]]]:
    """How often a recall is promised, by the recall at the cut: of 1% hits among as many candidates as QM9 has.

    Hits that the score misses lie below the cut at ranks that are exponential with a scale of half the labelled
    candidates, and a thirtieth of them anywhere.
    """
    count, top = 133_885, 1339
    labelled = round((budget - AUDIT) * count)
    for missed in (10, 20, 30, 40, 60, 80):
        rng = np.random.default_rng(missed)
        ranks = labelled + np.minimum(rng.exponential(labelled / 2, 4 * missed).astype(int), count - labelled - 1)
        far = rng.integers(labelled, count, max(1, missed // 30))
        hidden = np.unique(np.concatenate([far, np.unique(ranks)[rng.permutation(len(np.unique(ranks)))][:missed]]))
        hit = np.zeros(count, bool)
        hit[: top - len(hidden)] = True
        hit[hidden] = True
        chosen = ChosenLabels(np.arange(labelled), np.linspace(1.0, 0.0, count), 0.0)
        numbers = promises(hit, [chosen], round(budget * count), repeats)
        yield f"budget {budget:.0%}, recall of {1 - len(hidden) / top:.3f} at the cut: audits alone", numbers


#: Numbers of a row of the table.
COLUMNS = ("trainings", "recall", "least recall", "core-s", "audits", "promised and kept", "broken", "audited recall")


def markdown_row(name: str, numbers: Mapping[str, float]) -> str:
    """A row of the table, as documentation holds it."""
    cells = list(name.partition(": ")[::2])
    for column in COLUMNS:
        whole = column in ("trainings", "core-s", "audits")
        cells.append(f"{numbers[column]:.{0 if whole else 3}f}" if column in numbers else "")
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark, print its table, and write `cascade.json`; parts that are on the disk are not run again."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--repeats", type=int, default=100, help="audits of each cascade (%(default)s)")
    parser.add_argument("--trainings", type=int, default=3, help="random training sets of a cascade (%(default)s)")
    parser.add_argument("--peer-trainings", type=int, default=3, help="those of the others (%(default)s)")
    parser.add_argument("--trees", type=int, default=30, help="of a forest (%(default)s)")
    parser.add_argument(
        "--budgets", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.08, 0.1], help="labelled shares"
    )
    parser.add_argument("--tops", type=float, nargs="+", default=[0.001, 0.01, 0.05], help="shares of hits")
    parser.add_argument("--sizes", type=int, default=None, help="use this many molecules of the table")
    parser.add_argument("--plan", action="store_true", help="only audits of synthetic scores, by their recall")
    parser.add_argument("--network", action="store_true", help="also train the 2D network, twice")
    options = parser.parse_args(argv)
    pin(options.cores)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.plan:
        for budget in options.budgets:
            for name, numbers in planned(budget, options.repeats) if budget > 2 * AUDIT else ():
                print(markdown_row(name, numbers), flush=True)
        return
    if options.network and options.sizes is not None:
        raise InputError("the networks learn from the whole table", where="--network", remedy="Leave --sizes out")
    folder = options.out / "cascade"
    folder.mkdir(parents=True, exist_ok=True)
    all_of = featurised(data_file(options.data, FILE), options.sizes, folder)
    results: list[Result] = []
    print(f"| {' | '.join(('hits, budget', 'method', *COLUMNS))} |\n|{'---|' * (2 + len(COLUMNS))}")
    for name, numbers in table(all_of, options):
        print(markdown_row(name, numbers), flush=True)
        results += [Result(f"{name}: {key}", value, "s" if key == "core-s" else "") for key, value in numbers.items()]
    report("cascade", results, options.out, argv)


if __name__ == "__main__":
    raise SystemExit(run(main))
