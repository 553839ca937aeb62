"""Molecules of a file and what a teacher answers for them, in parts that a stopped run does not repeat."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.checksums import verify
from data.errors import CorruptStoreError, InputError
from data.files import listed_path, make_directory
from data.identity import molecule_keys
from data.molecules.files import iter_smiles_chunks
from data.molecules.foreign import encode
from data.molecules.graph_tables import GraphTable
from data.rejects import RejectLog
from data.terminal import progress_bar
from experiments.distillation.molecule_teachers import MoleculeTeacher
from experiments.distillation.settings import LessonConfig
from experiments.pipelines.candidate_selection import reservoir
from experiments.screening.candidate_chunks import printable
from surrogates.learning.learned_from import Hashes, hash_keys

#: What becomes of the rows of the file, in the order of the counts of a part.
COUNTS = ("read", "unreadable", "repeated", "held_out", "outside_domain", "answered", "failed")
REMEDY = "Remove the directory of the run and distil again"


@dataclass(frozen=True)
class MoleculeLessons:
    """Molecules that lie in the domain of a teacher, and its answers.

    Attributes:
        table: the molecules, in the order in which they were drawn.
        answers: in the units of the targets; probabilities for binary labels.
        keys: hashes of the molecules that were asked about.
        counts: name of `COUNTS` -> rows of the file.
    """

    table: GraphTable
    answers: Float[np.ndarray, "molecule target"]
    keys: Hashes
    counts: dict[str, int]


def drawn_rows(path: Path, smiles: str, config: LessonConfig) -> list[tuple[str, int]]:
    """SMILES and line of every row of a file, or of so many that are drawn at random.

    Raises:
        InputError: the file cannot be read, or has no row.
    """
    rows: Iterator[tuple[str, int]] = (
        row
        for chunk in iter_smiles_chunks(path, 65_536, smiles_column=smiles)
        for row in zip(chunk.smiles, chunk.lines, strict=True)
    )
    chosen = list(rows) if config.count is None else reservoir(rows, config.count, seed=config.seed)
    if not chosen:
        raise InputError("it has no molecule", where=str(path), remedy="Give one SMILES a line, or a table of them")
    return chosen


def molecule_lessons(
    teacher: MoleculeTeacher,
    path: Path,
    rows: Sequence[tuple[str, int]],
    labelled: Collection[str],
    held_out: Collection[str],
    folder: Path,
    rejects: RejectLog,
) -> MoleculeLessons:
    """Ask the teacher about every molecule within its domain, each once.

    Args:
        teacher: the teacher.
        path: file of the rows, for `rejects`.
        rows: SMILES and their lines.
        labelled: keys (`data.identity`) of molecules that the student learns from with a label, and asks about already.
        held_out: keys of molecules that the student must not learn from, such as those of a test.
        folder: receives a file for each part of the rows; parts that are there are read.
        rejects: receives the rows that cannot be read.

    Raises:
        InputError: no molecule is left.
        CorruptStoreError: a part was damaged.
    """
    make_directory(folder)
    unwanted, seen = hash_keys(held_out), hash_keys(labelled)
    before = seen
    parts: list[MoleculeLessons] = []
    with progress_bar("answers of the teacher", len(rows)) as bar:
        each = teacher.part_rows or len(rows)
        for number, first in enumerate(range(0, len(rows), each)):
            some = rows[first : first + each]
            place = folder / f"{number:06d}.npz"
            if not place.is_file():
                _write(place, _answered(teacher, some, unwanted, seen))
            part, refused = _read(place, len(teacher.targets))
            for line, text, reason in refused:
                rejects.add(path, line, text, reason)
            parts.append(part)
            seen = np.union1d(seen, part.keys)
            bar.update(min(first + each, len(rows)), failures={"unreadable": rejects.count})
    counts = {name: sum(part.counts[name] for part in parts) for name in COUNTS}
    if not counts["answered"]:
        said = ", ".join(
            f"{counts[name]:,} {name.replace('_', ' ')}" for name in COUNTS if name not in ("read", "answered")
        )
        raise InputError(
            f"no molecule of it lies in the domain of the teacher: {said}",
            where=str(path),
            remedy="Give molecules like those that the teacher learned from",
        )
    answers = np.concatenate([part.answers for part in parts])
    table = GraphTable.concat([part.table for part in parts])
    return MoleculeLessons(table, answers, np.setdiff1d(seen, before), counts)


def _answered(
    teacher: MoleculeTeacher, rows: Sequence[tuple[str, int]], unwanted: np.ndarray, seen: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays of a part."""
    smiles = [text for text, _ in rows]
    table, bad = encode(smiles)
    keys = hash_keys(molecule_keys([smiles[i] for i in table.source_index]))
    held_out = np.isin(keys, unwanted)
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    repeated = ~held_out & (~first | np.isin(keys, seen))
    asked = np.flatnonzero(~held_out & ~repeated)
    inside = teacher.inside(table.take(asked))
    rows_in = asked[inside]
    places = [int(table.source_index[i]) for i in rows_in]
    answers, failures = teacher.answers([smiles[i] for i in places], table.take(rows_in))
    got = np.isfinite(answers).any(axis=1)
    kept, failed = table.take(rows_in[got]), (~got).sum()
    counts = [len(rows), len(bad), repeated.sum(), held_out.sum(), (~inside).sum(), got.sum(), failed]
    bad = [*bad, *((places[k], reason) for k, reason in failures.items())]
    refused = [(rows[i][1], printable(smiles[i]), reason) for i, reason in bad]
    return {
        **{field.name: getattr(kept, field.name) for field in fields(GraphTable)},
        "answers": answers[got],
        "keys": keys[~held_out],
        "counts": np.array(counts, np.int64),
        "refused": np.frombuffer(json.dumps(refused).encode(), np.uint8),
    }


def _write(place: Path, arrays: dict[str, np.ndarray]) -> None:
    with listed_path(place) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read(place: Path, targets: int) -> tuple[MoleculeLessons, list[tuple[int, str, str]]]:
    """A part, and its refused rows.

    Raises:
        CorruptStoreError: it is not what was written.
    """
    verify(place, remedy=REMEDY)
    try:
        with np.load(place, allow_pickle=False) as arrays:
            table = GraphTable(**{field.name: arrays[field.name] for field in fields(GraphTable)})
            answers, keys = arrays["answers"], arrays["keys"]
            # Parts of earlier versions do not count failures, which they did not have.
            counts = dict.fromkeys(COUNTS, 0) | dict(zip(COUNTS, map(int, arrays["counts"]), strict=False))
            refused = [(int(line), str(text), str(why)) for line, text, why in json.loads(bytes(arrays["refused"]))]
        if answers.shape != (len(table), targets):
            raise ValueError(f"answers of the shape {answers.shape}")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CorruptStoreError(f"cannot be read: {error}", where=str(place), remedy=REMEDY) from error
    return MoleculeLessons(table, answers, keys, counts), refused
