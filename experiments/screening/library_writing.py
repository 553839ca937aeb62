"""Featurises a library once, so that screening it needs no parsing: `understudy prepare`."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.checksums import crc32_of
from data.claim import claim
from data.errors import CorruptStoreError, InputError
from data.files import list_as_is, remove_listed, sweep, sync_directory, write_json
from data.formats.cells import safe_row
from data.json_files import read_plain
from data.molecules.graph_tables import GraphTable
from data.molecules.library import CARD, REMEDY, LibraryPart, PreparedLibrary, PreparedMolecules, read_part, write_part
from data.plain import to_plain
from data.shards import Shard, whole_of
from data.terminal import progress_bar
from experiments.application.stage import show_readings
from experiments.screening.candidate_chunks import Encoded
from experiments.screening.candidate_sources import identity, open_source
from experiments.screening.readings import StandardForms, candidates_read, standard_said
from experiments.screening.source_shards import shard_source
from experiments.screening.workers import ParserPool, in_order
from simulators.chemistry.standardise import check_steps

#: Rows of a part: few enough to be verified quickly, many enough that a billion molecules need few files.
PART_ROWS = 65_536
CHUNK_ROWS = 16_384
PROGRESS = "progress.json"


@dataclass(frozen=True)
class PrepareSummary:
    """The counts and costs of a preparation.

    Attributes:
        molecules: number of rows that were read, valid and rejected.
        valid: number of molecules in the library.
        bytes: size of the library on disk.
        seconds: wall time of this session, s.
        resumed: number of rows that earlier sessions prepared.
    """

    molecules: int
    valid: int
    bytes: int
    seconds: float
    resumed: int

    def metrics(self) -> dict[str, float]:
        """Flat metrics, as in `metrics.json`."""
        return {
            "prepare/molecules": float(self.molecules),
            "prepare/valid": float(self.valid),
            "prepare/rejected": float(self.molecules - self.valid),
            "prepare/bytes": float(self.bytes),
            "prepare/seconds": self.seconds,
            "prepare/molecules_per_second": (self.molecules - self.resumed) / max(self.seconds, 1e-9),
        }


@dataclass
class Done:
    """Content of `progress.json`: the parts so far, and the position of the source after them."""

    identity: dict[str, object]
    parts: list[LibraryPart]
    rows: int
    position: int
    line: int
    rejects_bytes: int
    #: Checksum of the first `rejects_bytes` of `rejects.csv`; None if an earlier version began the preparation.
    rejects_crc32: int | None = None


def prepare(
    candidates: Path,
    out: Path,
    *,
    smiles: str = "smiles",
    standardise: Sequence[str] = (),
    workers: int | None = None,
    shard: Shard | None = None,
    progress: bool = True,
) -> PrepareSummary:
    """Featurise a file of candidates into a prepared library, or resume a preparation that was stopped.

    Args:
        candidates: .smi, .csv or .tsv file (also .gz), or .parquet file.
        out: directory that receives the parts, `rejects.csv` and, at the end, `library.json`.
        smiles: column of a table that holds SMILES.
        standardise: steps of standardisation that are applied first (`simulators.chemistry.standardise`).
        workers: number of parsing processes; None for one for each core that this process may use.
        shard: part of the candidates that is prepared; None: all. `out` then lies in `Shard.directory` of the whole.
        progress: whether to show a progress bar.

    Raises:
        InputError: the candidates cannot be read, or `out` contains something else.
        ValueError: a step of `standardise` is unknown.
    """
    began = time.perf_counter()
    steps = tuple(standardise)
    check_steps(steps)
    source = open_source(candidates, smiles)
    origin: dict[str, object] = {**identity(candidates), "file": candidates.name, "smiles": smiles}
    if shard is not None:
        source = shard_source(source, shard, whole_of(shard, out), CHUNK_ROWS, identity(candidates))
        origin["shard"] = str(shard)
    if steps:
        origin["standardise"] = list(steps)
    if (out / CARD).exists():
        library = PreparedLibrary.open(out)
        if dict(library.source) != origin:
            raise InputError("it contains another library", where=str(out), remedy="Name another directory")
        # An earlier process was killed after it wrote the card.
        if (out / PROGRESS).exists():
            with claim(out, "prepared library", adopt=_is_begun):
                remove_listed(out / PROGRESS)
        sweep(out)
        total = len(library) + library.rejected
        return PrepareSummary(total, len(library), _bytes(library), time.perf_counter() - began, total)
    with claim(out, "prepared library", adopt=_is_begun):
        done = resume(out, origin) or Done(origin, [], 0, *source.start, 0)
        resumed = done.rows
        pool = ParserPool(workers or len(os.sched_getaffinity(0)), standardise=steps)
        with progress_bar("preparing", 1, show=progress) as bar:
            try:
                waiting: list[Encoded] = []
                pieces = source.pieces(CHUNK_ROWS, done.position, done.line)
                for piece, encoded in in_order(pieces, lambda piece: piece.load(pool), pool.workers + 2):
                    assert isinstance(encoded, Encoded)
                    waiting.append(encoded)
                    done.position, done.line = piece.end, piece.line
                    if sum(len(e.lines) for e in waiting) >= PART_ROWS:
                        _commit(out, done, waiting, candidates.name)
                        waiting = []
                    rate = (done.rows + sum(e.rows for e in waiting) - resumed) / (time.perf_counter() - began)
                    bar.update(piece.done, note=f"{rate:,.0f} molecules/s")
                if waiting:
                    _commit(out, done, waiting, candidates.name)
            finally:
                pool.close()
        valid = sum(part.rows for part in done.parts)
        # Another shard may have molecules; the merge refuses shards of which none has any.
        if not valid and shard is None:
            raise InputError(
                f"none of the {done.rows} rows is a molecule",
                where=str(candidates),
                remedy=f"See {out / 'rejects.csv'}",
            )
        library = PreparedLibrary(out, tuple(done.parts), done.rows - valid, origin)
        counted = [_forms(read_part(out, part)) for part in done.parts if steps]
        forms = StandardForms(sum(f.changed for f in counted), sum(f.stripped for f in counted))
        reading = candidates_read(
            str(candidates),
            source.description,
            out / "rejects.csv",
            total=done.rows,
            used=valid,
            assumed=standard_said(steps, forms),
        )
        show_readings([reading], out, printed=progress)
        list_as_is(out / "rejects.csv")
        # Last, because a directory with a card is complete.
        library.save()
        remove_listed(out / PROGRESS)
        return PrepareSummary(done.rows, valid, _bytes(library), time.perf_counter() - began, resumed)


def _forms(part: PreparedMolecules) -> StandardForms:
    text = part.text.tobytes()
    smiles = (text[a:b].decode() for a, b in itertools.pairwise(part.offsets.tolist()))
    return StandardForms.of(zip(smiles, part.standard or [], strict=bool(part.standard)))


def _is_begun(out: Path) -> bool:
    """Whether an earlier version began to prepare a library here."""
    try:
        return "identity" in json.loads((out / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def resume(out: Path, origin: dict[str, object]) -> Done | None:
    """What an earlier process prepared of the same library in a claimed directory; None if it recorded nothing.

    Raises:
        InputError: the preparation of another library was begun in it.
        CorruptStoreError: `progress.json` or `rejects.csv` is damaged.
    """
    path = out / PROGRESS
    if not path.exists():
        # The directory is claimed: the parts belong to a process that was killed before it recorded the first one.
        for part in out.glob("part-*.bin"):
            part.unlink()
        with (out / "rejects.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(["file", "line", "text", "reason"])
        return None
    done = read_plain(path, Done, remedy=REMEDY)
    if done.identity != origin:
        raise InputError(
            "the preparation of another library was begun in it", where=str(out), remedy="Name another directory"
        )
    rejects = out / "rejects.csv"
    if not rejects.is_file() or rejects.stat().st_size < done.rejects_bytes:
        raise CorruptStoreError("is missing or cut short", where=str(rejects), remedy=REMEDY)
    crc = crc32_of(rejects, done.rejects_bytes)
    if done.rejects_crc32 not in (None, crc):
        raise CorruptStoreError("is not what was written: its checksum differs", where=str(rejects), remedy=REMEDY)
    done.rejects_crc32 = crc
    # Rejects that were written after the last commit will be written again.
    with rejects.open("r+b") as file:
        file.truncate(done.rejects_bytes)
    return done


def joined(pieces: Sequence[Encoded | PreparedMolecules]) -> PreparedMolecules:
    """The molecules of several pieces, one after the other."""
    sizes = np.cumsum([0] + [int(e.offsets[-1]) for e in pieces])
    offsets = np.concatenate(
        [e.offsets[:-1].astype(np.int64) + size for e, size in zip(pieces, sizes[:-1], strict=True)]
    )
    return PreparedMolecules(
        GraphTable.concat([e.table for e in pieces]),
        np.concatenate([e.text for e in pieces]),
        np.append(offsets, sizes[-1]),
        np.concatenate([e.lines for e in pieces]),
        None if pieces[0].standard is None else [text for e in pieces for text in e.standard or []],
    )


def _commit(out: Path, done: Done, waiting: list[Encoded], name: str) -> None:
    rows = sum(e.rows for e in waiting)
    prepared = joined(waiting)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for encoded in waiting:
        writer.writerows(safe_row([name, r.line, r.text, r.reason]) for r in encoded.rejects)
    added = text.getvalue().encode()
    # Before the first commit, the file contains the header.
    before = crc32_of(out / "rejects.csv") if done.rejects_crc32 is None else done.rejects_crc32
    done.rejects_crc32 = zlib.crc32(added, before)
    with (out / "rejects.csv").open("ab") as file:
        file.write(added)
        file.flush()
        os.fsync(file.fileno())
        done.rejects_bytes = file.tell()
    sync_directory(out)
    if len(prepared.table):
        done.parts.append(write_part(out, len(done.parts), prepared))
    done.rows += rows
    write_json(out / PROGRESS, to_plain(done))


def _bytes(library: PreparedLibrary) -> int:
    return sum((library.path / part.file).stat().st_size for part in library.parts)
