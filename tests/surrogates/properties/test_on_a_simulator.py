"""Surrogates of molecular properties that stand on a cheaper simulator: what they learn, save, ask and refuse."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from asked_here import Here
from cheap_simulator import SMILES, Cheap, hidden
from rdkit import Chem
from small_molecules import WATER

from data.errors import CorruptStoreError, InputError
from data.molecules.featurise import encode
from data.molecules.graphs import GraphSize, filled, pad
from data.plain import from_plain, to_plain
from data.reading_summary import Reading
from data.spec import SimulationError, Spec, check, dataset
from data.splits import Split
from experiments.campaigns.cheaper_simulator import CampaignRung
from experiments.screening.cascade.rung_answers import _predicted
from experiments.screening.cascade.rungs import CascadeRung
from experiments.screening.library_screen import ScreenConfig, screen
from experiments.screening.objective import Objective
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.from_smiles import FromSmiles
from simulators.chemistry.xtb import XTB
from simulators.rebuild import describe, rebuild
from surrogates.learning.loop import TrainConfig
from surrogates.learning.rung import Line, RungColumns, ask_here, columns, usable_outputs
from surrogates.properties.fit import fit_property_surrogate
from surrogates.properties.mpnn import MPNNConfig
from surrogates.properties.property_table import PropertyData
from surrogates.properties.surrogate import PropertyConfig, PropertySurrogate
from surrogates.properties.task import PropertyTask
from surrogates.saved import load_surrogate, read_card


def molecules(count: int) -> list[str]:
    random = np.random.default_rng(0)
    distinct: dict[str, None] = {}
    while len(distinct) < count:
        parts = random.choice(["C", "N", "O", "C(C)", "C(=O)", "C=C"], size=random.integers(2, 6))
        distinct[Chem.CanonSmiles("C" + "".join(parts) + "C")] = None
    return list(distinct)


def truth(smiles: Sequence[str]) -> np.ndarray:
    """The hidden number, and a part that the graph does show."""
    return np.array([hidden(s) + 0.3 * s.count("N") - 0.2 * s.count("=") for s in smiles])


CONFIG = PropertyConfig(MPNNConfig(features=16, layers=2, readout=16), ensemble=1, buckets=1)
TRAINING = TrainConfig(epochs=25, learning_rate=5e-3, batch_size=32, ema_decay=0.95, checkpoint_every_s=None)
PARTS = Split.of({"train": np.arange(120), "valid": np.arange(120, 130), "calibration": np.arange(130, 160)})


def answers_of(simulator: Any, smiles: Sequence[str]) -> RungColumns:
    outputs = usable_outputs(simulator, lists=("atom",))
    requests = [dataset(simulator.spec.inputs, {"smiles": s}) for s in smiles]
    return RungColumns.of(simulator, outputs, ask_here(simulator, requests, [v.name for v in outputs]))


def fitted(run_dir: Path, smiles: list[str], on: RungColumns | None, epochs: int = 25) -> PropertySurrogate:
    labels = {"gap": truth(smiles)}
    return fit_property_surrogate(
        encode(smiles)[0], labels, PARTS, CONFIG, replace(TRAINING, epochs=epochs), run_dir,
        units={"gap": "eV"}, label_fingerprint="abc", on=on, progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def library() -> list[str]:
    return molecules(220)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, library: list[str]) -> PropertySurrogate:
    return fitted(tmp_path_factory.mktemp("plain"), library, None)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, library: list[str]) -> PropertySurrogate:
    return fitted(tmp_path_factory.mktemp("on"), library, answers_of(Cheap(), library))


def test_it_learns_what_is_wrong_with_the_cheaper_answer(
    standing: PropertySurrogate, plain: PropertySurrogate, library: list[str]
) -> None:
    test = library[160:]
    table, exact = encode(test)[0], truth(test)
    on = standing.ask_rung(test)
    error = np.abs(standing.predict_table(table, on.values)["gap"] - exact).mean()
    assert standing.facts.on is not None
    line = np.abs(standing.facts.on.line.apply(standing.facts.on.scale.apply(on.values))[:, 0] - exact).mean()
    without = np.abs(plain.predict_table(table)["gap"] - exact).mean()
    assert error < 0.7 * line  # the network corrects the line, which cannot see the atoms
    assert error < 0.2 * without  # no network sees the hidden number
    answer = standing.predict_table(table, on.values)
    assert ((answer["gap_low"] <= exact) & (exact <= answer["gap_high"])).mean() > 0.75


def test_as_a_simulator_it_asks_the_cheaper_one_and_gives_the_same_as_in_batches(
    standing: PropertySurrogate, library: list[str]
) -> None:
    smiles = library[200]
    answer = standing.simulate(dataset(standing.spec.inputs, {"smiles": smiles}))
    check(answer, standing.spec.outputs)
    table, on = encode([smiles])[0], standing.ask_rung([smiles])
    assert float(answer["gap"]) == pytest.approx(standing.predict_table(table, on.values)["gap"][0], abs=1e-5)
    assert standing.facts.on is not None
    batch = pad(table, np.arange(1), GraphSize(16, 16), standing.batch_size)
    with pytest.raises(InputError, match="stands on cheap, whose answers are not given"):
        standing.predict(batch)
    scaled = standing.facts.on.scale.apply(on.values)
    object.__setattr__(batch, "extra", filled(scaled, standing.batch_size))
    assert standing.predict(batch)["gap"][0] == pytest.approx(float(answer["gap"]), abs=1e-5)
    with pytest.raises(InputError, match="stands on cheap, whose answers are not given"):
        standing.predict_table(table)


def test_a_failure_of_the_cheaper_one_is_the_failure_of_the_answer(standing: PropertySurrogate) -> None:
    # The same fingerprint: failures are no setting.
    failing = standing.with_rung(Cheap(fails=("CCO",)))
    with pytest.raises(SimulationError, match="no answer for CCO") as caught:
        failing.simulate(dataset(standing.spec.inputs, {"smiles": "CCO"}))
    assert caught.value.kind == "not_converged"


def test_a_screen_asks_the_cheaper_one_and_lists_what_it_does_not_answer(
    standing: PropertySurrogate, tmp_path: Path
) -> None:
    rows = ["CCO", "CCN", "C1CC", "CC=O", "CCCN"]
    (tmp_path / "rows.smi").write_text("\n".join(rows) + "\n")
    cheap = Cheap(fails=("CCN",))
    summary = screen(
        standing.with_rung(cheap), tmp_path / "rows.smi", tmp_path / "out",
        ScreenConfig(workers=1, objective=Objective(maximize="gap")), progress=False,
    )  # fmt: skip
    assert (summary.read, summary.valid) == (5, 3)
    assert cheap.asked == ["CCO", "CCN", "CC=O", "CCCN"]
    with open(tmp_path / "out" / "rejects.csv", newline="") as file:
        rejects = {row["line"]: row["reason"] for row in csv.DictReader(file)}
    assert rejects["2"] == "cheap: not_converged: no answer for CCN"
    assert set(rejects) == {"2", "3"}
    results = pq.read_table(next((tmp_path / "out" / "results").glob("*.parquet"))).to_pylist()
    assert [row["line"] for row in results] == [1, 4, 5]
    for row in results:
        answer = standing.with_rung(Cheap()).simulate(dataset((SMILES,), {"smiles": row["smiles"]}))
        assert row["prediction"] == pytest.approx(float(answer["gap"]), abs=1e-4)
    # A rung of a cascade does the same.
    frame = _predicted(CascadeRung(0, "on", standing.with_rung(cheap)), rows, ["gap"])
    assert frame["status"].tolist() == ["ok", "not_converged", "invalid_input", "ok", "ok"]
    assert frame["message"][1] == "cheap: no answer for CCN"
    assert np.isfinite(frame["gap"]).tolist() == [True, False, False, True, True]


def test_a_screen_on_another_simulator_is_refused_before_it_begins(standing: PropertySurrogate, tmp_path: Path) -> None:
    (tmp_path / "rows.smi").write_text("CCO\n")
    lost = standing.with_facts()
    lost._rung = Cheap(shift=1.0)
    with pytest.raises(InputError, match="stands on cheap, not on this cheap"):
        screen(lost, tmp_path / "rows.smi", tmp_path / "out", ScreenConfig(workers=1), progress=False)
    assert not (tmp_path / "out").exists()


def test_spec_provenance_and_fingerprint_say_what_it_stands_on(
    standing: PropertySurrogate,
) -> None:
    cheap = Cheap()
    assert standing.spec.attrs == {"on": "cheap", "on_fingerprint": cheap.fingerprint}
    assert standing.provenance["on"] == describe(cheap)
    facts = standing.facts
    assert facts.on is not None
    assert facts.on.outputs == {"hidden": "eV", "charges": "e"}
    assert facts.on.scale.names == ("hidden", "charges_min", "charges_max", "charges_std")
    assert facts.on.cost_s > 0
    other = from_plain(type(facts.on), {**to_plain(facts.on), "simulator": describe(Cheap(shift=1.0))})
    assert standing.with_facts(on=other).fingerprint != standing.fingerprint
    with pytest.raises(InputError, match="stands on cheap, not on this cheap"):
        standing.with_rung(Cheap(shift=1.0))


def test_a_saved_one_needs_its_simulator_and_answers_as_before(standing: PropertySurrogate, tmp_path: Path) -> None:
    standing.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert again.fingerprint == standing.fingerprint
    assert from_plain(Spec, read_card(tmp_path / "s")["spec"]) == standing.spec
    request = dataset(standing.spec.inputs, {"smiles": "CCNC"})
    with pytest.raises(InputError, match="the simulator cheap cannot be rebuilt from its name"):
        again.simulate(request)
    assert float(again.with_rung(Cheap()).simulate(request)["gap"]) == float(standing.simulate(request)["gap"])


def test_one_that_stands_on_a_surrogate_is_saved_with_it(
    plain: PropertySurrogate, library: list[str], tmp_path: Path
) -> None:
    above = fitted(tmp_path / "above", library, answers_of(plain, library), epochs=1)
    assert above.facts.on is not None
    assert "gap_std" in above.facts.on.outputs
    above.with_facts(scores={"test/mae": 0.1}).save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    request = dataset(above.spec.inputs, {"smiles": "CCNC"})
    assert float(again.simulate(request)["gap"]) == pytest.approx(float(above.simulate(request)["gap"]), abs=1e-6)
    # Another surrogate in its place is refused.
    plain.with_facts(labels_fingerprint="other").save(tmp_path / "s" / "on")
    with pytest.raises((InputError, CorruptStoreError), match="stands on properties:gap, not on this properties:gap"):
        load_surrogate(tmp_path / "s")


def test_a_training_asks_every_molecule_once_leaves_failures_out_and_resumes(
    library: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})  # one worker answers so few
    file = tmp_path / "table.csv"
    rows = zip(library, truth(library), strict=True)
    file.write_text("smiles,gap\n" + "".join(f"{s},{v}\n" for s, v in rows))
    data = PropertyData(str(file), target="gap", parts=[120, 20, 40, 40])
    cheap = Cheap(fails=(library[3], library[150]))
    readings: list[Reading] = []
    first = PropertyTask(data, CONFIG, TRAINING, CampaignRung(cheap))
    parts = first.split(first.read(None, readings), tmp_path, progress=False)
    assert parts.on is not None
    assert sum(len(rows) for rows in parts.split.parts.values()) == 218
    assert parts.on.costs()["on/failed"] == 2
    assert parts.on.costs()["on/requests"] == 220
    assert "does not answer for 2 of 220 molecules" in caplog.text
    used = np.concatenate(list(parts.split.parts.values()))
    np.testing.assert_allclose(parts.on.values[used, 0], [3 * hidden(library[i]) for i in used])
    again = first.split(first.read(None, readings), tmp_path, progress=False)
    assert first.identity(parts) == first.identity(again)
    # The store answers now: a simulator that fails everywhere has nothing to do.
    idle = PropertyTask(data, CONFIG, TRAINING, CampaignRung(Cheap(fails=tuple(library))))
    kept = idle.split(idle.read(None, readings), tmp_path, progress=False)
    assert kept.on is not None
    np.testing.assert_array_equal(kept.on.values, parts.on.values)


def test_nothing_is_trained_on_a_simulator_that_answers_nothing_or_something_else(
    library: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "table.csv"
    file.write_text("smiles,gap\n" + "".join(f"{s},1.0\n" for s in library))
    data = PropertyData(str(file), target="gap", parts=[120, 20, 40, 40])
    for rung, message in (
        (Here(Cheap(fails=tuple(library))), "answers for none of 220 molecules"),
        (Here(Cheap(), ("spin",)), "cheap gives no spin"),
        (Here(Cheap(), ("count",)), "count is neither a number nor a list of numbers"),
        (Here(XTB()), "takes no SMILES"),
    ):
        task = PropertyTask(data, CONFIG, TRAINING, rung)
        with pytest.raises(InputError, match=message):
            task.split(task.read(None, []), tmp_path, progress=False)


def test_a_simulator_of_conformers_is_rebuilt_from_its_description() -> None:
    simulator = FromSmiles(XTB(outputs=("gap", "mulliken_charges")), ConformerConfig(n_conformers=2, seed=3))
    again = rebuild(describe(simulator))
    assert again == simulator
    chosen = usable_outputs(again, lists=("atom",))
    # Geometry, charge and spin are inputs of xTB rather than answers of it.
    assert [v.name for v in chosen] == ["gap", "mulliken_charges"]
    other = {**describe(simulator), "conformers": {**describe(simulator)["conformers"], "seed": 4}}
    with pytest.raises(InputError, match="is installed"):
        rebuild(other)
    [row] = answers_of(again, ["O"]).values
    water = again.simulate(dataset(again.spec.inputs, {"smiles": "O"}))["mulliken_charges"].values
    assert len(water) == len(WATER.numbers)
    assert columns(chosen, again.spec) == (
        "gap",
        "mulliken_charges_min",
        "mulliken_charges_max",
        "mulliken_charges_std",
    )
    np.testing.assert_allclose(row[1:], [water.min(), water.max(), water.std()])


def test_a_line_is_the_least_squares_solution_of_the_labels_that_exist() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(50, 3))
    exact = features @ np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 4.0]]).T + np.array([3.0, -1.0])
    sparse = exact.copy()
    sparse[::2, 1] = np.nan
    line = Line.fit(features, sparse)
    np.testing.assert_allclose(line.apply(features), exact, atol=1e-12)
    # Columns that say the same share the weight; constant ones get none.
    twice = np.concatenate([features, features[:, :1], np.ones((50, 1))], axis=1)
    np.testing.assert_allclose(Line.fit(twice, exact).apply(twice), exact, atol=1e-10)
    with pytest.raises(InputError, match="no finite label"):
        Line.fit(features, np.full((50, 1), np.nan))
