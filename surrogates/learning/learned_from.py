"""Hashes of the inputs that a surrogate has learned from, saved beside its weights, so that scores show any overlap.

The training, validation and calibration parts all count, because each has an influence on weights or intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from data.checksums import verify
from data.errors import CorruptStoreError
from data.files import listed_path, remove_listed

FILE = "learned_from.npy"
REMEDY = "Restore it from a copy, or remove it"

Hashes = UInt64[np.ndarray, " sample"]


def hash_keys(keys: Iterable[str]) -> Hashes:
    """Hashes of keys that `data.identity` or `data.grouping` made."""
    return np.frombuffer(b"".join(blake2b(k.encode(), digest_size=8).digest() for k in keys), "<u8").astype(np.uint64)


def save_hashes(directory: Path, *parts: Hashes | None) -> None:
    """Write the hashes of inputs into the directory of a surrogate, in place of any that it has.

    Args:
        directory: directory of the saved surrogate.
        parts: hashes of each part; where one is None, which means that it is not known, no file is written.
    """
    if any(part is None for part in parts):
        remove_listed(directory / FILE)
        return
    with listed_path(directory / FILE) as temporary, open(temporary, "wb") as file:
        np.save(file, np.unique(np.concatenate([hash_keys(()), *parts])), allow_pickle=False)


def read_hashes(directory: Path) -> Hashes | None:
    """Hashes of the inputs that a surrogate has learned from, ascending; None where its training did not write them.

    Raises:
        CorruptStoreError: the file is not what was written.
    """
    path = Path(directory) / FILE
    if not path.is_file():
        return None
    verify(path, remedy=REMEDY)
    try:
        hashes: Hashes = np.load(path, allow_pickle=False)
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise ValueError("no list of hashes")
    except (OSError, ValueError, EOFError) as error:
        raise CorruptStoreError(f"cannot be read: {error}", where=str(path), remedy=REMEDY) from error
    return hashes
