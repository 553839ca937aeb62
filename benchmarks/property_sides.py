"""The two sides of a comparison on a table of properties: Chemprop in a program of its own, and Understudy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.chemprop import Chemprop
from benchmarks.property_parts import PART, SMILES, TARGET, Labels, TableChoice, draw_parts, score
from data.files import write_json
from data.json_files import read_plain
from data.spec import content_hash

#: Default number of epochs of Chemprop v2.
EPOCHS = 50
#: Epochs of the short training that measures how long an epoch of Chemprop takes.
PROBE = 2


@dataclass(frozen=True)
class PropertyCase:
    """One table with one split and one seed, and the folder of what its two sides leave."""

    table: TableChoice
    labels: Labels
    split: str
    seed: int
    folder: Path

    @property
    def identity(self) -> str:
        """Hash of the labels, the split and the seed."""
        return content_hash([self.labels.smiles, self.labels.values.tolist(), self.table.kind, self.split, self.seed])


def once(path: Path, settings: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The numbers that `path` holds, or those that `measure` gives, which are written there.

    Args:
        path: JSON file.
        settings: hash of what the numbers depend on; a file with another one is written anew.
        measure: takes the measurement.
    """
    if path.is_file():
        kept = read_plain(path, dict[str, dict[str, float]], remedy="Remove it")
        if settings in kept:
            return kept[settings]
    numbers = measure()
    write_json(path, {settings: numbers})
    return numbers


@dataclass(frozen=True)
class Peer:
    """Chemprop, its version, and the processor time of its start-up, which no training counts (s)."""

    chemprop: Chemprop
    version: str
    startup: float

    @staticmethod
    def of(chemprop: Chemprop) -> Peer:
        """The peer, whose start-up is measured by `chemprop train --help`, after a first one that reads the disk."""
        from data.processes.processor import tree_seconds

        version = chemprop.version()
        chemprop.startup_seconds()
        before = tree_seconds()
        chemprop.startup_seconds()
        return Peer(chemprop, version, tree_seconds() - before)

    def numbers(self, case: PropertyCase, seconds: float | None) -> dict[str, float]:
        """The scores of a case, and `core_seconds` and `epochs` of the training, measured once.

        Args:
            case: table and split.
            seconds: processor time that the training may take; None for Chemprop's default number of epochs.
        """
        epochs = EPOCHS
        if seconds is not None:
            path = case.folder.parent / "chemprop_epoch.json"
            probe = once(path, content_hash([self.version, case.labels.smiles]), lambda: self._train(case, PROBE))
            epochs = max(1, min(EPOCHS, int(seconds * PROBE / max(probe["core_seconds"], 1e-9))))
        path = case.folder / f"chemprop_{epochs}.json"
        return once(path, content_hash([self.version, case.identity]), lambda: self._train(case, epochs))

    def _train(self, case: PropertyCase, epochs: int) -> dict[str, float]:
        from data.processes.processor import tree_seconds

        parts = draw_parts(case.labels, case.split, case.seed)
        folder = case.folder / "chemprop"
        shutil.rmtree(folder, ignore_errors=True)
        valid = np.concatenate([parts["valid"], parts["calibration"]])
        rows = {"train": parts["train"], "valid": valid, "test": parts["test"]}
        train, check, test = (case.labels.write(folder / f"{name}.csv", rows[name]) for name in rows)
        before = tree_seconds()
        self.chemprop.train(
            train, check, test, folder / "model", epochs=epochs,
            flags=("--task-type", case.table.kind, "--pytorch-seed", str(case.seed)),
        )  # fmt: skip
        spent = max(0.0, tree_seconds() - before - self.startup)
        predicted = pd.read_csv(folder / "model" / "model_0" / "test_predictions.csv")[TARGET].to_numpy(float)
        numbers = score(case.table.kind, case.labels.values[parts["test"]], predicted)
        shutil.rmtree(folder / "model")
        return numbers | {"core_seconds": spent, "epochs": float(epochs)}


def our_numbers(case: PropertyCase, limit: float | None, overrides: Sequence[str]) -> dict[str, float]:
    """What `Peer.numbers` gives, of our side, and the coverage of 90% intervals, measured once for each recipe.

    Args:
        case: table and split.
        limit: most seconds of training; None for no limit.
        overrides: overrides of the configuration.
    """
    settings = content_hash([case.identity, limit, *overrides])
    path = case.folder / f"understudy_{content_hash(list(overrides))[:8]}.json"
    return once(path, settings, lambda: _train(case, limit, overrides))


def _train(case: PropertyCase, limit: float | None, overrides: Sequence[str]) -> dict[str, float]:
    """Train as `understudy train task=molecules/properties` does, and score the test part."""
    from hydra import compose, initialize_config_dir

    from data.processes.processor import tree_seconds
    from experiments.application.choices import CONF
    from experiments.campaigns.cheaper_simulator import rung_of
    from surrogates.family import FAMILIES
    from surrogates.learning.rung import FittedRung
    from surrogates.properties.task import PropertyTask

    parts = draw_parts(case.labels, case.split, case.seed)
    rows = np.concatenate(list(parts.values()))
    words = [name for name, some in parts.items() for _ in some]
    folder = case.folder / "understudy"
    shutil.rmtree(folder, ignore_errors=True)
    file = case.labels.write(folder / "table.csv", rows, words)
    settings = [
        "task=molecules/properties", f"data.file={file}", f"data.target={TARGET}", f"data.smiles={SMILES}",
        f"data.split_column={PART}", f"train.seed={case.seed}", "train.mlflow=false", *overrides,
    ]  # fmt: skip
    settings += ["data.classification=all"] if case.table.kind == "classification" else []
    settings += [] if limit is None else [f"train.max_seconds={limit}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", settings)
    before = tree_seconds()
    on = rung_of(composed, FAMILIES["properties"])
    assert not isinstance(on, FittedRung)
    task = PropertyTask.of({name: composed[name] for name in ("data", "model", "train")}, on)
    split = task.split(task.read(None, []), folder, progress=False)
    surrogate, _ = task.fit(split, folder, progress=False)
    surrogate = task.calibrate(surrogate, split)
    spent = tree_seconds() - before
    test = np.asarray(split.split["test"])
    if len(test) < len(parts["test"]):
        raise RuntimeError(f"{len(parts['test']) - len(test)} molecules of the test part got no prediction")
    truth = split.labels.values[TARGET][test]
    answer = surrogate.predict_table(split.graphs.take(test), None if split.on is None else split.on.values[test])
    inside = (answer[f"{TARGET}_low"] <= truth) & (truth <= answer[f"{TARGET}_high"])
    shutil.rmtree(folder)
    more = {"core_seconds": spent, "coverage_90": float(inside.mean())}
    return score(case.table.kind, truth, answer[TARGET]) | more
