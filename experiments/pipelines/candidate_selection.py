"""Chooses the candidates to simulate: a uniform sample of a file of any size, and a diverse subset of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from rdkit.Chem import rdFingerprintGenerator
from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

from data.molecules.smiles import parse_smiles

T = TypeVar("T")


def reservoir(items: Iterable[T], n: int, *, seed: int) -> list[T]:
    """A uniform sample of `n` items from one pass, in random order (Vitter 1985, algorithm L by Li 1994).

    All items are returned, shuffled, if there are at most `n`. Memory grows with `n`, not with the number of items.
    """
    if n < 1:
        return []
    rng = np.random.default_rng(seed)
    kept: list[T] = []
    threshold = np.log(rng.random()) / n
    skip = -1
    for index, item in enumerate(items):
        if index < n:
            kept.append(item)
            if index == n - 1:
                skip = index + 1 + int(np.log(rng.random()) / np.log1p(-np.exp(threshold)))
        elif index == skip:
            kept[int(rng.integers(n))] = item
            threshold += np.log(rng.random()) / n
            skip = index + 1 + int(np.log(rng.random()) / np.log1p(-np.exp(threshold)))
    return [kept[i] for i in rng.permutation(len(kept))]


def diverse(smiles: Sequence[str], n: int, *, seed: int) -> list[int]:
    """Indices of `n` mutually dissimilar molecules, in the order in which they were picked.

    MaxMin on Tanimoto distances of Morgan fingerprints, radius 2 (Ashton et al., Quant. Struct.-Act.
    Relat. 2002, 21, 598), so any first part of the result is diverse as well.
    """
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    prints = [generator.GetFingerprint(parse_smiles(s)) for s in smiles]
    n = min(n, len(prints))
    return list(MaxMinPicker().LazyBitVectorPick(prints, len(prints), n, seed=seed)) if n else []
