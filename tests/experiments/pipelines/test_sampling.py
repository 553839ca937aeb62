"""Samples are uniform, reproducible and, where asked for, diverse."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.DataStructs import BulkTanimotoSimilarity

from experiments.pipelines.candidate_selection import diverse, reservoir


@given(st.integers(0, 60), st.integers(1, 40), st.integers(0, 2**16))
@settings(deadline=None)
def test_a_reservoir_holds_distinct_items_of_the_stream(length: int, n: int, seed: int) -> None:
    items = [str(i) for i in range(length)]
    sample = reservoir(iter(items), n, seed=seed)
    assert len(sample) == min(n, length)
    assert len(set(sample)) == len(sample)
    assert set(sample) <= set(items)
    assert sample == reservoir(iter(items), n, seed=seed)


def test_every_item_is_equally_likely_to_be_kept() -> None:
    counts = np.zeros(50)
    trials = 4000
    for seed in range(trials):
        for item in reservoir((str(i) for i in range(50)), 5, seed=seed):
            counts[int(item)] += 1
    # Each count is binomial(4000, 0.1): sd 19; the sum of squared deviations is chi-square with 49 dof.
    statistic = float((((counts - trials * 0.1) ** 2) / (trials * 0.1 * 0.9)).sum())
    assert statistic < 49 + 5 * np.sqrt(2 * 49)


def test_diverse_molecules_are_less_alike_than_the_first_ones() -> None:
    smiles = ["C" * i + "O" for i in range(1, 30)] + [
        "c1ccccc1",
        "N#CC=C",
        "FC(F)F",
        "O=[N+]([O-])c1ccoc1",
        "S1C=CC=C1",
    ]
    picked = diverse(smiles, 6, seed=0)
    assert len(set(picked)) == 6

    def mean_similarity(indices: list[int]) -> float:
        prints = [
            rdFingerprintGenerator.GetMorganGenerator(radius=2).GetFingerprint(Chem.MolFromSmiles(smiles[i]))
            for i in indices
        ]
        return float(np.mean([BulkTanimotoSimilarity(p, [q for q in prints if q is not p]) for p in prints]))

    assert mean_similarity(picked) < 0.5 * mean_similarity(list(range(6)))
    assert picked == diverse(smiles, 6, seed=0)
