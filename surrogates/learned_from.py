"""Which inputs a surrogate has learned from: hashes beside its weights, so that no score passes for a held-out one.

Training, validation and calibration parts all count: each has had its say in the weights or in the intervals.
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
    """Hashes of keys of `data.identity` and `data.grouping`."""
    return np.frombuffer(b"".join(blake2b(k.encode(), digest_size=8).digest() for k in keys), "<u8").astype(np.uint64)


def save_hashes(directory: Path, *parts: Hashes | None) -> None:
    """Note the inputs in the directory of a surrogate, in place of a note that is there.

    Args:
        directory: of the saved surrogate.
        parts: what it learned from; None for a part that is not known, so that nothing is noted.
    """
    if any(part is None for part in parts):
        remove_listed(directory / FILE)
        return
    with listed_path(directory / FILE) as temporary, open(temporary, "wb") as file:
        np.save(file, np.unique(np.concatenate([hash_keys(()), *parts])), allow_pickle=False)


def read_hashes(directory: Path) -> Hashes | None:
    """The inputs that a surrogate has learned from, ascending; None where its training did not note them.

    Raises:
        CorruptStoreError: the note is not what was written.
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
