"""Screening QM9's gap with a promised recall: how many labels it takes, and whether the promise is kept.

All labels are known, so that nothing is simulated: a label counts as paid once it is looked at. Hits are the molecules
with the largest gaps, and the cascade knows the value that a hit reaches, as a user does. Beside it are, at equal
numbers of labels, batches chosen greedily and by an upper confidence bound with the model fitted anew (MolPAL: Graff,
Shakhnovich and Coley, Chem. Sci. 2021, 12, 7866), one batch from one model, and the same with gradient boosting on
Morgan fingerprints (Luttens et al., Nat. Comput. Sci. 2025, 5, 301).

python -m benchmarks.cascade [--repeats N] [--trainings N] [--budgets SHARE ...] [--tops SHARE ...] [--sizes N]
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from benchmarks.cascade_network import network
from benchmarks.common import Result, arguments, data_file, pin, report, run
from data.files import write_json
from experiments.application.usage import cpu_seconds
from surrogates.cascade.betting import WeightedLabels, planned_bet, strictest_weighted_threshold
from surrogates.cascade.design import UNIFORM, draw, importance
from surrogates.cascade.scoring import HitRule

FILE = "qm9_homo_lumo_gap_hartree.csv"
RECALL, CONFIDENCE = 0.9, 0.95
#: Shares of a budget: labels drawn at random to begin with, labels chosen in rounds, and draws for the threshold. The
#: rest is for the candidates above the threshold.
RANDOM, CHOSEN, DRAWN, ROUNDS = 0.2, 0.3, 0.4, 3
BATCHES = 5
#: Standard deviations that the upper confidence bound adds.
BETA = 2.0


@dataclass(frozen=True)
class Molecules:
    """All molecules.

    Attributes:
        gap: label, Hartree.
        features: counts of groups and rings, and of atoms with their neighbours.
        bits: Morgan fingerprints of radius 2.
    """

    gap: Float[np.ndarray, " molecule"]
    features: Float[np.ndarray, "molecule feature"]
    bits: np.ndarray

    def top(self, share: float) -> tuple[float, Bool[np.ndarray, " molecule"]]:
        """The value that a hit reaches, and the hits."""
        value = float(np.sort(self.gap)[-round(share * len(self.gap))])
        return value, self.gap >= value


def molecules(path: Path, limit: int | None) -> Molecules:
    """Read and featurise the table."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    with open(path, newline="") as file:
        rows = [(row["smiles"], float(row["band_gap"])) for row in csv.DictReader(file)]
    if limit is not None:
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:limit]]
    counts = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    table, prints, groups, gaps = [], [], [], []
    with rdBase.BlockLogs():
        for smiles, gap in rows:
            molecule = Chem.MolFromSmiles(smiles)
            if molecule is None:
                continue
            table.append(counts.GetCountFingerprintAsNumPy(molecule).astype(np.uint8))
            prints.append(counts.GetFingerprintAsNumPy(molecule).astype(np.uint8))
            groups.append(_groups(molecule))
            gaps.append(gap)
    environments = np.array(table)
    common = np.argsort(-(environments > 0).sum(axis=0), kind="stable")[:128]
    features = np.concatenate([np.array(groups, np.float32), environments[:, common]], axis=1)
    return Molecules(np.array(gaps), np.ascontiguousarray(features, np.float32), np.array(prints))


def _groups(molecule: Any) -> list[float]:
    """Counts of elements, hydrogens, bonds, unsaturated atoms and their connected groups, and rings by size."""
    atoms, bonds = list(molecule.GetAtoms()), list(molecule.GetBonds())
    numbers = [atom.GetAtomicNum() for atom in atoms]
    orders = [bond.GetBondTypeAsDouble() for bond in bonds]
    unsaturated = {a.GetIdx() for a in atoms if any(b.GetBondTypeAsDouble() > 1 for b in a.GetBonds())}
    left, sizes = set(unsaturated), [0]
    while left:
        stack, size = [left.pop()], 1
        while stack:
            for neighbour in atoms[stack.pop()].GetNeighbors():
                if neighbour.GetIdx() in left:
                    left.remove(neighbour.GetIdx())
                    stack.append(neighbour.GetIdx())
                    size += 1
        sizes.append(size)
    rings = [len(ring) for ring in molecule.GetRingInfo().AtomRings()]
    return [
        len(atoms), *(numbers.count(z) for z in (6, 7, 8, 9)), sum(a.GetTotalNumHs() for a in atoms), len(bonds),
        orders.count(2.0), orders.count(3.0), sum(b.GetIsConjugated() for b in bonds), len(unsaturated), max(sizes),
        len(sizes) - 1, len(rings), *(rings.count(n) for n in (3, 4, 5, 6)), sum(a.GetIsAromatic() for a in atoms),
        sum(a.GetFormalCharge() > 0 for a in atoms), *(sum(n == z and a.GetTotalNumHs() > 0
        for n, a in zip(numbers, atoms, strict=True)) for z in (7, 8)), max(a.GetDegree() for a in atoms),
        sum(b.GetBeginAtom().GetAtomicNum() != 6 and b.GetEndAtom().GetAtomicNum() != 6 for b in bonds),
    ]  # fmt: skip


def forest(all_of: Molecules, rows: Int[np.ndarray, " row"], seed: int, trees: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each molecule's gap by extremely randomised trees.

    The standard deviation has the error on a tenth of the labels, which the trees have not seen, as its floor.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    order = np.random.default_rng(seed).permutation(rows)
    tuning_rows, used = order[: max(10, len(rows) // 10)], order[max(10, len(rows) // 10) :]
    model = ExtraTreesRegressor(trees, max_features=0.6, random_state=seed, n_jobs=1)
    model.fit(all_of.features[used], all_of.gap[used])
    each = np.stack([tree.predict(all_of.features) for tree in model.estimators_])
    mean, spread = each.mean(axis=0), each.std(axis=0)
    floor = float(np.median(np.abs(all_of.gap[tuning_rows] - mean[tuning_rows])))
    return mean, np.hypot(spread, 1.4826 * floor)


def batches(all_of: Molecules, labels: int, beta: float, seed: int, trees: int) -> Int[np.ndarray, " labelled"]:
    """Rows labelled by a random batch and five chosen ones, the model fitted anew for each."""
    size = labels // (BATCHES + 1)
    rows = np.random.default_rng(seed).choice(len(all_of.gap), labels - BATCHES * size, replace=False)
    for number in range(BATCHES):
        mean, std = forest(all_of, rows, seed + 1000 * number, trees)
        rows = np.append(rows, best(mean + beta * std, size, rows))
    return rows


def best(score: Float[np.ndarray, " row"], count: int, without: Int[np.ndarray, " row"]) -> Int[np.ndarray, " best"]:
    """The rows with the largest scores that are not among some others."""
    score = score.copy()
    score[without] = -np.inf
    return np.argsort(-score, kind="stable")[:count]


def one_shot(all_of: Molecules, labels: int, seed: int, trees: int) -> Int[np.ndarray, " labelled"]:
    """Half of the labels at random, the other half for the best predictions."""
    rows = np.random.default_rng(seed).choice(len(all_of.gap), labels // 2, replace=False)
    return np.append(rows, best(forest(all_of, rows, seed, trees)[0], labels - len(rows), rows))


def boosting(all_of: Molecules, labels: int, seed: int) -> Int[np.ndarray, " labelled"]:
    """As `one_shot`, by gradient boosting on Morgan fingerprints."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows = np.random.default_rng(seed).choice(len(all_of.gap), labels // 2, replace=False)
    model = HistGradientBoostingRegressor(max_iter=150, max_leaf_nodes=15, min_samples_leaf=5, random_state=seed)
    model.fit(all_of.bits[rows], all_of.gap[rows])
    return np.append(rows, best(model.predict(all_of.bits), labels - len(rows), rows))


@dataclass(frozen=True)
class FirstLabels:
    """What a cascade knows before it draws: labelled rows, and a model of the others."""

    labelled: Int[np.ndarray, " row"]
    mean: Float[np.ndarray, " molecule"]
    std: Float[np.ndarray, " molecule"]


def prepare(all_of: Molecules, labels: int, seed: int, trees: int) -> FirstLabels:
    """Label some molecules at random and some in rounds, where the model expects the largest gaps."""
    rows = np.random.default_rng(seed).choice(len(all_of.gap), max(40, int(RANDOM * labels)), replace=False)
    for number in range(ROUNDS):
        mean, _ = forest(all_of, rows, seed + 1000 * number, trees)
        rows = np.append(rows, best(mean, int(CHOSEN * labels) // ROUNDS, rows))
    return FirstLabels(rows, *forest(all_of, rows, seed + 1000 * ROUNDS, trees))


@dataclass(frozen=True)
class CascadeRepeat:
    """One repeat of a cascade.

    Attributes:
        labels: number of labelled molecules, everything counted.
        recall: share of the hits among them.
        promised: whether a threshold was proved and the labels stay within the budget.
    """

    labels: int
    recall: float
    promised: bool


def screen(all_of: Molecules, ready: FirstLabels, budget: int, draws: int, top: float, seed: int) -> CascadeRepeat:
    """Draw, set the threshold, and label what lies above it.

    Args:
        all_of: all molecules.
        ready: what is labelled already, and a model.
        budget: number of molecules that may be labelled, everything counted.
        draws: number of draws for the threshold.
        top: share of the molecules that are hits.
        seed: seed of the draws.
    """
    value, hit = all_of.top(top)
    score = HitRule({"gap": (value, np.inf)}).log_chance({"gap": ready.mean}, {"gap": ready.std})
    rest = np.setdiff1d(np.arange(len(score)), ready.labelled)
    g = importance(score[rest])
    drawn = draw(g, draws, seed)
    rows = rest[drawn.rows]
    labelled_hits = np.full(int(hit[ready.labelled].sum()), np.inf)
    # What the model misses is thought to be twice as likely, and a part of it to lie anywhere.
    chance = np.minimum(2 * np.exp(score[rest]) + 0.01 * top * (1 - RECALL), 1.0)
    room = max(1, budget - len(ready.labelled) - draws)
    kept = score[rest] >= np.sort(score[rest])[-room]
    q = UNIFORM / len(rest) + (1 - UNIFORM) * g / g.sum()
    bet = planned_bet(q, chance, kept, len(labelled_hits), RECALL)
    labels = WeightedLabels(score[rows], hit[rows], drawn.weights, drawn.largest_weight, labelled_hits, (bet,))
    cut = strictest_weighted_threshold(labels, RECALL, 1 - CONFIDENCE)
    paid = np.union1d(ready.labelled, rows)
    if cut is None:
        return CascadeRepeat(len(paid), float(hit[paid].sum() / hit.sum()), False)
    paid = np.union1d(paid, rest[score[rest] >= cut])
    return CascadeRepeat(len(paid), float(hit[paid].sum() / hit.sum()), len(paid) <= budget)


def summary(runs: Sequence[CascadeRepeat], count: int) -> dict[str, float]:
    """Numbers of the repeats of a cascade among `count` molecules."""
    promised = [run for run in runs if run.promised]
    numbers = {
        "repeats": float(len(runs)),
        "share_promised": len(promised) / len(runs),
        "share_promised_and_kept": sum(run.recall >= RECALL for run in promised) / len(runs),
        "share_broken": sum(run.recall < RECALL for run in promised) / len(runs),
        "recall": float(np.mean([run.recall for run in runs])),
        "labelled": float(np.mean([run.labels for run in runs])) / count,
    }
    if promised:
        numbers["recall_where_promised"] = float(np.mean([run.recall for run in promised]))
        numbers["labelled_where_promised"] = float(np.mean([run.labels for run in promised])) / count
    return numbers


def compare(all_of: Molecules, options: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """Results by method, budget and share of hits."""
    count = len(all_of.gap)
    for budget in options.budgets:
        labels = round(budget * count)
        began = cpu_seconds()
        ready = [prepare(all_of, labels, seed, options.trees) for seed in range(options.trainings)]
        fitting = (cpu_seconds() - began) / options.trainings
        others = {
            "greedy": lambda seed, n=labels: batches(all_of, n, 0.0, seed, options.trees),
            "upper confidence bound": lambda seed, n=labels: batches(all_of, n, BETA, seed, options.trees),
            "one shot": lambda seed, n=labels: one_shot(all_of, n, seed, options.trees),
            "one shot, Morgan and boosting": lambda seed, n=labels: boosting(all_of, n, seed),
        }
        chosen: dict[str, list[np.ndarray]] = {}
        costs: dict[str, float] = {}
        for name, method in others.items():
            began = cpu_seconds()
            chosen[name] = [method(seed) for seed in range(options.trainings)]
            costs[name] = (cpu_seconds() - began) / options.trainings
        for top in options.tops:
            hit = all_of.top(top)[1]
            began = cpu_seconds()
            draws = int(DRAWN * labels)
            runs = [screen(all_of, ready[i % len(ready)], labels, draws, top, i) for i in range(options.repeats)]
            cost = fitting + (cpu_seconds() - began) / options.repeats
            yield f"cascade, top {top:.1%}, budget {budget:.0%}", summary(runs, count) | {"core_seconds": cost}
            for name, rows in chosen.items():
                recalls = [float(hit[some].sum() / hit.sum()) for some in rows]
                yield (
                    f"{name}, top {top:.1%}, budget {budget:.0%}",
                    {
                        "repeats": float(len(recalls)),
                        "recall": float(np.mean(recalls)),
                        "share_kept": float(np.mean(np.array(recalls) >= RECALL)),
                        "labelled": float(np.mean([len(some) for some in rows])) / count,
                        "core_seconds": costs[name],
                    },
                )


def with_network(all_of: Molecules, options: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """Results of a cascade whose first rung is the 2D network, trained on 1.9% and then 4.9% of the molecules."""
    count, budget = len(all_of.gap), round(0.08 * len(all_of.gap))
    trained = network(
        data_file(options.data, FILE),
        round(0.01867 * count),
        round(0.03 * count),
        options.seconds,
        options.out / "network",
    )
    ready = FirstLabels(trained.labelled, trained.mean, trained.std)
    order = best(trained.mean, round(0.05 * count) - len(trained.labelled), trained.labelled)
    for top in options.tops:
        hit = all_of.top(top)[1]
        draws = budget - len(trained.labelled) - round(0.003 * count)
        runs = [screen(all_of, ready, budget, draws, top, seed) for seed in range(options.repeats)]
        yield (
            f"cascade with the network, top {top:.1%}, budget 8%",
            summary(runs, count) | {"core_seconds": trained.core_seconds},
        )
        asked = np.append(trained.labelled, order)
        yield f"network, two rounds, no promise, top {top:.1%}, budget 5%", {
            "repeats": 1.0, "recall": float(hit[asked].sum() / hit.sum()), "labelled": len(asked) / count
        }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark, print its table, and write `cascade.json`."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--repeats", type=int, default=100, help="repeats of the draws (%(default)s)")
    parser.add_argument("--trainings", type=int, default=3, help="random training sets (%(default)s)")
    parser.add_argument("--trees", type=int, default=20, help="of a forest (%(default)s)")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1], help="labelled shares")
    parser.add_argument("--tops", type=float, nargs="+", default=[0.001, 0.01, 0.05], help="shares of hits")
    parser.add_argument("--sizes", type=int, default=None, help="use this many molecules of the table")
    parser.add_argument("--network", action="store_true", help="also train the 2D network, in two rounds")
    parser.add_argument("--seconds", type=float, default=480.0, help="wall time of each training (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    all_of = molecules(data_file(options.data, FILE), options.sizes)
    results: list[Result] = []
    table: dict[str, dict[str, float]] = {}
    rows = with_network(all_of, options) if options.network else iter(())
    for name, numbers in chain(rows, compare(all_of, options)):
        table[name] = {key: value for key, value in numbers.items() if np.isfinite(value)}
        shown = {key: value for key, value in numbers.items() if key != "repeats"}
        print(name, " ".join(f"{key}={value:.3f}" for key, value in shown.items()), flush=True)
        results += [Result(f"{name}: {key}", value, "") for key, value in table[name].items()]
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "cascade_table.json", table)
    report("cascade", results, options.out, argv)


if __name__ == "__main__":
    raise SystemExit(run(main))
