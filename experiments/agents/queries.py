"""Rows of results and of campaigns that fulfil conditions; there is no language of queries, only conditions as values.

The results of screens are Parquet files, read column by column. A store of records gives a column for each number or
text of a request and its answer, and for what a record says of itself: status, message, cost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset

from data.errors import InputError
from data.store.records import RecordStore
from data.suggestions import did_you_mean
from experiments.agents.confinement import Root, capped
from experiments.agents.reading import PAGE

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "is_null", "not_null", "starts_with", "contains"]
Value = float | int | str | bool
#: Rows of an answer, and conditions of a call.
MOST_ROWS, MOST_CONDITIONS = 1000, 20
#: Rows that are held in memory for an order.
MOST_SORTED = 5_000_000


@dataclass(frozen=True)
class Condition:
    """A condition on a column; all conditions of a call have to hold.

    Attributes:
        column: name of the column.
        operator: comparison.
        value: what to compare with: a number or a text, or a list for `in`; nothing for is_null and not_null.
    """

    column: str
    operator: Operator
    value: Value | list[Value] | None = None


@dataclass(frozen=True)
class MatchingRows:
    """Rows that fulfil conditions.

    Attributes:
        source: what was searched, relative to the root.
        columns: names of all columns that it has.
        units: unit of a column, where the source states it.
        matching: number of rows that fulfil the conditions.
        rows: some of them; texts come from files and programs, and are cut where they are long.
        next_offset: where the next page begins; None after the last one.
    """

    source: str
    columns: tuple[str, ...]
    units: dict[str, str]
    matching: int
    rows: tuple[dict[str, float | int | str | bool | None], ...]
    next_offset: int | None


def query(
    path: Path,
    root: Root,
    where: Sequence[Condition] = (),
    columns: Sequence[str] = (),
    order_by: str | None = None,
    descending: bool = False,
    offset: int = 0,
    limit: int = 50,
) -> MatchingRows:
    """Rows of a store, of the results of a screen, or of a table, that fulfil conditions.

    Args:
        path: a store, a Parquet or CSV file, or a directory of Parquet files or of a screen.
        root: the folder of all runs.
        where: conditions.
        columns: columns of the answer; none: all.
        order_by: column by which rows are ordered; None: as they lie.
        descending: whether the largest comes first.
        offset, limit: page; an answer ends after 20 kB in any case.

    Raises:
        InputError: there is no such table or column, or a value does not fit its column.
    """
    if not 1 <= limit <= MOST_ROWS or offset < 0 or len(where) > MOST_CONDITIONS:
        problem = f"limit must be from 1 to {MOST_ROWS}, offset 0 or more, and conditions {MOST_CONDITIONS} at most"
        raise InputError(problem, where="query")
    data, units = _table(path, root)
    names = list(data.schema.names)
    for name in (*(c.column for c in where), *columns, *([order_by] if order_by else [])):
        if name not in names:
            remedies = [did_you_mean(name, names), f"There are {', '.join(names[:60])}"]
            raise InputError(f"no column {capped(name)!r}", where="columns", remedy=" ".join(filter(None, remedies)))
    shown = list(columns) or names
    try:
        chosen = _filter(data, where)
        matching = int(data.count_rows(filter=chosen))
        if order_by is not None and matching > MOST_SORTED:
            raise InputError(f"{matching:,} rows are too many to order", where="order_by", remedy="Add conditions")
        read = list(dict.fromkeys([*shown, *([order_by] if order_by else [])]))
        if order_by is None:
            table = data.scanner(columns=read, filter=chosen).head(offset + limit).slice(offset)
        else:
            whole = data.to_table(columns=read, filter=chosen)
            order = "descending" if descending else "ascending"
            table = whole.take(pc.sort_indices(whole, [(order_by, order)])[offset : offset + limit])
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            capped(str(error).splitlines()[0]),
            where="where",
            remedy="Compare numbers with numbers, and texts with texts",
        ) from error
    rows = tuple(_within_page(table.select(shown).to_pylist()))
    following = offset + len(rows)
    return MatchingRows(
        root.relative(path), tuple(names), {k: u for k, u in units.items() if k in names}, matching, rows,
        following if following < matching and rows else None,
    )  # fmt: skip


def _filter(data: pyarrow.dataset.Dataset, where: Sequence[Condition]) -> Any:
    expression: Any = pc.scalar(True)
    for condition in where:
        expression = expression & _expression(condition, data.schema.field(condition.column).type)
    return expression


def _expression(condition: Condition, kind: pa.DataType) -> Any:
    column, value = pc.field(condition.column), condition.value
    many = isinstance(value, list)
    needs = condition.operator not in ("is_null", "not_null")
    if many != (condition.operator == "in") or needs == (value is None):
        raise InputError(
            f"the value does not fit the operator {condition.operator}",
            where=condition.column,
            remedy="in takes a list, is_null and not_null take none, and the others one value",
        )
    simple = {"==": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
    if condition.operator in simple:
        return getattr(column, simple[condition.operator])(pa.scalar(value, kind))
    if condition.operator == "in":
        return column.isin(pa.array(value, kind))
    if condition.operator == "is_null":
        return column.is_null(nan_is_null=True)
    if condition.operator == "not_null":
        return ~column.is_null(nan_is_null=True)
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        raise InputError("only texts start with or contain a text", where=condition.column)
    text = pc.starts_with if condition.operator == "starts_with" else pc.match_substring
    return text(column, str(value))


def _table(path: Path, root: Root) -> tuple[pyarrow.dataset.Dataset, dict[str, str]]:
    """A dataset of Arrow with all rows, and the units that its source states."""
    if (path / "store.json").is_file():
        table, units = store_table(path)
        return pyarrow.dataset.dataset(table), units
    files = _files(path)
    if not files or not all(root.holds(file.resolve()) for file in files):
        raise InputError(
            "no table here", where=root.relative(path),
            remedy="Name a store, the directory of a screen, or a .parquet or .csv file below the root",
        )  # fmt: skip
    try:
        if files[0].suffix == ".csv":
            table = pyarrow.csv.read_csv(files[0])
            return pyarrow.dataset.dataset(table), {}
        data = pyarrow.dataset.dataset([str(file) for file in files], format="parquet")
    except (pa.ArrowException, OSError) as error:
        problem = capped(str(error).splitlines()[0])
        raise InputError(f"cannot be read: {problem}", where=root.relative(path)) from error
    units = {field.name: text for field in data.schema if (text := _unit(field))}
    flat = [field.name for field in data.schema if not pa.types.is_nested(field.type)]
    return data if len(flat) == len(data.schema) else pyarrow.dataset.dataset(data.to_table(columns=flat)), units


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix in (".parquet", ".csv") else []
    for pattern in ("results/*.parquet", "screen/results/*.parquet", "*.parquet"):
        if files := sorted(path.glob(pattern)):
            return files
    return []


def _unit(field: pa.Field) -> str:
    return ((field.metadata or {}).get(b"units") or b"").decode("utf-8", "replace")


def store_table(path: Path) -> tuple[pa.Table, dict[str, str]]:
    """The numbers and texts of the records of a store, one row each, and their units."""
    records = RecordStore.open(path)
    columns: dict[str, Any] = {"key": pa.array(records.keys(), pa.string())}
    units = {"seconds": "s", "core_seconds": "s"}
    for name in (*records.inputs, *records.outputs):
        if len(records.dims(name)) == 1 and len(values := records.column(name)) == len(columns["key"]):
            columns[name] = _array(values)
            units[name] = records.attributes[name].get("units", "")
    for name, values in records.facts().items():
        if name not in columns and name != "log":
            columns[name] = _array(values)
    if "status" in columns:
        # Outputs of a record without an answer are fill values, and no numbers.
        answered = pc.equal(columns["status"], "ok")
        for name in records.outputs:
            if name in columns:
                columns[name] = pc.if_else(answered, columns[name], pa.scalar(None, columns[name].type))
    return pa.table(columns), units


def _array(values: np.ndarray) -> pa.Array:
    return pa.array([str(v) for v in values], pa.string()) if values.dtype.kind in "OUS" else pa.array(values)


def _within_page(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows as plain values until a page is full; a number that is not finite is none."""
    size = 0
    for row in rows:
        plain = {name: _plain(value) for name, value in row.items()}
        size += len(json.dumps(plain))
        if size > PAGE:
            return
        yield plain


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int | bool):
        return value
    return capped(str(value))
