"""Finds samples with the same inputs, which belong in the same part of a split (see also `data.identity`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def row_keys(*arrays: np.ndarray) -> list[str]:
    """A key for each sample: the same for the same numbers.

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
    """A note on samples whose inputs repeat those of another; empty where none do."""
    again = len(keys) - len(set(keys))
    if not again:
        return ()
    return (
        f"{again:,} of {len(keys):,} samples have the inputs of an earlier one: each counts, and those of the same "
        "inputs stay in one part",
    )
