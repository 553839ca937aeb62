"""Bodies in JSON: rows or columns of inputs, and the answers in the same form.

A request is `{"rows": [{"smiles": "CCO"}, ...]}` or `{"columns": {"smiles": ["CCO", ...]}}`. In the answer to rows a
refused row is null, and in that to columns its values are; `errors` names each of them. No answer holds NaN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.json_files import parse_json
from data.spec import Variable
from data.suggestions import did_you_mean
from experiments.serving.limits import RequestLimits
from experiments.serving.refusals import Refusal, malformed, unusable
from experiments.serving.rows import MISSING, Answer, Column, Question

CONTENT_TYPE = "application/json"
ROWS, COLUMNS = "rows", "columns"
REMEDY = (
    'Send {"rows": [{INPUT: VALUE, ...}, ...]} or {"columns": {INPUT: [VALUE, ...], ...}}; GET /spec names the inputs'
)


def read_json(body: bytes, inputs: Sequence[Variable], limits: RequestLimits) -> tuple[Question, str]:
    """The rows of a body, and whether they are "rows" or "columns".

    Args:
        body: the body.
        inputs: variables of a request.
        limits: the limits of the server.

    Raises:
        RequestError: 400: it is no JSON; 413: it has too many rows; 422: it has another form.
    """
    try:
        value = parse_json(body)
    except ValueError as error:
        raise malformed(f"it is no JSON: {error}", REMEDY) from None
    if not isinstance(value, dict):
        raise unusable("it is no object", remedy=REMEDY)
    if len(value) != 1 or not value.keys() <= {ROWS, COLUMNS}:
        raise unusable(f"it has the keys {', '.join(map(repr, list(value)[:5])) or 'none'}", remedy=REMEDY)
    ((form, content),) = value.items()
    names = [variable.name for variable in inputs]
    if form == ROWS:
        if not isinstance(content, list):
            raise unusable("rows is no list", ROWS, REMEDY)
        limits.refuse_rows(len(content))
        return _of_rows(content, names), ROWS
    return _of_columns(content, names, limits), COLUMNS


def _of_rows(rows: list[Any], names: Sequence[str]) -> Question:
    allowed = set(names)
    refusals: dict[int, Refusal] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            refusals[number] = Refusal("invalid_input", f"it is a {type(row).__name__} and no object", "", REMEDY)
        elif not row.keys() <= allowed:
            refusals[number] = Refusal("invalid_input", *unknown(str(min(row.keys() - allowed)), names))
    nothing: dict[str, Any] = {}
    usable = [nothing if number in refusals else row for number, row in enumerate(rows)] if refusals else rows
    return Question(len(rows), {name: [row.get(name, MISSING) for row in usable] for name in names}, refusals)


def _of_columns(columns: Any, names: Sequence[str], limits: RequestLimits) -> Question:
    if not isinstance(columns, dict) or not columns or not all(isinstance(v, list) for v in columns.values()):
        raise unusable("columns is no object of lists", COLUMNS, REMEDY)
    if others := columns.keys() - set(names):
        problem, where, remedy = unknown(min(others), names)
        raise unusable(problem, where, remedy)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise unusable(f"its columns have different lengths: {lengths}", COLUMNS, "Send a value for each row in each")
    rows = next(iter(lengths.values()))
    limits.refuse_rows(rows)
    return Question(rows, columns)


def unknown(name: str, names: Sequence[str]) -> tuple[str, str, str]:
    """The problem, the place and the remedy of an input that does not exist."""
    remedies = [did_you_mean(name, list(names)), f"Inputs are {', '.join(names)}"]
    return "there is no such input", name, " ".join(filter(None, remedies))


def write_json(answer: Answer, about: Mapping[str, Any], units: Mapping[str, str], form: str) -> bytes:
    """The answer to a request as JSON.

    Args:
        answer: the answer.
        about: what else stands in it, such as the fingerprint.
        units: name of each output -> its unit.
        form: "rows" or "columns".
    """
    columns = {name: _plain(values, answer.refusals) for name, values in answer.columns.items()}
    whole: dict[str, Any] = {**about, "units": {name: units[name] for name in columns}, "answered": answer.answered}
    if form == COLUMNS:
        whole[COLUMNS] = columns
    else:
        names = list(columns)
        rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        whole[ROWS] = [None if row in answer.refusals else values for row, values in enumerate(rows)]
    whole["errors"] = [why.plain(row) for row, why in sorted(answer.refusals.items())]
    return json.dumps(whole, allow_nan=False, separators=(",", ":")).encode()


def _plain(values: Column, refusals: Mapping[int, Refusal]) -> list[Any]:
    if isinstance(values, np.ndarray):
        plain = values.tolist()
    else:
        plain = [None if value is None else np.asarray(value).tolist() for value in values]
    for row in refusals:
        plain[row] = None
    return plain
