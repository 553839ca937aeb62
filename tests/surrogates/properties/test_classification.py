"""Binary labels: missing ones, probabilities, their calibration and their scores; parts that the user fixes; folds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from predicting import predicted
from rdkit import Chem
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from data.errors import InputError
from data.molecules.featurise import encode
from data.reading_summary import Reading
from data.spec import dataset
from experiments.pipelines.cross_validation import SUMMARY, cross_validate
from experiments.screening.library_screen import ScreenConfig, screen
from experiments.screening.objective import Objective
from experiments.stages.train import train_task
from surrogates.learning.learned_from import read_hashes
from surrogates.learning.losses import masked_cross_entropy
from surrogates.properties.probability import (
    ProbabilityCalibration,
    calibration_error,
    label_set_scores,
    logit,
    probability_scores,
    sigmoid,
)
from surrogates.properties.property_table import PropertyTable, read_table
from surrogates.properties.surrogate import PropertySurrogate
from surrogates.properties.task import PropertyTask
from surrogates.saved import load_surrogate

NETWORK = {"features": 16, "layers": 1, "readout": 16}
TRAINING = {"epochs": 15, "learning_rate": 1e-2, "batch_size": 32, "ema_decay": 0.95, "checkpoint_every_s": None}


def molecules(count: int, seed: int = 0) -> list[str]:
    """Different random chains, some with an oxygen."""
    random = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        parts = random.choice(["C", "N", "F", "C(C)", "C(F)", "C(N)", "C=C", "O"], size=random.integers(2, 6))
        text = "C" + "".join(parts) + "C"
        if "FC" not in text and "FN" not in text and "FO" not in text and "FF" not in text:
            texts[Chem.CanonSmiles(text)] = None
    return list(texts)


def table(count: int, seed: int = 0) -> pd.DataFrame:
    """Molecules with a binary label (an oxygen or none) and a number (of atoms), half of which is missing."""
    smiles = molecules(count, seed)
    random = np.random.default_rng(seed + 1)
    mols = [Chem.MolFromSmiles(text) for text in smiles]
    frame = pd.DataFrame({"id": [f"{i:04d}" for i in range(count)], "smiles": smiles})
    frame["oxygen"] = [int(any(a.GetAtomicNum() == 8 for a in m.GetAtoms())) for m in mols]
    frame["atoms"] = [float(m.GetNumAtoms()) for m in mols]
    first = random.random(count) < 0.5
    frame["oxygen"] = frame["oxygen"].astype("Int64").mask(first & (random.random(count) < 0.9))
    frame["atoms"] = frame["atoms"].mask(~first)
    return frame


def task(file: Path, **data: Any) -> PropertyTask:
    settings = {"file": str(file), "target": ["oxygen", "atoms"], "classification": ["oxygen"], **data}
    model = {"kind": "properties", "network": NETWORK, "ensemble": 1, "buckets": 1}
    return PropertyTask.of({"model": model, "data": settings, "train": TRAINING})


@dataclass
class Trained:
    place: Path
    metrics: dict[str, float]
    surrogate: PropertySurrogate


@pytest.fixture(scope="module")
def trained(once: Callable[[str, Callable[[Path], object]], Path]) -> Trained:
    def make(place: Path) -> None:
        place.mkdir()
        frame = table(300)
        frame.iloc[:220].to_csv(place / "table.csv", index=False)
        frame.iloc[220:].to_csv(place / "more.csv", index=False)
        trained_task = task(place / "table.csv", test=[str(place / "more.csv")], parts=[0.7, 0.05, 0.25, 0.0])
        metrics = train_task(trained_task, place / "run", progress=False)
        (place / "metrics.json").write_text(json.dumps(metrics))

    place = once("binary-labels", make)
    surrogate = load_surrogate(place / "run" / "surrogate")
    return Trained(place, json.loads((place / "metrics.json").read_text()), surrogate)


def test_a_mixed_sparse_table_is_learned(trained: Trained) -> None:
    """The scores of the file that was not learned from are those of scikit-learn over the labels that are present."""
    frame = pd.read_csv(trained.place / "more.csv")
    answer = trained.surrogate.predict_table(encode(frame["smiles"].tolist())[0])
    for name in ("oxygen", "atoms"):
        labelled = frame[name].notna().to_numpy()
        assert 0 < labelled.sum() < len(frame)
        truth = frame.loc[labelled, name].to_numpy(float)
        value = answer[name][labelled]
        head = f"test/more/{name}"
        if name == "atoms":
            assert trained.metrics[f"{head}/mae"] == pytest.approx(np.abs(value - truth).mean(), rel=1e-5)
            assert trained.metrics[f"{head}/mae"] < 0.5 * truth.std()
            continue
        assert (value >= 0).all()
        assert (value <= 1).all()
        assert trained.metrics[f"{head}/roc_auc"] == pytest.approx(roc_auc_score(truth, value))
        assert trained.metrics[f"{head}/pr_auc"] == pytest.approx(average_precision_score(truth, value))
        assert trained.metrics[f"{head}/log_loss"] == pytest.approx(log_loss(truth, value), rel=1e-5)
        assert trained.metrics[f"{head}/roc_auc"] > 0.95
        assert trained.metrics[f"{head}/positives"] == pytest.approx(truth.mean())
        assert trained.metrics[f"{head}/coverage_90"] > 0.8
        assert {f"{head}/ece", f"{head}/ece_uncalibrated"} <= set(trained.metrics)
    reading = json.loads((trained.place / "run" / "reading.json").read_text())
    assert "binary label" in json.dumps(reading)
    # An evaluation of the saved surrogate says the same.
    readings: list[Reading] = []
    again = PropertyTask.evaluate(
        trained.surrogate, [trained.place / "more.csv"], {}, None, readings,
        learned=read_hashes(trained.place / "run" / "surrogate"),
    )  # fmt: skip
    assert again == pytest.approx({k: v for k, v in trained.metrics.items() if k.startswith("test/more/")}, abs=1e-5)
    assert "binary label" in str(readings[0].quantities["oxygen"])


def test_a_probability_answers_as_a_simulator_does(trained: Trained) -> None:
    spec = trained.surrogate.spec
    assert [v.name for v in spec.outputs if v.name.startswith("oxygen")] == [
        "oxygen", "oxygen_std", "oxygen_low", "oxygen_high",
    ]  # fmt: skip
    answer = trained.surrogate.simulate(dataset(spec.inputs, {"smiles": "CCOC"}))
    table = trained.surrogate.predict_table(encode(["CCOC", "CCCC"])[0])
    assert float(answer["oxygen"]) == pytest.approx(table["oxygen"][0], abs=1e-6)
    assert table["oxygen"][0] > 0.5 > table["oxygen"][1]
    assert set(table["oxygen_low"].tolist() + table["oxygen_high"].tolist()) <= {0.0, 1.0}
    assert (table["oxygen_low"] <= table["oxygen_high"]).all()
    assert (table["oxygen_std"] <= 0.5).all()


def test_candidates_are_ranked_by_a_probability_and_predicted_with_scores(trained: Trained, tmp_path: Path) -> None:
    objective = Objective(maximize="oxygen", windows={"atoms": [0.0, 8.0]}, require_domain=False)
    screen(
        trained.surrogate, trained.place / "more.csv", tmp_path / "hits",
        ScreenConfig(top_k=10, workers=1, objective=objective, columns=("id",)), progress=False,
    )  # fmt: skip
    top = pd.read_csv(tmp_path / "hits" / "top.csv", dtype={"id": str})
    assert top["prediction"].is_monotonic_decreasing
    assert top["smiles"].str.contains("O").all()
    assert (top["atoms"] <= 8).all()
    assert top["id"].str.fullmatch(r"\d{4}").all()
    run_dir = predicted(
        tmp_path / "out.csv", f"surrogate={trained.place / 'run'}", f"inputs={trained.place / 'more.csv'}", "workers=1"
    )
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for score in ("roc_auc", "pr_auc", "log_loss", "ece", "coverage_90"):
        expected = trained.metrics[f"test/more/oxygen/{score}"]
        assert metrics[f"predict/oxygen/{score}"] == pytest.approx(expected, abs=2e-3), score
    page = (run_dir / "report.html").read_text()
    assert "ROC-AUC" in page
    assert "Predicted against true atoms" in page


def test_calibration_finds_what_distorted_the_probabilities() -> None:
    """Labels drawn with p = sigmoid(0.5 z + 1): slope and offset are found, and the error vanishes as it should."""
    random = np.random.default_rng(0)
    z = random.normal(0, 2, 20_000)
    truth = (random.random(len(z)) < sigmoid(0.5 * z + 1)).astype(float)
    truth[::10] = np.nan
    calibration = ProbabilityCalibration.fit(truth, sigmoid(z))
    assert calibration.slope == pytest.approx(0.5, abs=0.03)
    assert calibration.offset == pytest.approx(1.0, abs=0.05)
    labelled = np.isfinite(truth)
    before = calibration_error(truth[labelled], sigmoid(z[labelled]))
    after = calibration_error(truth[labelled], calibration.apply(sigmoid(z[labelled])))
    assert before > 0.15
    assert after < 0.015
    assert np.allclose(calibration.undo(calibration.apply(sigmoid(z))), sigmoid(z))
    # Sets hold the label of either class as often as they promise, on molecules that did not calibrate.
    fresh = random.normal(0, 2, 20_000)
    label = (random.random(len(fresh)) < sigmoid(0.5 * fresh + 1)).astype(float)
    scores = label_set_scores(label, *calibration.labels(sigmoid(fresh)))
    assert scores["coverage_90_positives"] == pytest.approx(0.9, abs=0.02)
    assert scores["coverage_90_negatives"] == pytest.approx(0.9, abs=0.02)


def test_too_few_labels_exclude_nothing_and_reversed_ones_keep_the_order() -> None:
    few = ProbabilityCalibration.fit(np.array([1.0, 0, 1]), np.array([0.9, 0.1, 0.8]))
    low, high = few.labels(np.array([0.01, 0.99]))
    assert low.tolist() == [0, 0]
    assert high.tolist() == [1, 1]
    one_kind = ProbabilityCalibration.fit(np.ones(50), np.full(50, 0.3))
    assert one_kind.apply(np.array([0.3]))[0] == pytest.approx(0.3)
    # A separable sample gives finite numbers, and one that contradicts the network a nearly constant probability.
    z = np.linspace(-3, 3, 40)
    assert np.isfinite(ProbabilityCalibration.fit((z > 0).astype(float), sigmoid(z)).slope)
    reversed_ = ProbabilityCalibration.fit((z < 0).astype(float), sigmoid(z))
    assert np.allclose(reversed_.apply(sigmoid(z)), 0.5, atol=0.02)
    assert (np.diff(reversed_.apply(sigmoid(z))) > 0).all()


def test_a_missing_label_adds_nothing_to_the_loss() -> None:
    z, label = jnp.array([1.5, -2.0, 0.3]), jnp.array([1.0, jnp.nan, 0.0])
    value, slope = jax.value_and_grad(lambda z: masked_cross_entropy(z, label)[0].sum())(z)
    probability = np.asarray(sigmoid(np.asarray(z, float)))[[0, 2]]
    assert float(value) == pytest.approx(2 * log_loss([1, 0], probability), rel=1e-5)
    assert np.asarray(slope).tolist() == pytest.approx([probability[0] - 1, 0.0, probability[1]], rel=1e-5)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    weighted = probability_scores(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.6, 0.6]))
    assert probability_scores(np.array([0.0, 1.0]), np.array([0.2, 0.6]), np.array([1.0, 2.0])) == pytest.approx(
        weighted
    )


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("smiles,oxygen\nCO,1\nCC,2\n", {}, r"line 3: column 'oxygen' holds 2, and a binary label is 0 or 1"),
        (
            "smiles,oxygen,part\nCO,1,train\nCC,0,tset\n",
            {"split_column": "part"},
            r"line 3: .* holds 'tset', which is no",
        ),
        ("smiles,oxygen,part\nCO,1,test\nCC,0,\n", {"split_column": "part"}, "puts no row into train"),
        ("smiles,oxygen\nCO,1\nCC,1\nCN,1\n", {"parts": [3, 0, 0, 0]}, "one kind of label only of oxygen"),
    ],
)
def test_what_is_no_binary_label_or_part_is_refused(
    tmp_path: Path, text: str, settings: dict[str, Any], said: str
) -> None:
    (tmp_path / "in.csv").write_text(text)
    properties = task(tmp_path / "in.csv", target="oxygen", **settings)
    with pytest.raises(InputError, match=said):
        properties.split(properties.read(None, []), tmp_path)


def test_names_of_binary_labels_are_targets_and_numbers_of_0_and_1_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'toxic', which is no target"):
        task(tmp_path, classification=["toxic"])
    (tmp_path / "in.csv").write_text("smiles,oxygen\nCO,1\nCC,0\nCN,True\n")
    read = read_table(tmp_path / "in.csv", "smiles", ["oxygen"], [], None)
    assert any("data.classification=[oxygen]" in text for text in read.reading.assumed)
    assert "not a number: write 1 for true" in str(read.reading.left_out)


def test_parts_are_those_of_a_column_or_of_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = table(60)
    frame["part"] = ["train"] * 40 + ["Val"] * 8 + ["TEST"] * 8 + [""] * 4
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_parquet(tmp_path / "in.parquet")
    for file in ("in.csv", "in.parquet"):
        properties = task(
            tmp_path / file, split_column="part", parts=[0.6, 0.1, 0.3, 0.0], target="atoms", classification=None
        )
        data = properties.read(None, [])
        # Rows without a number of atoms are left out, and the calibration part is drawn from the training rows.
        kept = frame[frame["atoms"].notna()].reset_index(drop=True)
        split = properties.split(data, tmp_path).split
        named = {name: kept["part"].iloc[rows].unique().tolist() for name, rows in split.parts.items()}
        assert named == {"train": ["train"], "valid": ["Val"], "calibration": ["train"], "test": ["TEST"]}
        assert sum(map(len, split.parts.values())) == (kept["part"] != "").sum()
    frame.iloc[:50].to_csv(tmp_path / "main.csv", index=False)
    frame.iloc[45:].to_csv(tmp_path / "valid.csv", index=False)
    properties = task(
        tmp_path / "main.csv",
        valid=str(tmp_path / "valid.csv"),
        test=[str(tmp_path / "in.csv")],
        parts=[0.6, 0.1, 0.3, 0.0],
    )
    readings: list[Reading] = []
    parts = properties.split(properties.read(None, readings), tmp_path)
    assert len(readings) == 3
    assert [parts.labels.smiles[i] for i in parts.split["valid"]] == frame["smiles"].iloc[45:].tolist()
    assert not len(parts.split["test"])
    assert len(parts.split["train"]) + len(parts.split["calibration"]) == 50
    assert "5 of 15 molecules of the valid part" in caplog.text or "molecules of the valid part are" in caplog.text


def test_folds_are_disjoint_and_whole_and_resume_where_they_stopped(tmp_path: Path) -> None:
    frame = table(90)
    frame.to_csv(tmp_path / "in.csv", index=False)
    properties = task(tmp_path / "in.csv", parts=[0.6, 0.1, 0.3, 0.0])
    data = properties.read(None, [])
    tested: list[np.ndarray] = []
    asked: list[str] = []

    def train_on(task: PropertyTask, part: PropertyTable, place: Path, *, progress: bool) -> dict[str, float]:
        asked.append(place.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        split = task.split(part, place).split
        assert len(np.unique(np.concatenate(list(split.parts.values())))) == 90
        tested.append(split["test"])
        return {"test/mae": float(len(asked)), "train/seconds": 1.0, "test/roc_auc": 0.5} | (
            {} if len(asked) == 3 else {"test/only_some": 1.0}
        )

    with pytest.raises(KeyboardInterrupt):
        cross_validate(properties, data, 3, tmp_path / "run", train_on, progress=False)
    metrics = cross_validate(properties, data, 3, tmp_path / "run", train_on, progress=False)
    assert asked == ["fold-1", "fold-2", "fold-2", "fold-3"]
    assert sorted(np.concatenate(tested).tolist()) == list(range(90))
    assert [len(rows) for rows in tested] == [30, 30, 30]
    assert metrics["test/mae/mean"] == pytest.approx((1 + 3 + 4) / 3)
    assert metrics["test/mae/std"] == pytest.approx(np.std([1, 3, 4], ddof=1))
    assert "test/only_some/mean" not in metrics
    assert json.loads((tmp_path / "run" / SUMMARY).read_text())["metrics"]["test/mae"]["values"] == [1, 3, 4]
    with pytest.raises(InputError, match="begun with another number of folds"):
        cross_validate(properties, data, 4, tmp_path / "run", train_on, progress=False)
    frame.iloc[1:].to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(InputError, match="begun with another data"):
        cross_validate(properties, properties.read(None, []), 3, tmp_path / "run", train_on, progress=False)
