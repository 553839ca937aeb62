"""A student of molecular properties learns what its teacher answers, and labels decide what is claimed of it."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from composed_stages import run_stage
from flax import nnx
from forked_commands import Command
from rdkit import Chem

from data.errors import InputError
from data.identity import molecule_keys
from data.json_files import read_plain
from data.molecules.featurise import encode
from data.molecules.graphs import GraphSize, pad
from data.store.records import RecordStore
from experiments.distillation.costs import at_equal_time, core_seconds_each, spent_and_saved
from experiments.pages.page import write_report
from experiments.stages.distil import distil
from experiments.stages.train import train
from surrogates.learning.label_source import read_label_sources
from surrogates.learning.learned_from import hash_keys, read_hashes
from surrogates.learning.loop import TrainConfig
from surrogates.properties.fit import ensemble_loss
from surrogates.properties.head_spread import RIDGE, fit_spread
from surrogates.properties.lessons import TaughtLoss
from surrogates.properties.mpnn import Ensemble, MPNNConfig
from surrogates.properties.surrogate import PropertySurrogate
from surrogates.saved import load_surrogate

WEIGHTS = {"C": 1.0, "N": 2.0, "O": 3.0}
NETWORK = ["model.network.features=16", "model.network.layers=1", "model.network.readout=16", "model.buckets=1"]
RECIPE = [
    "train.epochs=4",
    "train.learning_rate=1e-2",
    "train.batch_size=32",
    "train.ema_decay=0.9",
    "train.mlflow=false",
]
PARTS = ["data.parts=[60,10,20,30]", "data.seed=3"]


def chains(count: int, seed: int) -> list[str]:
    """Different random chains of C, N and O."""
    random, texts = np.random.default_rng(seed), dict[str, None]()
    while len(texts) < count:
        inner = random.choice(["C", "N", "C(C)", "C(O)", "C(N)"], size=random.integers(2, 6))
        texts[Chem.CanonSmiles("C" + "".join(inner) + "C")] = None
    return list(texts)


def weight(smiles: str) -> float:
    """An additive property."""
    return sum(WEIGHTS[atom.GetSymbol()] for atom in Chem.MolFromSmiles(smiles).GetAtoms())


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels, a teacher of two members in `teacher`, inputs without labels, and a student in `student`."""
    folder = tmp_path_factory.mktemp("lesson")
    smiles = chains(200, 0)
    labels = pd.DataFrame({"smiles": smiles[:120], "weight": [weight(s) for s in smiles[:120]]})
    labels.to_csv(folder / "labels.csv", index=False)
    # Some of these have labels, one repeats, one cannot be read, and one has an element that nobody learned.
    lines = [*smiles[100:], Chem.MolToSmiles(Chem.MolFromSmiles(smiles[150]), canonical=False, rootedAtAtom=2)]
    (folder / "inputs.smi").write_text("\n".join([*lines, "no_molecule", "CCBr"]) + "\n")
    data = [f"data.file={folder}/labels.csv", "data.target=weight", *PARTS]
    run_stage(train, "train", folder / "teacher", *data, "model.ensemble=2", *NETWORK, *RECIPE)
    run_stage(distil, "distil", folder / "student", *asked(folder))
    return folder


def asked(folder: Path) -> list[str]:
    labels = [f"data.train={folder}/labels.csv", *PARTS]
    return [f"teacher={folder}/teacher", f"inputs={folder}/inputs.smi", *labels, *NETWORK, *RECIPE]


def test_every_row_of_the_inputs_is_counted_and_labels_that_are_held_out_are_not_learned(lesson: Path) -> None:
    metrics = read_plain(lesson / "student" / "metrics.json", dict[str, float], remedy="")
    lines = (lesson / "inputs.smi").read_text().split()
    labels = pd.read_csv(lesson / "labels.csv").smiles.tolist()
    split = read_plain(lesson / "teacher" / "split.json", dict[str, list[int]], remedy="")
    apart = {labels[i] for part in ("valid", "calibration", "test") for i in split[part]}
    held_out = sum(line in apart for line in lines)
    # Molecules of the training part are answered with their label, and so is one that is written twice.
    repeated = 1 + sum(line in {labels[i] for i in split["train"]} for line in lines)
    assert held_out > 3
    counts = {
        name: metrics[f"distil/{name}"] for name in ("read", "unreadable", "repeated", "held_out", "outside_domain")
    }
    assert counts == {
        "read": len(lines), "unreadable": 1, "repeated": repeated, "held_out": held_out, "outside_domain": 1,
    }  # fmt: skip
    assert metrics["distil/answered"] == len(lines) - 2 - repeated - held_out
    # The answers are those that the teacher gives to anyone.
    teacher = load_surrogate(lesson / "teacher" / "surrogate")
    with np.load(lesson / "student" / "answers" / "000000.npz") as part:
        answers, places = part["answers"], part["source_index"]
    table = encode([lines[i] for i in places])[0]
    np.testing.assert_allclose(answers[:, 0], teacher.predict_table(table)["weight"], rtol=1e-6)
    assert not apart & {lines[i] for i in places}


def test_the_student_names_its_teacher_and_has_a_spread_and_intervals_of_labels(lesson: Path) -> None:
    teacher, student = (load_surrogate(lesson / name / "surrogate") for name in ("teacher", "student"))
    assert isinstance(student, PropertySurrogate)
    assert len(student.model.members) == 1
    assert student.taught_by is not None
    assert student.taught_by.fingerprint == teacher.fingerprint
    assert student.provenance["taught_by"]["labels_fingerprint"] == teacher.labels_fingerprint
    # Those of the 80 others and of the training part are answered.
    assert student.taught_by.inputs == 80 + 60
    other = replace(student.taught_by, fingerprint="another")
    assert student.with_facts(taught_by=other).fingerprint != student.fingerprint
    # Labels alone calibrate: 20 of them are set aside, of 165 molecules with an answer or a label.
    assert student.facts.conformal["weight"].n == 20
    std = student.raw(encode(chains(30, 8))[0])[1][:, 0]
    assert (std > 0).all()
    assert np.ptp(std) > 0.1 * std.mean()
    learned = read_hashes(lesson / "student" / "surrogate")
    assert learned is not None
    labels = pd.read_csv(lesson / "labels.csv").smiles.tolist()
    split = read_plain(lesson / "teacher" / "split.json", dict[str, list[int]], remedy="")
    tested = hash_keys(molecule_keys([labels[i] for i in split["test"]]))
    assert not np.isin(tested, learned).any()


def test_costs_and_errors_of_all_three_are_on_the_page(lesson: Path) -> None:
    metrics = read_plain(lesson / "student" / "metrics.json", dict[str, float], remedy="")
    ratio = metrics["student/test/mae"] / metrics["teacher/test/mae"]
    assert metrics["error_over_teacher/test/mae"] == pytest.approx(ratio)
    spent = metrics["distil/answers_core_seconds"] + metrics["student/train_core_seconds"]
    assert metrics["distil/core_seconds"] == pytest.approx(spent)
    assert metrics["teacher/train_core_seconds"] > 0
    # The training without a teacher ended where the time of the distillation was over, and not before.
    assert spent <= metrics["alone/train_core_seconds"]
    assert metrics["alone/epochs"] > 4
    page = write_report(lesson / "student").read_text()
    for words in ("same network, labels alone", "outside of its domain", "test/mae", "fingerprint"):
        assert words in page


def test_a_killed_distillation_goes_on_to_the_same_student(lesson: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = Command("distil", *asked(lesson), f"out={out}", cwd=tmp_path)
    while process.poll() is None and not (out / "answers" / "000000.npz").is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL, process.said
    assert not (out / "surrogate").exists()
    before = (out / "answers" / "000000.npz").stat()
    run_stage(distil, "distil", out, *asked(lesson))
    assert (out / "answers" / "000000.npz").stat().st_mtime_ns == before.st_mtime_ns
    again, student = (load_surrogate(place / "surrogate") for place in (out, lesson / "student"))
    assert again.fingerprint == student.fingerprint


def test_other_inputs_or_labels_do_not_continue_a_run(lesson: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.smi"
    other.write_text("\n".join(chains(20, 5)) + "\n")
    arguments = [text.replace(f"{lesson}/inputs.smi", str(other)) for text in asked(lesson)]
    with pytest.raises(InputError, match="begun with another file of inputs"):
        run_stage(distil, "distil", lesson / "student", *arguments)


def test_without_labels_answers_that_were_held_out_calibrate_and_molecules_like_its_own_are_needed(
    lesson: Path, tmp_path: Path
) -> None:
    arguments = [text for text in asked(lesson) if not text.startswith("data.")]
    metrics = run_stage(distil, "distil", tmp_path / "free", *arguments, "train.epochs=1")
    student = load_surrogate(tmp_path / "free" / "surrogate")
    # A tenth of the answers calibrates, and a tenth is scored: both say how far the student is from its teacher.
    parts = {"calibration": 10, "test": 10, "valid": 5}
    assert metrics["distil/learned"] == metrics["distil/answered"] - sum(parts.values())
    assert student.facts.conformal["weight"].n == parts["calibration"]
    assert student.taught_by is not None
    assert student.taught_by.calibrated_on == "answers of the teacher"
    assert "error against the teacher" in write_report(tmp_path / "free").read_text()
    assert student.labels_fingerprint == load_surrogate(lesson / "teacher" / "surrogate").fingerprint
    assert "agreement/mae" in metrics
    assert not [key for key in metrics if key.startswith(("student/test", "alone/"))]
    # Nothing of a file of other elements can be answered.
    foreign = tmp_path / "foreign.smi"
    foreign.write_text("CCBr\nCCCl\n")
    with pytest.raises(InputError, match=r"no molecule of it lies in the domain of the teacher: .* 2 outside domain"):
        run_stage(distil, "distil", tmp_path / "none", arguments[0], f"inputs={foreign}", *NETWORK)
    with pytest.raises(InputError, match="a teacher of properties has no student of potentials"):
        run_stage(distil, "distil", tmp_path / "none", *arguments[:2], "model=painn")


def test_a_simulator_teaches_by_a_campaign_and_its_level_of_theory_has_a_target_of_its_own(
    lesson: Path, tmp_path: Path
) -> None:
    inputs = chains(90, 7)
    # The simulator knows a property of its own of all but three of the inputs, and of the labelled molecules.
    labels = pd.read_csv(lesson / "labels.csv")
    listed = list(dict.fromkeys([*inputs[3:], *(s for s in labels.smiles if s not in inputs[:3])]))
    pd.DataFrame({"smiles": listed, "weight": [50 - weight(s) for s in listed]}).to_csv(tmp_path / "table.csv")
    (tmp_path / "inputs.smi").write_text("\n".join(inputs) + "\n")
    simulator = ["simulator=table", f"simulator.file={tmp_path}/table.csv", "simulator.outputs=[weight]"]
    simulator += ["simulator.cost_s=2.0", "campaign.workers=1", f"inputs={tmp_path}/inputs.smi", *NETWORK, *RECIPE]
    metrics = run_stage(distil, "distil", tmp_path / "alone", *simulator, "train.max_seconds=0")
    assert (metrics["distil/failed"], metrics["distil/answered"]) == (3.0, 87.0)
    # The declared cost of an answer counts, which was paid for those that failed too.
    assert metrics["teacher/core_us_each"] == 2e6
    assert metrics["distil/answers_core_seconds"] == 2.0 * len(inputs)
    rejects = pd.read_csv(tmp_path / "alone" / "rejects.csv")
    assert sorted(rejects.line) == [1, 2, 3]
    assert rejects.reason.str.startswith("invalid_input").all()
    student = load_surrogate(tmp_path / "alone" / "surrogate")
    assert student.taught_by is not None
    assert student.taught_by.calibrated_on == "answers of the teacher"
    with RecordStore.open(tmp_path / "alone" / "answers.zarr") as records:
        made_by = records.attrs["fingerprint"]
    assert student.labels_fingerprint == student.taught_by.fingerprint == made_by
    (source,) = read_label_sources(tmp_path / "alone" / "surrogate") or [{}]
    assert (source["answers_of"], source["fingerprint"]) == ("table:weight", made_by)

    arguments = [f"data.train={lesson}/labels.csv", *PARTS, "alone=false", "train.epochs=30"]
    metrics = run_stage(distil, "distil", tmp_path / "both", *simulator, *arguments)
    both = load_surrogate(tmp_path / "both" / "surrogate")
    assert both.targets == ("weight", "weight_of_teacher")
    assert set(both.facts.conformal) == {"weight", "weight_of_teacher"}
    assert both.taught_by is not None
    assert both.taught_by.calibrated_on == "labels"
    tested = chains(20, 9)
    answer = both.predict_table(encode(tested)[0])
    # Mixed, the two would have taught a constant.
    rising, falling = (np.corrcoef(answer[n], [weight(s) for s in tested])[0, 1] for n in both.targets)
    assert rising > 0.5
    assert falling < -0.5
    assert metrics["teacher/test/mae"] > 20


def batch_of(labels: np.ndarray) -> Any:
    table = encode(chains(len(labels), 2))[0]
    size = GraphSize(int(table.atom_counts.max()), int(table.bond_counts.max()))
    return replace(pad(table, np.arange(len(table)), size, len(table)), labels=labels.astype(np.float32))


def test_labels_and_answers_count_by_their_weights() -> None:
    model = Ensemble(MPNNConfig(features=8, layers=1, readout=8), 2, 1, nnx.Rngs(0))
    random = np.random.default_rng(0)
    labels, answers = random.normal(size=(6, 2)), random.normal(size=(6, 2))
    labels[2:, 0] = np.nan
    batch, key = batch_of(np.concatenate([labels, answers], axis=1)), jax.random.key(0)
    predicted = np.asarray(nnx.jit(lambda m, b: m(b))(model, batch))[0]
    value, stats = nnx.jit(TaughtLoss("l2", (), 3.0, 0.5))(model, batch, key, 1.0)
    squared = 3.0 * np.nansum(0.5 * (predicted - labels) ** 2) + 0.5 * np.sum(0.5 * (predicted - answers) ** 2)
    assert float(value) == pytest.approx(squared / (3.0 * 8 + 0.5 * 12), rel=1e-5)
    absolute = 3.0 * np.nansum(np.abs(predicted - labels)) + 0.5 * np.abs(predicted - answers).sum()
    assert float(stats["loss"][0]) == pytest.approx(absolute, rel=1e-5)
    # Without a weight of the answers it is the loss of labels alone.
    plain = nnx.jit(ensemble_loss("huber"))(model, replace(batch, labels=batch.labels[:, :2]), key, 1.0)
    weighted = nnx.jit(TaughtLoss("huber", (), 1.0, 0.0))(model, batch, key, 1.0)
    assert float(weighted[0]) == pytest.approx(float(plain[0]), rel=1e-6)
    # A binary label has the cross-entropy of a probability, which is least at that probability.
    soft = nnx.jit(TaughtLoss("l2", (1,), 0.0, 1.0))
    share = 1 / (1 + np.exp(-predicted[:, 1]))
    best, _ = soft(model, batch_of(np.stack([*labels.T, predicted[:, 0], share], axis=1)), key, 1.0)
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert float(best) == pytest.approx(entropy.sum() / 12, rel=1e-4)


def test_the_spread_of_a_head_is_the_posterior_of_linear_regression() -> None:
    model = Ensemble(MPNNConfig(features=8, layers=1, readout=4), 1, 1, nnx.Rngs(0), spread=True)
    labels = np.random.default_rng(1).normal(size=(12, 1))
    batch = batch_of(labels)
    hidden, answers = (np.asarray(a, np.float64) for a in nnx.jit(lambda m, b: m.readouts(b)[0])(model, batch))
    fit_spread(model, [batch])
    with_bias = np.concatenate([hidden, np.ones((12, 1))], axis=1)
    second = with_bias.T @ with_bias / 12
    second += RIDGE * np.trace(second) / 5 * np.eye(5)
    variance = np.einsum("mc,cd,md->m", with_bias, np.linalg.inv(second), with_bias) / 5
    expected = np.sqrt(variance * np.mean((answers - labels) ** 2))
    spread = np.asarray(model.members[0].spread(hidden.astype(np.float32)))[:, 0]
    np.testing.assert_allclose(spread, expected, rtol=2e-3)
    # The mean square distance of the molecules that were learned from is 1, up to the ridge and idle units.
    assert 0.5 < variance.mean() <= 1.0


def test_equal_time_is_that_of_the_first_session_and_costs_break_even(tmp_path: Path) -> None:
    recipe = at_equal_time(TrainConfig(epochs=3, patience=2), tmp_path / "alone.json", 15.0)
    assert (recipe.max_core_seconds, recipe.patience) == (15.0, None)
    assert at_equal_time(TrainConfig(epochs=3), tmp_path / "alone.json", 16.0).max_core_seconds == 15.0
    saved = spent_and_saved({"teacher": 3e-3, "student": 1e-3}, 10.0)
    assert saved["distil/break_even_answers"] == pytest.approx(5000)
    assert "distil/break_even_answers" not in spent_and_saved({"teacher": 1e-3, "student": 1e-3}, 10.0)
    ticks = iter(range(100))
    assert core_seconds_each({"a": int, "b": int}, 2, clock=lambda: float(next(ticks))) == {"a": 0.5, "b": 0.5}
