"""Writes the parts of predictions as one table, in the memory of one batch; the file appears only once it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from data.errors import InputError
from data.files import atomic_path
from data.formats.cells import safe, safe_row
from data.formats.headers import DELIMITERS
from data.formats.kinds import PARQUET_SUFFIXES
from data.formats.text_files import COMPRESSIONS
from experiments.prediction.molecule_output import SUFFIXES as MOLECULE_SUFFIXES
from experiments.prediction.molecule_output import molecule_writer

#: Texts that `data.formats.cells.safe` may have to change.
_SUSPECT = "^'*[=+\\-@\t\r\n＝＋－＠]"
#: Rows that are read from a part and written together.
BATCH_ROWS = 65_536
KINDS = ".csv, .tsv (each also with .gz, .bz2 or .zst) and .parquet"


def table_kind(path: Path, *, molecules: bool = False) -> tuple[str, str]:
    """The suffix of a table and its compression, "" if there is none.

    Args:
        path: path of the table.
        molecules: whether the rows are molecules, so that .sdf and .smi are written too.

    Raises:
        InputError: no table of this suffix is written.
    """
    match = re.search(r"(\.[a-z0-9]+?)(\.gz|\.bz2|\.zst)?$", path.name.lower())
    kind, packed = (match[1], match[2] or "") if match else ("", "")
    if kind in PARQUET_SUFFIXES and not packed:
        return ".parquet", ""
    others = MOLECULE_SUFFIXES if molecules else ()
    if kind not in (*DELIMITERS, *others):
        raise InputError(
            f"cannot tell the kind of table from the name {path.name!r}",
            where="out",
            remedy=f"There are {', '.join([*others, KINDS])}",
        )
    return kind, COMPRESSIONS.get(packed, "")


@dataclass(frozen=True)
class MoleculeRows:
    """Which column of a table holds molecules, for files that are no tables.

    Attributes:
        smiles: name of the column with SMILES.
        source: the SDF file whose structures are repeated; None for another file.
    """

    smiles: str
    source: Path | None = None


def write_table(
    parts: Sequence[Path],
    out: Path,
    look: Callable[[pa.RecordBatch], None],
    molecules: MoleculeRows | None = None,
) -> int:
    """Write the rows of Parquet parts to one table.

    Args:
        parts: the parts, of one schema.
        out: path of the table; see `table_kind`.
        look: is called with each batch of rows.
        molecules: where the molecules are, if the rows are some.

    Returns:
        The number of rows.
    """
    kind, compression = table_kind(out, molecules=molecules is not None)
    rows = 0
    schema = pq.read_schema(parts[0])
    with atomic_path(out) as temporary, _writer(temporary, kind, compression, schema, molecules) as write:
        for batch in _batches(parts):
            look(batch)
            write(batch)
            rows += batch.num_rows
    return rows


def _batches(parts: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(BATCH_ROWS)


@contextmanager
def _writer(
    path: Path, kind: str, compression: str, schema: pa.Schema, molecules: MoleculeRows | None
) -> Iterator[Callable[[Any], None]]:
    if kind in MOLECULE_SUFFIXES and molecules is not None:
        with pa.OSFile(str(path), "wb") as raw, _packed(raw, compression) as stream:
            yield molecule_writer(stream, kind, schema.names, molecules.smiles, molecules.source)
        return
    if kind == ".parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            yield writer.write_batch
        return
    schema = pa.schema([field.with_name(name) for field, name in zip(schema, safe_row(schema.names), strict=True)])
    how = pa.csv.WriteOptions(delimiter=DELIMITERS[kind], quoting_style="needed")
    with (
        pa.OSFile(str(path), "wb") as raw,
        _packed(raw, compression) as stream,
        pa.csv.CSVWriter(stream, schema, write_options=how) as writer,
    ):
        yield lambda batch: writer.write_batch(
            pa.record_batch([_safe_texts(column) for column in batch.columns], schema=schema)
        )


@contextmanager
def _packed(raw: Any, compression: str) -> Iterator[Any]:
    if not compression:
        yield raw
        return
    with pa.CompressedOutputStream(raw, compression) as stream:
        yield stream


def _safe_texts(column: pa.Array) -> pa.Array:
    """A column in which `data.formats.cells.safe` is applied to texts."""
    if not pa.types.is_string(column.type) or not pc.any(pc.match_substring_regex(column, _SUSPECT)).as_py():
        return column
    return pa.array([safe(text) for text in column.to_pylist()], pa.string())
