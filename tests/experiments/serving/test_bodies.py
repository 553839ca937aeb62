"""Bodies of requests and answers: what is read, what is refused with which status, and what is never written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data.spec import Variable
from experiments.serving.arrow_bodies import read_arrow, write_arrow
from experiments.serving.json_bodies import read_json, write_json
from experiments.serving.limits import ReceivedBytes, RequestLimits
from experiments.serving.refusals import LONGEST, ProblemDetails, Refusal, RequestError, RowError
from experiments.serving.rows import MISSING, Answer, Question
from experiments.serving.values import array_of, number_column, text_of

SMILES = (Variable("smiles", (), "1", "str", "SMILES"),)
NUMBERS = Variable("numbers", ("atom",), "1", "int32", "atomic numbers")
POSITIONS = Variable("positions", ("atom", "axis"), "Angstrom", "float64", "positions")
CHARGE = Variable("charge", (), "e", "int32", "charge")
GEOMETRY = (NUMBERS, POSITIONS, CHARGE)
LIMITS = RequestLimits(queue=5)
OUTPUTS = {
    "energy": Variable("energy", (), "eV", "float64", "energy"),
    "forces": Variable("forces", ("atom", "axis"), "eV/Angstrom", "float64", "forces"),
    "in_domain": Variable("in_domain", (), "1", "bool", "inside"),
    "stress": Variable("stress", ("axis", "axis_2"), "eV/Angstrom^3", "float64", "stress"),
}
ANSWER = Answer(
    3,
    {
        "energy": np.array([1.5, 2.0, -3.0]),
        "forces": [np.ones((2, 3)), None, np.zeros((1, 3))],
        "in_domain": np.array([True, False, False]),
        "stress": [None, None, np.eye(3)],
    },
    {1: Refusal("invalid_input", "two atoms coincide", "positions", "Move one")},
)


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def problem(read: Any, *arguments: Any) -> ProblemDetails:
    with pytest.raises(RequestError) as caught:
        read(*arguments)
    return caught.value.problem


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "no JSON"),
        (b"\xff", 400, "no JSON"),
        (b"[" * 100_000, 400, "nested too deep"),
        (b'{"rows": [{"smiles": NaN}]}', 400, "NaN is no number"),
        (b"[]", 422, "no object"),
        (b'{"a": 1}', 422, "'a'"),
        (b'{"rows": [], "columns": {}}', 422, "keys"),
        (b'{"rows": 1}', 422, "no list"),
        (b'{"rows": []}', 422, "no rows"),
        (b'{"rows": [1, 1, 1, 1, 1, 1]}', 413, "6 rows"),
        (b'{"columns": {"smile": ["C"]}}', 422, "no such input"),
        (b'{"columns": {"smiles": "C"}}', 422, "lists"),
    ],
)
def test_a_body_in_json_that_cannot_be_used_has_a_status_and_a_remedy(body: bytes, status: int, words: str) -> None:
    refused = problem(read_json, body, SMILES, LIMITS)
    assert refused.status == status
    assert words in refused.problem
    assert refused.remedy


def test_rows_and_columns_of_json_are_the_same_question() -> None:
    rows, form = read_json(b'{"rows": [{"smiles": "C"}, {"smiles": "CC"}]}', SMILES, LIMITS)
    columns, other = read_json(b'{"columns": {"smiles": ["C", "CC"]}}', SMILES, LIMITS)
    assert (form, other) == ("rows", "columns")
    assert rows == columns == Question(2, {"smiles": ["C", "CC"]})


def test_a_row_that_is_no_row_is_refused_alone() -> None:
    body = b'{"rows": [1, {"smiles": "C"}, {"smiels": "C"}, {}]}'
    question, _ = read_json(body, SMILES, LIMITS)
    assert set(question.refusals) == {0, 2}
    assert "smiles" in question.refusals[2].remedy
    assert list(question.column("smiles")) == [MISSING, "C", MISSING, MISSING]


def test_columns_of_arrow_become_texts_numbers_and_arrays() -> None:
    question = read_arrow(stream(pa.table({"smiles": ["C", None]})), SMILES, LIMITS)
    assert list(question.column("smiles")) == ["C", MISSING]
    table = pa.table({"numbers": [[1, 8], [1]], "positions": [[[0.0, 0, 0], [1, 1, 1]], [[0, 0, 0.5]]]})
    question = read_arrow(stream(table), GEOMETRY, LIMITS)
    np.testing.assert_array_equal(question.column("numbers")[0], [1, 8])
    np.testing.assert_array_equal(question.column("positions")[1], [[0, 0, 0.5]])
    assert list(question.column("charge")) == [MISSING, MISSING]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no stream"),
        (b"ARROW1", 400, "no stream"),
        (stream(pa.table({"smiles": ["C", "CC"]}))[:-24], 400, "no stream"),
        (stream(pa.table({"smiles": ["C" * 10_000]}), compression="zstd"), 422, "compressed"),
        (stream(pa.table({"smiles": pa.array(["C"]).dictionary_encode()}), compression="lz4"), 422, "compressed"),
        (stream(pa.table({"smiles": pa.array(["C"]).dictionary_encode()})), 422, "dictionary"),
        (stream(pa.table({"smiles": pa.nulls(1000)})), 422, "null"),
        (stream(pa.table({"smiles": [1, 2]})), 422, "int64"),
        (stream(pa.table({"other": ["C"]})), 422, "no such input"),
        (stream(pa.table({"smiles": pa.array([], pa.string())})), 422, "no rows"),
        (stream(pa.table({"smiles": ["C"] * 6})), 413, "6 rows"),
    ],
    ids=range(11),
)
def test_a_stream_of_arrow_that_cannot_be_used_has_a_status_and_a_remedy(body: bytes, status: int, words: str) -> None:
    refused = problem(read_arrow, body, SMILES, LIMITS)
    assert refused.status == status
    assert words in refused.problem
    assert refused.remedy


def test_changed_bytes_of_a_stream_are_refused_or_read_and_end_nothing() -> None:
    table = pa.table({"numbers": [[1, 8], [1]], "positions": [[[0.0, 0, 0], [1, 1, 1]], [[0, 0, 0]]], "charge": [0, 1]})
    body, rng = stream(table), np.random.default_rng(0)
    statuses = set()
    for _ in range(500):
        changed = bytearray(body)
        for place in rng.integers(len(body), size=2):
            changed[place] = rng.integers(256)
        try:
            assert read_arrow(bytes(changed), GEOMETRY, LIMITS).rows <= LIMITS.queue
        except RequestError as error:
            statuses.add(error.problem.status)
    assert statuses <= {400, 413, 422}
    assert 400 in statuses


@pytest.mark.parametrize("value", [None, MISSING, "1", True, [1], 1.5, 2**31, 10**400, float("inf"), {"a": 1}, []])
def test_what_is_no_whole_number_is_refused_with_the_input_and_its_unit(value: Any) -> None:
    with pytest.raises(RowError) as caught:
        array_of(CHARGE, value, {})
    assert caught.value.refusal.where == "charge"
    assert "in e" in caught.value.refusal.remedy


def test_arrays_have_the_dims_that_the_spec_names() -> None:
    sizes = {"axis": 3}
    assert array_of(POSITIONS, [[0, 1, 2]], sizes).dtype == np.float64
    for wrong in ([0, 1, 2], [[0, 1]], [[0, 1], [2]], [[0, 1, None]], [[[]]]):
        with pytest.raises(RowError):
            array_of(POSITIONS, wrong, sizes)


def test_a_column_of_numbers_refuses_its_bad_rows_alone() -> None:
    column, refusals = number_column(Variable("x", (), "m", "float64", "x"), [1, 2.5, "3", None, 10**400])
    np.testing.assert_array_equal(column[:2], [1, 2.5])
    assert set(refusals) == {2, 3, 4}
    same, none = number_column(Variable("x", (), "m", "float64", "x"), np.array([1.0, 2.0]))
    assert not none
    np.testing.assert_array_equal(same, [1, 2])


@pytest.mark.parametrize("value", [None, 3, "", "  ", "C" * 100_001])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(RowError):
        text_of(SMILES[0], value)
    assert text_of(SMILES[0], " C ") == "C"


def test_json_has_units_answers_and_errors_and_no_nan() -> None:
    units = {name: variable.units for name, variable in OUTPUTS.items()}
    rows = json.loads(write_json(ANSWER, {"fingerprint": "ab"}, units, "rows"))
    assert rows["rows"][1] is None
    assert rows["rows"][2] == {
        "energy": -3.0, "forces": [[0.0, 0.0, 0.0]], "in_domain": False, "stress": np.eye(3).tolist(),
    }  # fmt: skip
    assert rows["units"]["forces"] == "eV/Angstrom"
    assert (rows["answered"], rows["fingerprint"]) == (2, "ab")
    (error,) = rows["errors"]
    assert error == {
        "row": 1, "kind": "invalid_input", "where": "row 1, positions", "problem": "two atoms coincide",
        "remedy": "Move one",
    }  # fmt: skip
    columns = json.loads(write_json(ANSWER, {}, units, "columns"))["columns"]
    assert columns["energy"] == [1.5, None, -3.0]
    assert columns["in_domain"] == [True, None, False]
    with pytest.raises(ValueError):
        write_json(Answer(1, {"energy": np.array([np.nan])}), {}, units, "rows")


def test_arrow_has_the_same_answers_with_units_in_its_schema() -> None:
    body = write_arrow(ANSWER, {"fingerprint": "ab"}, OUTPUTS)
    with pa.ipc.open_stream(body) as reader:
        table = reader.read_all()
    table.validate(full=True)
    assert table.schema.metadata[b"fingerprint"] == b"ab"
    assert table.schema.field("energy").metadata[b"unit"] == b"eV"
    assert table.column("energy").to_pylist() == [1.5, None, -3.0]
    assert table.column("forces").to_pylist() == [[[1.0] * 3] * 2, None, [[0.0] * 3]]
    assert table.column("stress").to_pylist() == [None, None, np.eye(3).tolist()]
    assert table.column("reason").to_pylist() == [None, "two atoms coincide", None]
    assert table.column("error_kind").to_pylist() == [None, "invalid_input", None]


def test_questions_and_answers_are_parted_and_joined_without_change() -> None:
    question = Question(5, {"x": [0, 1, 2, 3, 4]}, {1: Refusal("invalid_input", "a"), 4: Refusal("lost", "b")})
    parts = [question.part(0, 2), question.part(2, 4), question.part(4, 6)]
    assert [part.rows for part in parts] == [2, 2, 1]
    assert Question.joined(parts) == question
    answers = [ANSWER.part(0, 2), ANSWER.part(2, 3)]
    joined = Answer.joined(answers)
    assert joined.refusals == ANSWER.refusals
    np.testing.assert_array_equal(joined.columns["energy"], ANSWER.columns["energy"])


def test_the_text_of_a_client_is_repeated_in_one_short_line() -> None:
    plain = Refusal("invalid_input", "\x1b[2J\n" + "x" * 10_000).plain(7)
    text = str(plain["problem"])
    assert len(text) == LONGEST
    assert text.isprintable()


def test_all_bodies_together_have_a_limit() -> None:
    received = ReceivedBytes(RequestLimits(body_mb=0.001))
    assert problem(received.refuse_length, 1001).status == 413
    for _ in range(8):
        received.add(1000, 1000)
    assert problem(received.add, 1, 1).status == 429
    received.remove(1000)
    received.add(1, 1)
