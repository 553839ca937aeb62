"""Merges prepared libraries: molecules in the order of the file, in the parts that an unsharded preparation writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from data.claim import claim
from data.errors import InputError
from data.files import atomic_directory, list_as_is, write_json
from data.molecules.library import LibraryPart, PreparedLibrary, PreparedMolecules, read_part, write_part
from data.terminal import progress_bar
from experiments.merging.description import REMEDY, summed_metrics, write_reading
from experiments.screening.library_writing import PART_ROWS, joined
from experiments.screening.source_shards import PIECES, Pieces

#: Name of the library in the directory of a shard.
LIBRARY = "library"


def merge_libraries(out: Path, directories: Sequence[Path], config: DictConfig) -> dict[str, float]:
    """Write one library of all molecules.

    Args:
        out: directory of the new library.
        directories: runs of the shards, each with a library.
        config: configuration that all shards share.

    Raises:
        InputError: no shard has a molecule, or the shards are of different files.
        CorruptStoreError: a file of a shard is damaged.
    """
    libraries = [PreparedLibrary.open(path / LIBRARY) for path in directories]
    origins = [{k: v for k, v in library.source.items() if k != "shard"} for library in libraries]
    for library, origin in zip(libraries, origins, strict=True):
        if origin != origins[0]:
            raise InputError(
                f"was prepared from another file than {libraries[0].path}", where=str(library.path), remedy=REMEDY
            )
    if not any(map(len, libraries)):
        raise InputError("no shard has a molecule", where=str(directories[0].parent), remedy="See their rejects.csv")
    pieces = Pieces.read(directories[0].parent / PIECES)
    parts: list[LibraryPart] = []
    with (
        atomic_directory(out) as target,
        claim(target, "prepared library"),
        progress_bar("merging", sum(map(len, libraries))) as bar,
    ):
        waiting: list[PreparedMolecules] = []
        for molecules in _pieces(libraries, np.array(pieces.lines, np.int64)):
            waiting.append(molecules)
            bar.advance(len(molecules.table))
            if sum(len(one.table) for one in waiting) >= PART_ROWS:
                parts.append(write_part(target, len(parts), joined(waiting)))
                waiting = []
        if waiting:
            parts.append(write_part(target, len(parts), joined(waiting)))
        with (target / "rejects.csv").open("wb") as file:
            for number, library in enumerate(libraries):
                content = (library.path / "rejects.csv").read_bytes()
                file.write(content if number == 0 else content.partition(b"\n")[2])
        list_as_is(target / "rejects.csv")
        metrics = summed_metrics([library.path for library in libraries], "prepare")
        write_reading([library.path for library in libraries], target)
        write_json(target / "metrics.json", metrics)
        PreparedLibrary(target, tuple(parts), sum(one.rejected for one in libraries), origins[0]).save()
    return metrics


def _pieces(libraries: Sequence[PreparedLibrary], ends: np.ndarray) -> Iterator[PreparedMolecules]:
    """The molecules of each piece of the file; a part of a shard holds whole pieces.

    Args:
        libraries: libraries of the shards.
        ends: line after each piece of the file.
    """
    for library in libraries:
        for part in library.parts:
            molecules = read_part(library.path, part)
            cuts = np.unique([0, *np.searchsorted(molecules.lines, ends), part.rows])
            for first, last in itertools.pairwise(cuts.tolist()):
                yield molecules.rows(first, last)
