"""The frames that a mixture keeps of each expert: those that the expert learned from, and those it is tested on.

They are saved beside the experts, so that a gate can be fitted again and experts can be distilled wherever the mixture
goes, and so that what replaces an expert is tested as the expert was.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.checksums import verify
from data.errors import CorruptStoreError
from data.files import listed_path, make_directory
from data.structures.structures import Structures

FOLDER = "memory"
REMEDY = "Restore it from a copy, or grow the mixture again"
#: Arrays of a table of structures that are kept.
_KEPT = ("atom_start", "numbers", "positions", "energy", "forces", "charge", "spin", "lattice")


@dataclass(frozen=True)
class Memory:
    """Labelled frames of one expert.

    Attributes:
        learned: frames that it learned from, or a random part of them.
        tests: frames that it did not learn from; there may be none.
    """

    learned: Structures
    tests: Structures


def none_of(structures: Structures) -> Structures:
    """A table without rows."""
    return structures.take(np.zeros(0, np.int64))


def some_of(structures: Structures, most: int, seed: int) -> Structures:
    """The structures, or that many of them at random, in their order."""
    if len(structures) <= most:
        return structures
    return structures.take(np.sort(np.random.default_rng(seed).permutation(len(structures))[:most]))


def save_memory(directory: Path, memories: Mapping[str, Memory]) -> None:
    """Write the frames of each expert into the directory of a saved mixture."""
    make_directory(directory / FOLDER)
    for name, memory in memories.items():
        both = {"learned": memory.learned, "tests": memory.tests}
        arrays = {f"{part}_{key}": getattr(table, key) for part, table in both.items() for key in _KEPT}
        with listed_path(directory / FOLDER / f"{name}.npz") as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_memory(directory: Path, names: Iterable[str]) -> dict[str, Memory]:
    """The frames that `save_memory` wrote, by the name of the expert.

    Raises:
        CorruptStoreError: a file is missing or is not what was written.
    """
    memories = {}
    for name in names:
        path = Path(directory) / FOLDER / f"{name}.npz"
        if not path.is_file():
            raise CorruptStoreError("the frames of an expert are missing", where=str(path), remedy=REMEDY)
        verify(path, remedy=REMEDY)
        try:
            with np.load(path, allow_pickle=False) as archive:
                memories[name] = Memory(_table(archive, "learned"), _table(archive, "tests"))
        except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile) as error:
            raise CorruptStoreError(f"cannot be read: {error}", where=str(path), remedy=REMEDY) from error
    return memories


def _table(archive: Mapping[str, np.ndarray], part: str) -> Structures:
    arrays = {key: archive[f"{part}_{key}"] for key in _KEPT}
    start = arrays["atom_start"]
    if start.ndim != 1 or start[0] != 0 or (np.diff(start) < 0).any() or len(arrays["numbers"]) != start[-1]:
        raise ValueError(f"the sizes of the frames of {part} do not fit")
    inner = start[1:-1] if len(start) > 1 else start[:0]
    count = len(start) - 1
    split = {key: np.split(arrays[key], inner)[:count] for key in ("numbers", "positions", "forces")}
    return Structures.from_arrays(
        split["numbers"],
        split["positions"],
        arrays["energy"].tolist(),
        split["forces"],
        charge=arrays["charge"].tolist(),
        spin=arrays["spin"].tolist(),
        lattice=list(arrays["lattice"]),
    )
