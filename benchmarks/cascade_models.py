"""Molecules of the benchmark of cascades, models of their gap, and batches of labels that the models choose."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data.checksums import verify
from data.files import listed_path
from experiments.application.usage import cpu_seconds

#: Share of the molecules that is predicted after the first model: the best ones by that model.
PREDICTED = 0.35


@dataclass(frozen=True)
class Molecules:
    """All molecules.

    Attributes:
        gap: label, Hartree.
        features: counts of groups and rings, of pairs of atoms other than carbon by their distance, and of atoms with
            their neighbours.
        bits: Morgan fingerprints of radius 2.
    """

    gap: Float[np.ndarray, " molecule"]
    features: Float[np.ndarray, "molecule feature"]
    bits: UInt8[np.ndarray, "molecule bit"]

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
            groups.append(_groups(molecule) + _pairs(molecule))
            gaps.append(gap)
    environments = np.array(table)
    common = np.argsort(-(environments > 0).sum(axis=0), kind="stable")[:128]
    features = np.concatenate([np.array(groups, np.float32), environments[:, common]], axis=1)
    return Molecules(np.array(gaps), np.ascontiguousarray(features, np.float32), np.array(prints))


def featurised(path: Path, limit: int | None, folder: Path) -> Molecules:
    """`molecules`, from a file of the benchmark's folder if there is one."""
    kept = folder / f"features-{limit or 'all'}.npz"
    if not kept.is_file():
        fresh = molecules(path, limit)
        with listed_path(kept) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, gap=fresh.gap, features=fresh.features, bits=np.packbits(fresh.bits, axis=1))
    verify(kept, remedy="Remove it and run the benchmark again")
    with np.load(kept, allow_pickle=False) as z:
        return Molecules(z["gap"], z["features"], np.unpackbits(z["bits"], axis=1))


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


def _pairs(molecule: Any) -> list[float]:
    """Counts of pairs of nitrogen and oxygen by their distance in bonds, 2 to 5; of unsaturated atoms at 1 to 4 bonds
    from saturated atoms other than carbon; of rings with oxygen and with nitrogen by size; of atoms in several rings.
    """
    from rdkit import Chem

    distance = Chem.GetDistanceMatrix(molecule)
    atoms = list(molecule.GetAtoms())
    numbers = [atom.GetAtomicNum() for atom in atoms]
    unsaturated = [any(bond.GetBondTypeAsDouble() > 1 for bond in atom.GetBonds()) for atom in atoms]
    others = [i for i, z in enumerate(numbers) if z != 6]
    pairs, ends, rings = np.zeros((3, 4)), np.zeros(4), np.zeros((2, 4))
    for i in others:
        for j in others:
            steps = int(distance[i, j])
            if j < i and {numbers[i], numbers[j]} <= {7, 8} and 2 <= steps <= 5:
                pairs[numbers[i] + numbers[j] - 14, steps - 2] += 1
        if not unsaturated[i]:
            for steps in distance[i, unsaturated]:
                if steps <= 4:
                    ends[int(steps) - 1] += 1
    info = molecule.GetRingInfo()
    for ring in info.AtomRings():
        if len(ring) <= 6:
            for k, z in enumerate((8, 7)):
                rings[k, len(ring) - 3] += any(numbers[i] == z for i in ring)
    several = [info.NumAtomRings(i) for i in range(len(atoms))]
    return [*pairs.ravel(), *ends, *rings.ravel(), float(several.count(2)), float(sum(n > 2 for n in several))]


def forest(
    all_of: Molecules, answers: Sequence[np.ndarray], rows: np.ndarray, asked: np.ndarray, seed: int, trees: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the gap of some molecules by extremely randomised trees.

    Args:
        all_of: all molecules.
        answers: predictions of networks for all molecules, which are inputs too.
        rows: labelled molecules.
        asked: molecules to predict.
        seed: seed of the trees.
        trees: number of trees.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    table = np.column_stack([all_of.features, *answers]).astype(np.float32) if answers else all_of.features
    model = ExtraTreesRegressor(trees, max_features=0.6, random_state=seed, n_jobs=1)
    model.fit(table[rows], all_of.gap[rows])
    each = np.stack([tree.predict(table[asked]) for tree in model.estimators_])
    return each.mean(axis=0), each.std(axis=0)


@dataclass(frozen=True)
class ChosenLabels:
    """Labelled molecules, and what the model that chose the last of them says of the others.

    Attributes:
        rows: labelled molecules, in the order of labelling.
        score: larger for likelier hits; -1 for molecules that were not predicted.
        core_seconds: processor time so far.
    """

    rows: Int[np.ndarray, " labelled"]
    score: Float[np.ndarray, " molecule"]
    core_seconds: float


def choose(
    all_of: Molecules,
    start: ChosenLabels,
    totals: Sequence[int],
    beta: float,
    seed: int,
    trees: int,
    answers: Sequence[np.ndarray] = (),
) -> Iterator[ChosenLabels]:
    """Label those with the largest upper confidence bounds, with the model fitted anew for each batch.

    Args:
        all_of: all molecules.
        start: what is labelled already; its score tells which molecules are worth a prediction, or is constant.
        totals: number of labelled molecules after each batch.
        beta: standard deviations that the bound adds to the mean; 0 for a greedy choice.
        seed: seed of the trees.
        trees: number of trees.
        answers: see `forest`.
    """
    rows, spent = start.rows, start.core_seconds
    pool = np.arange(len(all_of.gap))
    if np.ptp(start.score) > 0:
        pool = np.argsort(-start.score, kind="stable")[: round(PREDICTED * len(pool))]
    for number, total in enumerate(totals):
        began = cpu_seconds()
        asked = np.setdiff1d(pool, rows)
        mean, std = forest(all_of, answers, rows, asked, seed + 1000 * number, trees)
        score = np.full(len(all_of.gap), -1.0)
        score[asked] = mean + beta * std
        rows = np.append(rows, best(score, total - len(rows), rows))
        spent += cpu_seconds() - began
        yield ChosenLabels(rows, score, spent)


def best(score: Float[np.ndarray, " row"], count: int, without: Int[np.ndarray, " row"]) -> Int[np.ndarray, " best"]:
    """The rows with the largest scores that are not among some others."""
    score = score.copy()
    score[without] = -np.inf
    return np.argsort(-score, kind="stable")[:count]


def random_start(all_of: Molecules, labels: int, seed: int) -> ChosenLabels:
    """Molecules that are labelled at random."""
    count = len(all_of.gap)
    return ChosenLabels(np.random.default_rng(seed).permutation(count)[:labels], np.zeros(count), 0.0)


def boosting(all_of: Molecules, labels: int, seed: int) -> list[ChosenLabels]:
    """Half of the labels at random, the other half for the best ones by gradient boosting on Morgan fingerprints."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    began = cpu_seconds()
    start = random_start(all_of, labels // 2, seed)
    model = HistGradientBoostingRegressor(max_iter=100, max_leaf_nodes=15, min_samples_leaf=5, random_state=seed)
    model.fit(all_of.bits[start.rows], all_of.gap[start.rows])
    score = model.predict(all_of.bits)
    rows = np.append(start.rows, best(score, labels - labels // 2, start.rows))
    return [ChosenLabels(rows, score, cpu_seconds() - began)]


class StoredChoices:
    """Results of the parts of the benchmark on the disk, so that a killed one goes on.

    Args:
        folder: directory of the results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all_of(self, name: str, make: Callable[[], Iterable[ChosenLabels]]) -> list[ChosenLabels]:
        """The choices of a part, from its file or made now."""
        path = self._folder / f"{name}.npz"
        if not path.is_file():
            chosen = list(make())
            arrays: dict[str, Any] = {}
            for i, one in enumerate(chosen):
                arrays |= {
                    f"rows_{i}": one.rows,
                    f"score_{i}": one.score.astype(np.float32),
                    f"cost_{i}": one.core_seconds,
                }
            with listed_path(path) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, **arrays)
        verify(path, remedy="Remove it and run the benchmark again")
        with np.load(path, allow_pickle=False) as z:
            return [
                ChosenLabels(z[f"rows_{i}"], z[f"score_{i}"].astype(np.float64), float(z[f"cost_{i}"]))
                for i in range(len(z.files) // 3)
            ]
