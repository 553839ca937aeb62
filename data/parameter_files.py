"""Tables of designs with their labels, as samples that a surrogate of parameters learns from."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.formats.headers import DELIMITERS, choose_delimiter, column_index, header_names
from data.formats.rows import finite
from data.formats.text_files import TOO_LONG, open_lines, read_row
from data.molecules.parquet_rows import parquet_batches, parquet_schema
from data.parameters import ParameterLayout, ParameterTable
from data.spec import Variable

PARQUET_SUFFIXES = (".parquet", ".pq")
COMPRESSED = (".gz", ".bz2", ".zst")
#: Rows of a Parquet file that are read at a time.
ROWS = 65_536


def is_table(path: Path) -> bool:
    """Whether the name of a file is that of a table: .csv or .tsv, also compressed, or .parquet."""
    suffixes = [s.lower() for s in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSED:
        return suffixes[-2] in DELIMITERS
    return bool(suffixes) and suffixes[-1] in (*DELIMITERS, *PARQUET_SUFFIXES)


def read_parameter_file(
    path: Path, targets: Sequence[str], inputs: Sequence[str] | None, units: Mapping[str, str]
) -> tuple[ParameterTable, list[tuple[int, str]]]:
    """Samples from a table with a column for each input and for each output; its cost is not known and counts as 0.

    Args:
        path: .csv or .tsv file (also .gz, .bz2 or .zst), or .parquet file.
        targets: columns to learn.
        inputs: columns that determine them.
        units: unit of a column; of others it is not known, which the layout states as "1".

    Returns:
        The samples, and (line, reason) for each row that was left out.

    Raises:
        InputError: no input or target is named, a column is missing, a unit is of no column, or no row can be used.
    """
    where = str(path)
    if not targets:
        raise InputError("no output to learn is named", where="data.target", remedy="Name one, or a list")
    if not inputs:
        raise InputError(
            "the file does not say which of its columns decide the outputs",
            where="data.inputs",
            remedy="Name them: data.inputs=[COLUMN,...]",
        )
    names = [*inputs, *targets]
    if len(set(names)) < len(names):
        raise InputError("a column is named twice", where="data", remedy="Name each once in target and inputs")
    if other := [name for name in units if name not in names]:
        raise InputError(f"{other[0]} is neither an input nor a target", where="data.units", remedy="Leave it out")
    rows: list[list[float]] = []
    bad: list[tuple[int, str]] = []
    for line, cells in _rows(path, names):
        numbers = [finite(cell) for cell in cells]
        wrong = [name for name, number in zip(names, numbers, strict=False) if number is None]
        if len(cells) != len(names):
            bad.append((line, "another number of fields than the header"))
        elif wrong:
            bad.append((line, f"{wrong[0]} is no finite number"))
        else:
            rows.append([number for number in numbers if number is not None])
    if not rows:
        commonest = Counter(reason for _, reason in bad).most_common(1)
        reason = commonest[0][0] if commonest else "it is empty"
        raise InputError(f"no row of it can be used: {reason}", where=where, remedy="See rejects.csv")

    def variables(columns: Sequence[str]) -> tuple[Variable, ...]:
        return tuple(Variable(n, (), units.get(n, "1"), "float64", n.replace("_", " ")) for n in columns)

    unknown = {"cost of the labels": "a table does not state it, so that it counts as 0"}
    if set(units) != set(names):
        unknown["units"] = "not known where data.units={NAME: UNIT} states none"
    table = np.array(rows, np.float64)
    samples = ParameterTable(
        ParameterLayout(variables(inputs), variables(targets), (), {}),
        table[:, : len(inputs)],
        table[:, len(inputs) :],
        "",
        np.zeros(len(table)),
        dict(Counter(reason for _, reason in bad)),
        unused=unknown,
    )
    return replace(samples, fingerprint=samples.content()), bad


def _rows(path: Path, names: Sequence[str]) -> Iterator[tuple[int, Sequence[object]]]:
    """Line and cells of the named columns of each row."""
    if path.suffix.lower() in PARQUET_SUFFIXES:
        schema = parquet_schema(path)
        _refuse_lacking(path, names, schema.names)
        for batch, end, _ in parquet_batches(path, list(names), ROWS, 0):
            columns = [batch.column(name).to_pylist() for name in names]
            first = end - batch.num_rows + 1
            yield from ((first + k, cells) for k, cells in enumerate(zip(*columns, strict=True)))
        return
    suffixes = [s.lower() for s in path.suffixes if s.lower() in DELIMITERS]
    with open_lines(path) as (stream, _):
        head = read_row(stream)[0].decode("utf-8-sig", "replace")
        delimiter = choose_delimiter(head, DELIMITERS[suffixes[-1]], names)
        header = header_names(head, delimiter)
        _refuse_lacking(path, names, header)
        places = [column_index(path, header, name) for name in names]
        line = 1
        while (read := read_row(stream))[0]:
            line += 1
            text = read[0].decode("utf-8", "replace").rstrip("\r\n")
            if len(read[0]) < read[1]:
                yield line, [TOO_LONG]
            elif text.strip():
                fields = next(csv.reader([text], delimiter=delimiter), [])
                yield line, [fields[i] for i in places] if len(fields) == len(header) else []


def _refuse_lacking(path: Path, names: Sequence[str], header: Sequence[str]) -> None:
    if lacking := [name for name in names if name not in header]:
        raise InputError(
            f"no column {' and no '.join(lacking)}; there are {', '.join(header[:20])}",
            where=str(path),
            remedy="Name the columns as the file does: data.inputs=[...] data.target=[...]",
        )
