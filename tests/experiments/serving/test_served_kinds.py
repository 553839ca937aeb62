"""Every kind of surrogate is served: its answers are those of the surrogate, and no request compiles a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from omegaconf import OmegaConf
from openapi_spec_validator import validate
from saved_files import unpack

from benchmarks.faults.small_surrogates import asked, question
from data.errors import InputError
from data.extras import MissingExtraError
from experiments.serving.arrow_bodies import read_arrow, write_arrow
from experiments.serving.compilations import CompilationCounter
from experiments.serving.description import described, identity
from experiments.serving.json_bodies import read_json, write_json
from experiments.serving.kinds.answerer import Answerer
from experiments.serving.kinds.cascades import CascadeAnswerer
from experiments.serving.kinds.loading import SERVED, load_answerer
from experiments.serving.limits import RequestLimits
from experiments.serving.openapi import openapi
from experiments.serving.rows import Answer, Question
from experiments.stages import serve as stage
from surrogates.saved import load_surrogate

LIMITS = RequestLimits(max_batch=4)
#: What the programs are compiled for: no more than the questions need.
LARGEST = {"properties": 8, "potentials": 4, "mixture": 4, "meshes": 64}
#: A row that is refused, by kind, and words of the reason.
BAD: dict[str, list[tuple[dict[str, Any], str]]] = {
    "properties": [
        ({"smiles": "C(C"}, ""),
        ({"smiles": 7}, "no text"),
        ({}, "missing"),
        ({"smiles": "C" * 9}, "9 atoms"),
    ],
    "parameters": [
        ({"speed": "1", "wave": [0, 0]}, "numbers"),
        ({"speed": 1.0, "wave": [0]}, "entries"),
        ({"speed": 1.0}, "missing"),
    ],
    "potentials": [
        ({"numbers": [1], "positions": [[0, 0]]}, "entries"),
        ({"numbers": [8, 1], "positions": [[0, 0, 0]]}, "atoms"),
        ({"numbers": [6], "positions": [[0, 0, 0]]}, "unknown element"),
        ({"numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 0]]}, "closer"),
        ({"numbers": [1] * 5, "positions": np.eye(5, 3).tolist()}, "5 atoms"),
        ({"numbers": [1], "positions": [[0, 0, 0]], "cell": np.eye(3).tolist()}, "periodic"),
        ({"numbers": [999], "positions": [[0, 0, 0]]}, "atomic number"),
    ],
    "fields": [({"initial": [[0.0] * 7], "speed": 0.05}, "entries"), ({"initial": [[0.0] * 8]}, "missing")],
    "meshes": [
        ({"nodes": [[0, 0], [1, 0], [0, 1]], "elements": [[0, 1, 3]], "boundary": [0, 0, 0], "speed": 1}, "nodes"),
        ({"nodes": [[0.5, 0]] * 65, "elements": [[0, 1, 2]], "boundary": [0] * 65, "speed": 1}, "65 vertices"),
    ],
}
BAD["mixture"] = [(row, words.replace("unknown element", "no expert")) for row, words in BAD["potentials"]]


def plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in values.items()}


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("surrogates")
    # Saved ones are loaded in a fraction of the time in which new ones get their first weights.
    return {kind: unpack(f"surrogates/{kind}", folder / kind)[0] for kind in (*SERVED, "forecasts")}


def load(directory: Path, kind: str) -> Answerer:
    options = {"workers": 1, "head": None, "largest": LARGEST.get(kind), "neighbours": None}
    options["max_batch"] = 1 if kind == "mixture" else 4
    loaded, answerer = load_answerer(str(directory), **options)  # type: ignore[arg-type]
    assert loaded == kind
    return answerer


@pytest.fixture(scope="module", params=SERVED)
def served(request: pytest.FixtureRequest, directories: dict[str, Path]) -> Iterator[tuple[str, Answerer, Any]]:
    """A kind, what answers it after its compilation, and what counts programs."""
    counter = CompilationCounter()
    answerer = load(directories[request.param], request.param)
    answerer.compile()
    assert counter.count > 0
    yield request.param, answerer, counter
    answerer.close()


def answered(answerer: Answerer, asked_for: Question) -> Answer:
    return answerer.answer(answerer.read(asked_for))


def test_good_rows_have_the_answers_of_the_surrogate_bad_rows_a_reason_and_nothing_is_compiled(
    served: tuple[str, Answerer, CompilationCounter],
    directories: dict[str, Path],
) -> None:
    kind, answerer, counter = served
    # Programs of potentials take long to compile; `test_served_structures` compares them with those of other shapes.
    expected = asked(
        answerer.simulator if kind in ("potentials", "mixture") else load_surrogate(directories[kind]), kind
    )
    good = plain(question(kind))
    before = counter.count
    document = openapi(kind, answerer, LIMITS)
    validate(document)
    schemas = document["components"]["schemas"]
    units = {variable.name: variable.units for variable in answerer.outputs}
    assert set(expected) == {variable.name for variable in answerer.outputs}
    for count in (1, 3, 6):
        bad = BAD[kind] if count == 3 else []
        sent = {"rows": [good, *(row for row, _ in bad), *[good] * (count - 1)]}
        rows, form = read_json(json.dumps(sent).encode(), answerer.inputs, LIMITS)
        answer = answered(answerer, rows)
        written = json.loads(write_json(answer, identity(kind, answerer), units, form))
        assert written["answered"] == count
        assert [error["row"] for error in written["errors"]] == [*range(1, len(bad) + 1)]
        for error, (_, words) in zip(written["errors"], bad, strict=True):
            assert words in error["problem"]
        for row in [0, *range(len(bad) + 1, len(bad) + count)]:
            for name, value in expected.items():
                np.testing.assert_allclose(
                    np.asarray(written["rows"][row][name]), value, rtol=2e-5, atol=1e-5, err_msg=name
                )
        if not bad:
            jsonschema.validate(sent, {**schemas["Question"], "components": document["components"]})
        jsonschema.validate(written, {**schemas["Answer"], "components": document["components"]})
        table = pa.ipc.open_stream(write_arrow(answer, {}, {v.name: v for v in answerer.outputs})).read_all()
        assert [reason is None for reason in table.column("reason").to_pylist()] == [
            row is not None for row in written["rows"]
        ]
        for name in expected:
            assert table.column(name).to_pylist() == [None if row is None else row[name] for row in written["rows"]]
    assert counter.count == before


def test_arrow_asks_the_same_question(served: tuple[str, Answerer, CompilationCounter]) -> None:
    kind, answerer, _ = served
    values = plain(question(kind))
    sink = pa.BufferOutputStream()
    table = pa.table({name: [value] * 2 for name, value in values.items()})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    by_arrow = answered(answerer, read_arrow(sink.getvalue().to_pybytes(), answerer.inputs, LIMITS))
    by_json = answered(answerer, Question(2, {name: [value] * 2 for name, value in values.items()}))
    assert not by_arrow.refusals
    for name, column in by_json.columns.items():
        np.testing.assert_array_equal(by_arrow.columns[name], column, err_msg=name)


def test_what_is_served_is_described_with_units_and_uncertainties(
    served: tuple[str, Answerer, CompilationCounter],
) -> None:
    kind, answerer, _ = served
    spec = json.loads(json.dumps(described(kind, answerer, LIMITS), allow_nan=False))
    assert spec["fingerprint"] == answerer.simulator.fingerprint
    assert spec["uncertainties"]
    assert {v["name"] for v in spec["inputs"]} == {v.name for v in answerer.inputs}
    assert spec["scores"] == {"test/mae": 0.25}


def test_a_question_without_any_good_row_is_answered_with_reasons(
    served: tuple[str, Answerer, CompilationCounter],
) -> None:
    kind, answerer, counter = served
    before = counter.count
    rows, _ = read_json(json.dumps({"rows": [row for row, _ in BAD[kind]]}).encode(), answerer.inputs, LIMITS)
    answer = answered(answerer, rows)
    assert answer.answered == 0
    assert counter.count == before


def test_a_forecaster_is_not_served_and_the_error_says_what_to_do(directories: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="understudy forecast"):
        load(directories["forecasts"], "forecasts")


def test_a_cascade_answers_what_its_simulators_take(directories: dict[str, Path]) -> None:
    surrogate = load_surrogate(directories["parameters"])
    answerer = CascadeAnswerer(surrogate)
    good = plain(question("parameters"))
    answer = answered(answerer, Question(2, {"speed": [good["speed"], "x"], "wave": [good["wave"]] * 2}))
    assert set(answer.refusals) == {1}
    assert answer.columns["force"][0] == asked(surrogate, "parameters")["force"]


def test_molecules_are_standardised_as_they_were_for_the_training(directories: dict[str, Path]) -> None:
    where, options = str(directories["properties"]), {"head": None, "largest": 8, "neighbours": None, "max_batch": 4}
    with pytest.raises(InputError, match="largest_fragment"):
        load_answerer(where, workers=1, standardise=["fragment"], **options)  # type: ignore[arg-type]
    _, answerer = load_answerer(where, workers=1, standardise=["largest_fragment"], **options)  # type: ignore[arg-type]
    try:
        answer = answered(answerer, Question(4, {"smiles": ["CCO.Cl", "CCO", "CC=O.[Na+].[Cl-]", "C(C"]}))
    finally:
        answerer.close()
    assert set(answer.refusals) == {3}
    gaps = answer.columns["gap"]
    np.testing.assert_allclose(
        gaps[:2], float(asked(load_surrogate(directories["properties"]), "properties")["gap"]), rtol=1e-6
    )
    assert abs(gaps[2] - gaps[0]) > 1e-4


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(stage, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install -e .*\[serve\]"):
        stage.serve(OmegaConf.create({"stage": "serve", "surrogate": "x", "run": {"dir": "x"}}), Path("x"))
