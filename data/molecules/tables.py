"""Molecules of SMILES files, delimited tables and Parquet files, row by row or as fast chunks.

A row that is malformed costs that row only: a quote that is not closed within `LONGEST_RECORD` lines, or that
makes a record of the wrong width, is an error of its first line, and the next line is read as a row again.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.errors import InputError
from data.formats.cells import plain
from data.formats.headers import SEPARATED_BY, choose_delimiter, column_index
from data.formats.rows import (
    BLOCK,
    Bad,
    Lines,
    Row,
    blocks,
    decode_text,
    empty,
    has_control,
    in_batches,
    numbers_of,
    split_lines,
    text_problem,
)
from data.formats.text_files import LONGEST_ROW, TOO_LONG, TextFormat
from data.molecules.foreign import smiles_problems
from data.molecules.parquet_rows import bounded_text, parquet_batches, parquet_schema, too_long
from data.molecules.smiles import MAX_CHARACTERS
from data.molecules.tally import TableTally

#: A quoted field may run over this many lines.
LONGEST_RECORD = 64
#: First words that mark the header of a SMILES file; none of them is a molecule.
HEADER_WORDS = frozenset({"smiles", "canonical_smiles", "smile", "structure"})
_NO_SMILES = "no SMILES in this row"

#: A record of a table: its line, its text and its fields.
Fields = tuple[int, str, list[str]]


def check_smiles(rows: Iterator[tuple[str, Row] | Bad]) -> Iterator[Row | Bad]:
    """Rows with the texts that they were read from; those whose SMILES cannot be read become bad ones, in order."""
    return in_batches(rows, _check_smiles, lambda row: len(row.text if isinstance(row, Bad) else row[0]))


def _check_smiles(rows: list[tuple[str, Row] | Bad]) -> Iterator[Row | Bad]:
    problems = iter(smiles_problems([str(row[1].smiles) for row in rows if not isinstance(row, Bad)]))
    for row in rows:
        if isinstance(row, Bad):
            yield row
            continue
        problem = next(problems)
        yield row[1] if problem is None else Bad(row[1].line, row[0], problem)


def read_smiles(path: Path) -> Iterator[tuple[str, Row] | Bad]:
    """Rows of a SMILES file: the first word is the molecule, what follows is its name."""
    lines = Lines(path)
    first = True
    while (taken := lines.take()) is not None:
        line, text = taken[0], decode_text(taken[1])
        words = text.split(None, 1)
        if not words:
            continue
        header, first = first and words[0].lower() in HEADER_WORDS, False
        if header:
            continue
        if problem := row_problem(taken[1]) or text_problem(text):
            yield Bad(line, text, problem)
            continue
        yield text, Row(line, words[0], properties={"name": words[1].strip()} if len(words) > 1 else {})
    if first:
        raise empty(path)


def read_table(
    path: Path,
    delimiter: str,
    smiles_column: str,
    columns: Sequence[str],
    *,
    texts: Sequence[str] = (),
    tally: TableTally | None = None,
) -> Iterator[tuple[str, Row] | Bad]:
    """Rows of a delimited table with a header; a quoted field may hold delimiters and line breaks.

    Args:
        path: of the table.
        delimiter: the usual one; another is taken where the columns appear only with it.
        smiles_column, columns: names of the requested columns.
        texts: columns whose cells are texts.
        tally: learns how the table is laid out, and what other columns there are.
    """
    lines = Lines(path)
    delimiter, names = _header(lines, path, delimiter, (smiles_column, *columns, *texts))
    where = [column_index(path, names, name) for name in (smiles_column, *columns, *texts)]
    others = {name: i for i, name in enumerate(names) if i not in where}
    if tally is not None:
        how = [f"fields separated by {SEPARATED_BY[delimiter]}", str(TextFormat.of(path))]
        tally.format = ", ".join(["table", *filter(None, how)])
    while True:
        record = next_record(lines, delimiter, len(names))
        if record is None:
            return
        if isinstance(record, Bad):
            yield record
            continue
        line, text, fields = record
        if tally is not None and tally.looking:
            tally.look({name: fields[i] for name, i in others.items()})
        smiles, *cells = [fields[i].strip() for i in where]
        # Other columns may hold what they like, such as names in another encoding.
        if problem := next(filter(None, map(text_problem, (smiles, *cells))), None):
            yield Bad(line, text, problem)
            continue
        yield _row(line, text, smiles, dict(zip([*columns, *texts], cells, strict=True)), columns, texts)


def read_parquet(
    path: Path,
    smiles_column: str,
    columns: Sequence[str],
    *,
    texts: Sequence[str] = (),
    tally: TableTally | None = None,
) -> Iterator[tuple[str, Row] | Bad]:
    """Rows of a Parquet file; null and NaN are empty cells, and lines are rows counted from 1."""
    if tally is not None:
        tally.format = "Parquet"
        tally.unused = _numeric_columns(path, {smiles_column, *columns})
    for first, batch in _batches(path, smiles_column, columns, 8192, texts):
        molecules, long = bounded_text(batch.column(0))
        names = [*columns, *texts]
        values = [_cells(batch.column(i + 1)) for i in range(len(names))]
        for i, smiles in enumerate(molecules):
            if i in long:
                yield Bad(first + i, smiles or "", too_long(long[i]))
                continue
            cells = {name: column[i] for name, column in zip(names, values, strict=True)}
            for name, cell in cells.items():
                if isinstance(cell, float) and math.isnan(cell):
                    cells[name] = None
            text = smiles or ""
            problem = text_problem(text)
            if problem:
                yield Bad(first + i, text, problem)
            else:
                yield _row(first + i, text, text.strip(), cells, columns, texts)


def _row(
    line: int, text: str, smiles: str, cells: dict[str, Any], columns: Sequence[str], texts: Sequence[str]
) -> tuple[str, Row] | Bad:
    if not smiles:
        return Bad(line, text, _NO_SMILES)
    values = numbers_of(cells, columns)
    if isinstance(values, str):
        return Bad(line, text, values)
    properties: dict[str, Any] = {**values[0], **{name: str(cells[name] or "").strip() for name in texts}}
    return text, Row(line, smiles, properties=properties, problems=values[1])


def row_problem(raw: bytes) -> str | None:
    """Why a line is no row of a table or of a list, by its length alone."""
    return TOO_LONG if len(raw) > LONGEST_ROW else None


def _numeric_columns(path: Path, others: set[str]) -> dict[str, str]:
    """Columns of numbers of a Parquet file, besides those that are used; none of a file that cannot be read."""
    try:
        schema = parquet_schema(path)
    except InputError:
        # Reading its rows says what is wrong with it.
        return {}
    numeric = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    return {name: "a column of numbers" for name in numeric if name not in others}


def next_record(lines: Lines, delimiter: str, width: int) -> Fields | Bad | None:
    """The next record with its fields; None at the end. Blank lines are passed over."""
    while (taken := lines.take()) is not None:
        line, raw = taken
        if raw.strip():
            break
    else:
        return None
    text = decode_text(raw)
    if problem := row_problem(raw):
        return Bad(line, text, problem)
    if '"' in text:
        return _read_quoted(lines, line, text, delimiter, width)
    if "\0" in text:
        return Bad(line, text, "has a NUL byte")
    fields = text.split(delimiter)
    if len(fields) != width:
        return Bad(line, text, f"{len(fields)} fields, but the header has {width}")
    return line, text, fields


def _read_quoted(lines: Lines, line: int, text: str, delimiter: str, width: int) -> Fields | Bad:
    def feed() -> Iterator[str]:
        yield text + "\n"
        room = LONGEST_ROW - len(text)
        for ahead in range(LONGEST_RECORD - 1):
            following = lines.peek(ahead)
            room -= 0 if following is None else len(following[1])
            if following is None or room < 0:
                return
            yield decode_text(following[1]) + "\n"

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    try:
        fields = next(reader)
    except csv.Error as error:
        if "unexpected end" in str(error):
            return Bad(line, text, f"malformed quotes: not closed within {LONGEST_RECORD} lines")
        return Bad(line, text, f"malformed quotes: {error}")
    more = reader.line_num - 1
    if width and len(fields) != width:
        # A quote that was closed by that of a later row: only this line is at fault.
        kind = "malformed quotes: " if more else ""
        return Bad(line, text, f"{kind}{len(fields)} fields, but the header has {width}")
    whole = "\n".join([text, *(decode_text(lines.buffer[i][1]) for i in range(more))])
    problem = text_problem(whole)
    if problem and more:
        return Bad(line, text, text_problem(text) or f"malformed quotes, or {problem}")
    if "\0" in text:
        return Bad(line, text, "has a NUL byte")
    lines.drop(more)
    return line, whole, fields


def _header(lines: Lines, path: Path, usual: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """What separates the fields, and the names of the columns; the rows follow."""
    while (taken := lines.take()) is not None:
        line, raw = taken
        if raw.strip():
            break
    else:
        raise empty(path)
    text = decode_text(raw)
    if problem := row_problem(raw):
        raise InputError(f"its header is {problem}", where=str(path), remedy="Give a table, as UTF-8 text")
    delimiter = choose_delimiter(text, usual, columns)
    record = _read_quoted(lines, line, text, delimiter, 0)
    if isinstance(record, Bad):
        raise InputError(
            f"the header cannot be read: {record.reason}",
            where=f"{path}, line {line}",
            file=path,
            row=line,
            remedy="The first line must name the columns, in UTF-8",
        )
    return delimiter, [plain(name.strip()) for name in record[2]]


def smiles_blocks(path: Path) -> Iterator[tuple[list[str], Sequence[int]]]:
    """SMILES and their lines of a SMILES file, about a mebibyte of text at a time."""
    first = True
    for line, data in blocks(path):
        text = decode_text(data)
        if text.isascii() and not text_problem(text) and len(data) <= 2 * BLOCK:
            rows = [words[0] if (words := row.split(None, 1)) else "" for row in text.removesuffix("\n").split("\n")]
        else:
            rows = [_first_word(row) for row in split_lines(data)]
        if first and (head := next(filter(None, rows), None)) is not None:
            first = False
            if head.lower() in HEADER_WORDS:
                rows[rows.index(head)] = ""
        yield _present(rows, line)
    if first:
        raise empty(path)


def _first_word(raw: bytes) -> str:
    text = "" if row_problem(raw) else decode_text(raw)
    return text.split(None, 1)[0] if text.strip() and not text_problem(text) else ""


def table_blocks(path: Path, delimiter: str, smiles_column: str) -> Iterator[tuple[list[str], Sequence[int]]]:
    """SMILES and their lines of a delimited table; the common case, no quotes, takes few steps a row."""
    lines = Lines(path)
    delimiter, names = _header(lines, path, delimiter, (smiles_column,))
    column, width = column_index(path, names, smiles_column), len(names)
    while (taken := lines.take_block()) is not None:
        line, data = taken
        plain = b'"' not in data and len(data) <= 2 * BLOCK and not has_control(data)
        rows = _column(data, delimiter, column, width) if plain else None
        if rows is not None:
            yield _present(rows, line)
            continue
        lines.put(line, data)
        smiles, numbers = [], []
        while lines.buffer and (record := next_record(lines, delimiter, width)) is not None:
            text = "" if isinstance(record, Bad) else record[2][column].strip()
            if text and len(text) <= MAX_CHARACTERS and not text_problem(text):
                smiles.append(text)
                numbers.append(record.line if isinstance(record, Bad) else record[0])
        yield smiles, numbers


def _column(data: bytes, delimiter: str, column: int, width: int) -> list[str] | None:
    """A column of lines without quotes; None unless they are ASCII and all have `width` fields."""
    if not data.isascii():
        return None
    data = data if data.endswith(b"\n") else data + b"\n"
    characters = np.frombuffer(data, np.uint8)
    breaks = characters == ord("\n")
    ends = np.flatnonzero(breaks | (characters == ord(delimiter)))
    if len(ends) % width:
        return None
    last = breaks[ends].reshape(-1, width)
    if not last[:, -1].all() or last[:, :-1].any():
        return None
    stops = ends[column::width]
    starts = ends[column - 1 :: width] + 1 if column else np.concatenate([[0], ends[width - 1 : -1 : width] + 1])
    text = data.decode("ascii")
    return [text[i:j].strip() for i, j in zip(starts.tolist(), stops.tolist(), strict=True)]


def _present(rows: list[str], line: int) -> tuple[list[str], Sequence[int]]:
    """The rows with a text no longer than a SMILES, and their lines."""
    if max(map(len, rows), default=0) > MAX_CHARACTERS:
        rows = [row if len(row) <= MAX_CHARACTERS else "" for row in rows]
    if all(rows):
        return rows, range(line, line + len(rows))
    return [row for row in rows if row], [line + i for i, row in enumerate(rows) if row]


def parquet_blocks(path: Path, smiles_column: str) -> Iterator[tuple[list[str], Sequence[int]]]:
    """SMILES and their rows of a Parquet file."""
    for first, batch in _batches(path, smiles_column, (), 65_536):
        texts, long = bounded_text(batch.column(0))
        for i in long:
            texts[i] = None
        yield _present([text.strip() if text and not text_problem(text) else "" for text in texts], first)


def _batches(
    path: Path, smiles_column: str, columns: Sequence[str], rows: int, texts: Sequence[str] = ()
) -> Iterator[tuple[int, pa.RecordBatch]]:
    schema = parquet_schema(path)
    names = [smiles_column, *columns, *texts]
    for name in names:
        column_index(path, schema.names, name)
    _expect(path, schema, smiles_column, _is_text, "text")
    for name in columns:
        _expect(path, schema, name, _is_number, "numbers")
    for name in texts:
        _expect(path, schema, name, _is_text, "text")
    for batch, end, _ in parquet_batches(path, list(dict.fromkeys(names)), rows):
        yield end - batch.num_rows + 1, batch.select(names)


def _expect(path: Path, schema: pa.Schema, name: str, fits: Callable[[pa.DataType], bool], what: str) -> None:
    kind = schema.field(name).type
    if not fits(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise InputError(f"column {name!r} holds {kind}, not {what}", where=str(path), remedy="Name another column")


def _is_text(kind: pa.DataType) -> bool:
    tests: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    return any(test(kind) for test in tests)


def _is_number(kind: pa.DataType) -> bool:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return bool(numeric or pa.types.is_null(kind)) or _is_text(kind)


def _cells(column: pa.Array) -> list[Any]:
    kind = column.type
    if _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        return list(bounded_text(column)[0])
    return list(column.to_pylist())
