"""Which samples have the same inputs: they belong into one part, as rows of one molecule do (`data.identity`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def row_keys(*arrays: np.ndarray) -> list[str]:
    """A key for each sample, equal where all its numbers are.

    Args:
        arrays: (sample, ...), each with as many samples.
    """
    return [one_key(*(a[i] for a in arrays)) for i in range(len(arrays[0]))]


def one_key(*arrays: np.ndarray) -> str:
    """A key of some arrays: hash of their shapes and numbers, in which -0 is 0."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        numbers = np.ascontiguousarray(np.asarray(array, np.float64) + 0.0, "<f8")
        digest.update(f"{numbers.shape}".encode() + numbers.tobytes())
    return digest.hexdigest()


def repeats_note(keys: Sequence[str]) -> tuple[str, ...]:
    """What to say of samples whose inputs come again; empty where none do."""
    again = len(keys) - len(set(keys))
    if not again:
        return ()
    return (
        f"{again:,} of {len(keys):,} samples have the inputs of an earlier one: each counts, and those of the same "
        "inputs stay in one part",
    )
