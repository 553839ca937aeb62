"""Periodic structures and cascades of simulators, which the server takes where it is asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faults.small_surrogates import MAKERS, question
from data.files import write_json
from data.plain import to_plain
from data.spec import dataset
from data.structures.structures import Structures
from experiments.answering.answer_rungs import build_answer_rungs
from experiments.serving.compilations import CompilationCounter
from experiments.serving.kinds.answerer import Answerer
from experiments.serving.kinds.loading import load_answerer
from experiments.serving.kinds.structures import THINNEST, StructureAnswerer
from experiments.serving.rows import MISSING, Answer, Question
from surrogates.cascade.cascade_card import CascadeCard, Promised, RungCard, Tolerance
from surrogates.cascade.risk import ErrorModel
from surrogates.potentials.fixed_shapes import FixedShapes

CELL = (5.0 * np.eye(3)).tolist()


def answered(answerer: Answerer, rows: list[dict[str, Any]]) -> Answer:
    names = {name for row in rows for name in row}
    columns = {name: [row.get(name, MISSING) for row in rows] for name in names}
    return answerer.answer(answerer.read(Question(len(rows), columns)))


def test_periodic_structures_have_stresses_and_crowded_or_thin_cells_are_refused() -> None:
    potential = MAKERS["potentials"]()
    water = {name: np.asarray(value).tolist() for name, value in question("potentials").items()}
    expected = potential.simulate(dataset(potential.spec.inputs, {**question("potentials"), "cell": 5.0 * np.eye(3)}))
    answerer = StructureAnswerer(potential, largest=4, neighbours=8, max_batch=1)
    counter = CompilationCounter()
    answerer.compile()
    compiled = counter.count
    thin = (np.eye(3) * [5, 5, 0.9 * THINNEST]).tolist()
    flat = [[5, 0, 0], [5, 0, 0], [0, 0, 5]]
    cells = [CELL, (2.0 * np.eye(3)).tolist(), thin, flat]
    answer = answered(answerer, [*({**water, "cell": cell} for cell in cells), water])
    assert sorted(answer.refusals) == [1, 2, 3]
    assert "neighbours" in answer.refusals[1].problem
    assert all("thinner" in answer.refusals[row].problem for row in (2, 3))
    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(answer.columns[name][0], expected[name].values, rtol=1e-5, atol=1e-6)
    assert answer.columns["stress"][4] is None
    assert counter.count == compiled > 0


def test_fixed_shapes_hold_every_structure_up_to_their_size() -> None:
    shapes = FixedShapes.up_to(30, None, most=64)
    assert shapes.sizes == (4, 6, 8, 12, 16, 24, 32)
    rng = np.random.default_rng(0)
    for count in (1, 2, 40, 300):
        sizes = rng.integers(1, 33, count)
        table = Structures.from_arrays([np.ones(n, np.int32) for n in sizes], [rng.normal(size=(n, 3)) for n in sizes])
        every, which = shapes.choose(table)
        assert all(every[k].atoms >= n for k, n in zip(which, sizes, strict=True))
        # One structure alone is not padded to a whole batch.
        assert count > 1 or every[which[0]].molecules == 1
    assert max(shape.molecules for shape in shapes.shapes) <= 64


def test_a_calibrated_cascade_is_served_from_its_directory(tmp_path: Path) -> None:
    labels = ("xtb", "ase")
    rungs = build_answer_rungs(labels, {}, {})
    cards = tuple(
        RungCard(label, {}, rung.fingerprint, rung.name, 1.0, errors=model)
        for label, rung, model in zip(labels, rungs, (ErrorModel(0.0, 1.0, 1.0), None), strict=True)
    )
    promised = Promised(0.1, 0.5, 0.1, 9, 9, 0, 0, "", 0)
    write_json(
        tmp_path / "cascade.json", to_plain(CascadeCard(cards, Tolerance({"energy": 0.1}, {"energy": "eV"}), promised))
    )
    kind, answerer = load_answerer(str(tmp_path), workers=None, head=None, largest=None, neighbours=None, max_batch=8)
    assert kind == "cascade"
    water = {name: np.asarray(value).tolist() for name, value in question("potentials").items()}
    answer = answered(answerer, [water, {"numbers": [8]}, water])
    assert sorted(answer.refusals) == [1]
    request = dataset(answerer.inputs, question("potentials"))
    assert answer.columns["energy"][0] == pytest.approx(float(answerer.simulator.simulate(request)["energy"]), abs=1e-6)
    assert answer.columns["rung"][0] in (0, 1)
