"""Writes the results of a screen: Parquet parts, a ledger from which a run resumes, and the best candidates.

A part is committed in this order: its Parquet file is renamed into place, its rejects are appended, and a line is
appended to `ledger.jsonl`; each is flushed to the disk before the next. Files and rejects that are not in the ledger
were not committed: the next run deletes such files and truncates such rejects.
"""

from __future__ import annotations

import csv
import io
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from data.checksums import crc32_of
from data.errors import CorruptStoreError, InputError
from data.files import atomic_path, make_directory, remove_listed, sync_directory, write_bytes
from data.formats.cells import safe_row
from data.json_files import read_plain
from experiments.screening.best_rows import TopK
from experiments.screening.candidate_chunks import Candidates, Reject
from experiments.screening.carried import CarriedRows, in_results
from experiments.screening.column_units import SUFFIXES
from experiments.screening.ledger import (
    LEDGER,
    REJECTS,
    RESULTS,
    Commit,
    ledger_line,
    part_path,
    read_ledger,
    refuse_lost_ledger,
    say_unverified,
    verify_part,
    verify_rejects,
)
from experiments.screening.objective import Objective, targets_of

REJECT_COLUMNS = ("file", "line", "text", "reason")


#: Columns of results and of `top.csv` beside those of the targets.
RESULT_COLUMNS = frozenset(
    {"rank", "line", "smiles", "standard_smiles", "prediction", "std", "interval", "low", "high", "in_domain", "score"}
)


def result_batch(
    encoded: Candidates,
    values: Mapping[str, np.ndarray],
    objective: Objective,
    carried: CarriedRows | None = None,
) -> pa.RecordBatch:
    """The rows of a chunk as they are written; the columns are copied from numpy arrays, without Python loops.

    Args:
        encoded: parsed chunk.
        values: answer of `predict_table` for its table.
        objective: defines the columns `prediction` and `score`.
        carried: columns of the file that the results repeat.
    """
    targets = targets_of(values)
    name = objective.target(targets)

    def floats(array: np.ndarray) -> pa.Array:
        return pa.array(np.ascontiguousarray(array, np.float32))

    bounds = np.stack([values[f"{name}_low"], values[f"{name}_high"]], axis=1).astype(np.float32).ravel()
    named = encoded.columns()
    cells = {} if carried is None else carried.at(encoded.lines)
    renamed = in_results(cells, {*RESULT_COLUMNS, *named, *values})
    columns: dict[str, pa.Array] = {
        "line": pa.array(encoded.lines),
        **named,
        **{renamed[name]: column for name, column in cells.items()},
        "prediction": floats(values[name]),
        "std": floats(values[f"{name}_std"]),
        "interval": pa.FixedSizeListArray.from_arrays(pa.array(bounds), 2),
        "in_domain": pa.array(np.asarray(values["in_domain"], bool)),
        "score": floats(objective.score(values)),
    }
    for target in targets:
        for suffix in SUFFIXES:
            columns[f"{target}{suffix}"] = floats(values[f"{target}{suffix}"])
    return pa.RecordBatch.from_pydict(columns)


class Sink:
    """The output directory of a screen.

    Args:
        out: output directory, which is created if it does not exist.
        fingerprint: settings that the results depend on; a directory with other ones is refused.
        source: name of the file of candidates in `rejects.csv`.
        compression: compression of the Parquet parts.
        named: columns of the results that identify a candidate.
        kind: kind of results, whose settings are in the file `<kind>.json`.
        publish: URL that receives each commit as well, and from which a directory without them resumes; None for none.

    Raises:
        InputError: `out` or the URL contains another screen, or parts of this one are missing or damaged.
    """

    def __init__(
        self,
        out: Path,
        fingerprint: Mapping[str, object],
        source: str,
        compression: str,
        named: Sequence[str] = ("smiles",),
        kind: str = "screen",
        publish: str | None = None,
    ) -> None:
        self._out, self._source, self._compression, self._named = out, source, compression, tuple(named)
        self.results = out / RESULTS
        self.rejects = out / REJECTS
        self._ledger = out / LEDGER
        make_directory(self.results)
        _claim(out, fingerprint, kind)
        self.commits = self._recover()
        self.published = None
        if publish is not None:
            # Screens into a directory alone import no client of a bucket.
            from experiments.screening.published_results import PublishedResults

            self.published = PublishedResults.at(publish, out, kind)
            if self.published.settle(self.commits):
                self.commits = self._recover()
        self._rejects_crc = crc32_of(self.rejects) if self.rejects.exists() else 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._pending: Future[None] | None = None

    @property
    def last(self) -> Commit | None:
        """The newest committed part."""
        return self.commits[-1] if self.commits else None

    def part_path(self, part: int) -> Path:
        """Path of a part."""
        return part_path(self._out, part)

    def commit(self, batches: Sequence[pa.RecordBatch], rejects: Sequence[Reject], entry: Commit) -> None:
        """Write a part in the background, after the previous one, so that at most one is in memory.

        The fields that only the writer knows (`rows`, `bytes`, the checksums) are filled in here.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, list(batches), list(rejects), entry)

    def wait(self) -> None:
        """Wait until all parts are on the disk; an error of the background thread is raised here."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """End the writing thread after its current part."""
        self._writer.shutdown(wait=True)

    def top(self, k: int, keys: Callable[[pa.Table], list[str]] | None = None, **how: Any) -> TopK:
        """The best rows of the committed parts; for the arguments see `TopK`."""
        best = TopK(k, keys, **how)
        for entry in self.commits:
            if entry.rows:
                with pq.ParquetFile(self.part_path(entry.part)) as file:
                    for batch in file.iter_batches(65_536):
                        best.add(batch)
        return best

    def top_columns(self, targets: Sequence[str] = ()) -> list[str]:
        """Columns of `top.csv`: those of the parts, or without any part those of results for `targets`."""
        head = ["rank", "line", *self._named, "score", "prediction", "std", "low", "high"]
        written = next((entry.part for entry in self.commits if entry.rows), None)
        if written is None:
            names = ["in_domain", *(f"{target}{suffix}" for target in targets for suffix in SUFFIXES)]
        else:
            names = pq.read_schema(self.part_path(written)).names
        return [*head, *(name for name in names if name not in (*head, "interval"))]

    def write_top(self, best: TopK, targets: Sequence[str] = ()) -> int:
        """Write `top.csv` and `top.parquet`, ranked, and return the number of rows.

        Args:
            best: the best rows.
            targets: names of the targets, for the columns of a table without rows.
        """
        table = best.table()
        if table is None:
            names = self.top_columns(targets)
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerow(safe_row(names))
            write_bytes(self._out / "top.csv", text.getvalue().encode(), listed=True)
            remove_listed(self._out / "top.parquet")
            return 0
        ranked = table.add_column(0, "rank", pa.array(np.arange(1, table.num_rows + 1)))
        sink = pa.BufferOutputStream()
        pq.write_table(ranked, sink, compression=self._compression)
        write_bytes(self._out / "top.parquet", memoryview(sink.getvalue()), listed=True)
        bounds = np.asarray(table.column("interval").combine_chunks().flatten()).reshape(-1, 2)
        head = {name: ranked.column(name) for name in ("rank", "line", *self._named, "score", "prediction", "std")}
        flat = pa.table(head | {"low": bounds[:, 0], "high": bounds[:, 1]})
        for name in ranked.column_names:
            if name not in (*flat.column_names, "interval"):
                flat = flat.append_column(name, ranked.column(name))
        flat = flat.rename_columns(safe_row(flat.column_names))
        for i, column in enumerate(flat.columns):
            if pa.types.is_string(column.type):
                flat = flat.set_column(i, flat.column_names[i], pa.array(safe_row(column.to_pylist()), pa.string()))
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(flat, sink, pa.csv.WriteOptions(quoting_style="needed"))
        write_bytes(self._out / "top.csv", memoryview(sink.getvalue()), listed=True)
        return int(table.num_rows)

    def _write(self, batches: list[pa.RecordBatch], rejects: list[Reject], entry: Commit) -> None:
        path = self.part_path(entry.part)
        rows = sum(batch.num_rows for batch in batches)
        size, crc = 0, None
        if batches:
            with atomic_path(path) as temporary:
                # Strings differ and floats rarely repeat, so dictionary encoding would cost time and save no space.
                pq.write_table(
                    pa.Table.from_batches(batches), temporary, compression=self._compression, use_dictionary=False
                )
            if self.published is not None:
                self.published.put_part(entry.part, rows)
            size, crc = path.stat().st_size, crc32_of(path)
        text = io.StringIO()
        if not self.rejects.exists():
            csv.writer(text, lineterminator="\n").writerow(REJECT_COLUMNS)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows(safe_row((self._source, r.line, r.text, r.reason)) for r in rejects)
        added = text.getvalue().encode()
        self._rejects_crc = zlib.crc32(added, self._rejects_crc)
        with open(self.rejects, "ab") as file:
            file.write(added)
            file.flush()
            os.fsync(file.fileno())
            rejects_bytes = file.tell()
        if self.published is not None:
            self.published.put_rejects(entry.part, added)
        # The directory entry must be on the disk before the ledger lists the part.
        sync_directory(self._out)
        done = replace(
            entry, rows=rows, bytes=size, rejects_bytes=rejects_bytes, file_crc32=crc, rejects_crc32=self._rejects_crc
        )
        line = ledger_line(done)
        with open(self._ledger, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if self.published is not None:
            self.published.put_commit(entry.part, line)
        if not self.commits:
            sync_directory(self._out)
        self.commits.append(done)

    def _recover(self) -> list[Commit]:
        """The committed parts; files that a killed run left in addition are removed."""
        commits, length = read_ledger(self._out)
        for entry in commits:
            verify_part(self._out, entry)
        if commits:
            verify_rejects(self._out, commits[-1])
        say_unverified(self._out, commits)
        # This is checked before anything is removed, because parts that a damaged ledger lacks may be valid.
        refuse_lost_ledger(self._out, len(commits))
        kept = {self.part_path(entry.part).name for entry in commits if entry.rows}
        for path in self.results.iterdir():
            if path.name not in kept and path.name.lstrip(".").startswith("part-"):
                path.unlink()
        if self._ledger.exists():
            os.truncate(self._ledger, length)
        size = commits[-1].rejects_bytes if commits else 0
        if self.rejects.exists():
            if size:
                os.truncate(self.rejects, size)
            else:
                self.rejects.unlink()
        return commits


def _claim(out: Path, fingerprint: Mapping[str, object], kind: str) -> None:
    """Write the settings of these results to `out`, or compare them with those that are there."""
    path = out / f"{kind}.json"
    if not path.exists():
        if (out / LEDGER).exists():
            raise CorruptStoreError(
                "is missing, so that what the results depend on is not known",
                where=str(path),
                remedy="Restore it from a copy, or delete the output directory and start anew",
            )
        write_bytes(path, (json.dumps(fingerprint, indent=1, sort_keys=True) + "\n").encode(), listed=True)
        return
    before = read_plain(path, dict[str, Any], remedy="Delete the output directory and start anew")
    now = json.loads(json.dumps(fingerprint))
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise InputError(
            f"the directory holds a {kind} with another {' and '.join(changed)}",
            where=str(out),
            remedy="Give another out=DIR, or delete this one",
        )
