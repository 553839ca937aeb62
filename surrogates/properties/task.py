"""Trains and scores surrogates of molecular properties on tables of molecules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from data.identity import molecule_keys
from data.molecules.foreign import graphs
from data.molecules.graph_tables import GraphTable
from data.reading import Reading
from data.rejects import RejectLog
from data.settings import build, existing_file, names
from data.splits import Split
from surrogates.learning.learned_from import Hashes, hash_keys, save_hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.overlap import Overlap
from surrogates.learning.parts import say_other_labels
from surrogates.learning.sample_task import target_columns
from surrogates.learning.task import VALIDATION, Baseline, Task
from surrogates.properties.fit import fit_ensemble, training_identity, usable_rows
from surrogates.properties.scores import in_units_of, score_table
from surrogates.properties.surrogate import MolecularConfig, MolecularSurrogate
from surrogates.properties.tables import PropertyTable, TableSettings, labelled_split, read_table


@dataclass(frozen=True)
class MoleculeParts:
    """The parts of a table of molecules.

    Attributes:
        labels: molecules and their properties.
        graphs: graphs of the molecules.
        split: rows of each part.
    """

    labels: PropertyTable
    graphs: GraphTable
    split: Split


@dataclass(frozen=True)
class PropertyTask(Task[PropertyTable, MoleculeParts, MolecularSurrogate]):
    """A training on a table of molecules.

    Attributes:
        data: table and split.
        config: settings of the surrogate.
        training: training recipe.
    """

    data: TableSettings
    config: MolecularConfig
    training: TrainConfig

    KIND = "properties"
    DATA = TableSettings
    EVALUATED_WITH = frozenset({"data.test", "data.smiles", "data.target"})

    @classmethod
    def of(cls, settings: Mapping[str, Any], baseline: Baseline | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        data = build(TableSettings, settings["data"], where="data")
        training = build(TrainConfig, settings["train"], where="train")
        return cls(data, cls.model_settings(settings["model"]), training)

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> MolecularConfig:
        """The settings of the surrogate; see `Task.model_settings`."""
        return build(MolecularConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="model")

    @classmethod
    def unused_in_training(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """See `Task.unused_in_training`; the columns and units of a store are those that it records."""
        unused = super().unused_in_training(settings)
        file = settings["data"].get("file")
        if file is not None and Path(str(file)).expanduser().is_dir():
            unused |= {f"data.{name}": "the store says it" for name in ("smiles", "unit")}
        return unused

    def read(self, rejects: RejectLog | None, readings: list[Reading]) -> PropertyTable:
        """The molecules of `data.file` with the properties to learn."""
        path = existing_file(self.data.file, "data.file")
        labels = read_table(path, self.data.smiles, names(self.data.target), names(self.data.unit), rejects)
        readings.append(labels.reading)
        return labels

    def split(self, data: PropertyTable, run_dir: Path, *, progress: bool = True) -> MoleculeParts:
        """Split the molecules as the settings name it, with enough labels to calibrate the intervals."""
        split = labelled_split(data, self.data)
        usable_rows(data.values, split)
        return MoleculeParts(data, graphs(data.smiles, str(self.data.file)), split)

    def rows(self, parts: MoleculeParts) -> dict[str, list[int]]:
        """The rows of each part."""
        return {name: rows.tolist() for name, rows in parts.split.parts.items()}

    def identity(self, parts: MoleculeParts) -> dict[str, str]:
        """Hashes of the training and validation parts and of the settings."""
        return training_identity(parts.graphs, parts.labels.values, parts.split, self.config)

    def fit(
        self, parts: MoleculeParts, run_dir: Path, *, progress: bool = True
    ) -> tuple[MolecularSurrogate, FitResult]:
        """Train an ensemble and calibrate its intervals; see `surrogates.properties.fit`."""
        return fit_ensemble(
            parts.graphs,
            parts.labels.values,
            parts.split,
            self.config,
            self.training,
            run_dir,
            label_fingerprint=parts.labels.fingerprint,
            units=parts.labels.units,
            progress=progress,
        )

    def costs(self, parts: MoleculeParts, result: FitResult) -> dict[str, float]:
        """The number of training molecules, and the rows of the table that were read and left out."""
        return {"train/molecules": float(len(parts.split["train"])), **parts.labels.counts("train")}

    def score(self, surrogate: MolecularSurrogate, parts: MoleculeParts) -> dict[str, float]:
        """Scores of the test part, or without one of the validation part."""
        for name in ("test", VALIDATION):
            if len(parts.split[name]):
                return score_table(surrogate, parts.labels, np.asarray(parts.split[name]), name)
        return {}

    def save(
        self, surrogate: MolecularSurrogate, parts: MoleculeParts, metrics: Mapping[str, float], directory: Path
    ) -> None:
        """Save the surrogate with its held-out scores, and hashes of the molecules that it has learned from."""
        surrogate.with_facts(scores={k: v for k, v in metrics.items() if not k.startswith("train/")}).save(directory)
        rows = np.concatenate([parts.split[name] for name in ("train", "valid", "calibration")])
        save_hashes(directory, hash_keys(molecule_keys([parts.labels.smiles[i] for i in rows])))

    @classmethod
    def evaluate(
        cls,
        surrogate: MolecularSurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Scores on tables; `smiles` and `target` of the settings name their columns. See `Task.evaluate`."""
        columns = target_columns(surrogate.targets, names(settings.get("target")))
        smiles = str(settings.get("smiles", "smiles"))
        tables = {path: read_table(path, smiles, list(columns.values()), [], rejects) for path in files}
        tables = {path: in_units_of(surrogate, table, columns, path) for path, table in tables.items()}
        metrics: dict[str, float] = {}
        for path, table in tables.items():
            readings.append(table.reading)
            if path.is_dir():
                say_other_labels(readings, table.fingerprint, surrogate.labels_fingerprint)
            overlap = Overlap.among(learned, molecule_keys(table.smiles), "molecules")
            overlap.note(readings)
            prefix = f"test/{path.stem}"
            metrics |= table.counts(prefix)
            metrics |= overlap.scores(prefix, partial(_scored_rows, surrogate, table, columns))
        return metrics


def _scored_rows(
    surrogate: MolecularSurrogate, table: PropertyTable, columns: Mapping[str, str], rows: np.ndarray, prefix: str
) -> dict[str, float]:
    return score_table(surrogate, table, rows, prefix, columns)
