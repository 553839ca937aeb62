"""Trains and scores surrogates of molecular properties on tables of molecules."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.identity import molecule_keys
from data.molecules.foreign import graphs
from data.molecules.graph_tables import GraphTable
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build, existing_file, names, refuse_equal_stems
from data.spec import dataset
from data.splits import Split, canonical
from surrogates.learning.learned_from import Hashes, hash_keys, save_hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.overlap import Overlap
from surrogates.learning.rung import NAMED, FittedRung, Rung, RungColumns, usable_outputs
from surrogates.learning.sample_parts import say_other_labels
from surrogates.learning.sample_task import target_columns
from surrogates.learning.task import VALIDATION, Task
from surrogates.properties.calibration import calibrate_intervals
from surrogates.properties.fit import fit_ensemble, training_identity, usable_rows
from surrogates.properties.property_split import fixed_by_column, folds, labelled_split
from surrogates.properties.property_table import PropertyData, PropertyTable, read_table
from surrogates.properties.scores import in_units_of, score_table
from surrogates.properties.surrogate import PropertyConfig, PropertySurrogate

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PropertyParts:
    """The parts of a table of molecules.

    Attributes:
        labels: molecules and their properties.
        graphs: graphs of the molecules.
        split: rows of each part.
        on: answers of the simulator on which the surrogate stands, for every molecule; None if there is none.
    """

    labels: PropertyTable
    graphs: GraphTable
    split: Split
    on: RungColumns | None = None


@dataclass(frozen=True)
class PropertyTask(Task[PropertyTable, PropertyParts, PropertySurrogate]):
    """A training on a table of molecules.

    Attributes:
        data: table and split.
        config: settings of the surrogate.
        training: training recipe.
        on: the cheaper simulator whose answers are inputs of the surrogate; None for none.
    """

    data: PropertyData
    config: PropertyConfig
    training: TrainConfig
    on: Rung | None = None

    KIND = "properties"
    DATA = PropertyData
    CROSS_VALIDATED = True
    EVALUATED_WITH = frozenset({"data.test", "data.smiles", "data.target"})
    RUNG_OUTPUTS = ("energy", "homo", "lumo", "gap", "dipole_moment", "mulliken_charges")

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        data = build(PropertyData, settings["data"], where="data")
        training = build(TrainConfig, settings["train"], where="train")
        assert not isinstance(on, FittedRung)  # this kind has none
        return cls(data, cls.model_settings(settings["model"]), training, on)

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> PropertyConfig:
        """The settings of the surrogate; see `Task.model_settings`."""
        return build(PropertyConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="model")

    @classmethod
    def unused_in_training(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """See `Task.unused_in_training`; the columns and units of a store are those that it records."""
        unused = super().unused_in_training(settings)
        file = settings["data"].get("file")
        if file is not None and Path(str(file)).expanduser().is_dir():
            unused |= {f"data.{name}": "the store says it" for name in ("smiles", "unit")}
        return unused

    def read(self, rejects: RejectLog | None, readings: list[Reading]) -> PropertyTable:
        """The molecules of `data.file`, `data.valid` and `data.test` with the properties to learn."""
        path = existing_file(self.data.file, "data.file")
        valid = None if self.data.valid is None else existing_file(self.data.valid, "data.valid")
        tests = [existing_file(name, "data.test") for name in names(self.data.test, "data.test")]
        refuse_equal_stems(tests, "data.test")
        column = self.data.split_column
        labels = self._table(path, rejects, readings, texts=() if column is None else (column,))
        if column is not None:
            words = labels.texts[column]
            fixed, excluded = fixed_by_column(words, list(labels.lines), str(path), column)
            labels = replace(labels, fixed=fixed, excluded=excluded)
            left = f"; {len(excluded):,} rows without one are not used" if len(excluded) else ""
            said = {**labels.reading.quantities, column: f"the part of each row{left}"}
            readings[-1] = replace(labels.reading, quantities=said)
        if valid is not None:
            labels = labels.with_validation(self._table(valid, rejects, readings))
        others = {test.stem: self._table(test, rejects, readings) for test in tests}
        if others:
            labels = replace(labels, fixed={"test": np.zeros(0, np.int64), **labels.fixed}, others=others)
        return labels

    def _table(
        self, path: Path, rejects: RejectLog | None, readings: list[Reading], texts: Sequence[str] = ()
    ) -> PropertyTable:
        table = read_table(
            path,
            self.data.smiles,
            names(self.data.target, "data.target"),
            names(self.data.unit, "data.unit"),
            rejects,
            classification=self.data.binary_labels,
            texts=texts,
        )
        readings.append(table.reading)
        return table

    def folds(self, data: PropertyTable, count: int) -> tuple[list[PropertyTable], str]:
        """See `Task.folds`; molecules, or with data.split=scaffold those of a scaffold, stay in one fold."""
        return folds(data, self.data, count), data.content()

    def split(self, data: PropertyTable, run_dir: Path, *, progress: bool = True) -> PropertyParts:
        """Split the molecules as the settings name it, with enough labels to calibrate the intervals.

        The simulator on which the surrogate stands, if any, is asked about every molecule of the parts. Those that it
        does not answer are left out of their part with a warning.
        """
        split = labelled_split(data, self.data)
        usable_rows(data.values, split, None, data.classification)
        table = graphs(data.smiles, str(self.data.file))
        if self.on is None:
            return PropertyParts(data, table, split)
        columns, split = answered(self.on, data.smiles, split, run_dir / "on.zarr", progress=progress)
        usable_rows(data.values, split, None, data.classification)
        return PropertyParts(data, table, split, columns)

    def rows(self, parts: PropertyParts) -> dict[str, list[int]]:
        """The rows of each part."""
        return {name: rows.tolist() for name, rows in parts.split.parts.items()}

    def identity(self, parts: PropertyParts) -> dict[str, str]:
        """Hashes of the training and validation parts and of the settings."""
        labels = parts.labels
        return training_identity(
            parts.graphs, labels.values, parts.split, self.config, on=parts.on, classification=labels.classification
        )

    def fit(self, parts: PropertyParts, run_dir: Path, *, progress: bool = True) -> tuple[PropertySurrogate, FitResult]:
        """Train an ensemble; see `surrogates.properties.fit`."""
        return fit_ensemble(
            parts.graphs,
            parts.labels.values,
            parts.split,
            self.config,
            self.training,
            run_dir,
            label_fingerprint=parts.labels.fingerprint,
            units=parts.labels.units,
            on=parts.on,
            classification=parts.labels.classification,
            progress=progress,
        )

    def calibrate(self, surrogate: PropertySurrogate, parts: PropertyParts) -> PropertySurrogate:
        """The surrogate with intervals, if molecules are set aside for them; see `calibrate_intervals`."""
        rows = np.asarray(parts.split["calibration"])
        if not len(rows):
            return surrogate
        return calibrate_intervals(surrogate, parts.graphs, parts.labels.values, rows, parts.on)

    def costs(self, parts: PropertyParts, result: FitResult) -> dict[str, float]:
        """The number of training molecules, and the rows of the table that were read and left out."""
        costs = {} if parts.on is None else parts.on.costs()
        return {"train/molecules": float(len(parts.split["train"])), **parts.labels.counts("train"), **costs}

    def score(self, surrogate: PropertySurrogate, parts: PropertyParts) -> dict[str, float]:
        """Scores of the test part and of the files of `data.test`, or without any of the validation part."""
        scores: dict[str, float] = {}
        hashes = self._hashes(parts)
        for name, table in parts.labels.others.items():
            columns = {target: target for target in surrogate.targets}
            scores |= _scored_file(surrogate, table, columns, f"test/{name}", hashes, None, None)
        for name in ("test", VALIDATION):
            if len(parts.split[name]) and not (scores and name == VALIDATION):
                on = None if parts.on is None else parts.on.values
                scores |= score_table(surrogate, parts.labels, np.asarray(parts.split[name]), name, on=on)
        return scores

    def save(
        self, surrogate: PropertySurrogate, parts: PropertyParts, metrics: Mapping[str, float], directory: Path
    ) -> None:
        """Save the surrogate with its held-out scores, and hashes of the molecules that it has learned from."""
        surrogate.with_facts(scores={k: v for k, v in metrics.items() if not k.startswith("train/")}).save(directory)
        save_hashes(directory, self._hashes(parts))

    @staticmethod
    def _hashes(parts: PropertyParts) -> Hashes:
        rows = np.concatenate([parts.split[name] for name in ("train", "valid", "calibration")])
        return hash_keys(molecule_keys([parts.labels.smiles[i] for i in rows]))

    @classmethod
    def evaluate(
        cls,
        surrogate: PropertySurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Scores on tables; `smiles` and `target` of the settings name their columns. See `Task.evaluate`.

        A simulator on which the surrogate stands is asked about every molecule in this process; molecules that it does
        not answer are counted under `test/<stem>/on_failed`, reported as rejects and left out.
        """
        columns = target_columns(surrogate.targets, names(settings.get("target"), "data.target"))
        smiles = str(settings.get("smiles", "smiles"))
        binary = [columns[name] for name in surrogate.facts.classification]
        tables = {
            path: read_table(path, smiles, list(columns.values()), [], rejects, classification=binary) for path in files
        }
        tables = {path: in_units_of(surrogate.facts.units, table, columns, path) for path, table in tables.items()}
        metrics: dict[str, float] = {}
        for path, table in tables.items():
            readings.append(table.reading)
            if path.is_dir():
                say_other_labels(readings, table.fingerprint, surrogate.labels_fingerprint)
            metrics |= _scored_file(surrogate, table, columns, f"test/{path.stem}", learned, rejects, readings)
        return metrics


def _scored_file(
    surrogate: PropertySurrogate,
    table: PropertyTable,
    columns: Mapping[str, str],
    prefix: str,
    learned: Hashes | None,
    rejects: RejectLog | None,
    readings: list[Reading] | None,
) -> dict[str, float]:
    """Scores of a table, those of molecules that were not learned from separately, and its counts."""
    overlap = Overlap.among(learned, molecule_keys(table.smiles), "molecules")
    if readings is None and overlap.count:
        LOG.warning("%s: %s", prefix, overlap.said)
    overlap.note(readings)
    metrics = table.counts(prefix)
    on = None
    if surrogate.facts.on is not None:
        answers = surrogate.ask_rung(table.smiles)
        on, failed = answers.values, np.flatnonzero(~answers.ok)
        metrics |= {f"{prefix}/on_core_seconds": answers.core_seconds, f"{prefix}/on_failed": float(len(failed))}
        for row in failed.tolist():
            if rejects is None:
                break
            reason = f"{surrogate.facts.on.name}: {answers.reasons[row]}"
            rejects.add(Path(table.reading.source), row, table.smiles[row], reason)
    return metrics | overlap.scores(prefix, partial(_scored_rows, surrogate, table, columns, on))


def _scored_rows(
    surrogate: PropertySurrogate,
    table: PropertyTable,
    columns: Mapping[str, str],
    on: Float[np.ndarray, "molecule column"] | None,
    rows: np.ndarray,
    prefix: str,
) -> dict[str, float]:
    if on is not None:
        rows = rows[np.isfinite(on[rows]).all(axis=1)]
    return score_table(surrogate, table, rows, prefix, columns, on)


def answered(
    rung: Rung, smiles: Sequence[str], split: Split, store: Path, *, progress: bool
) -> tuple[RungColumns, Split]:
    """The answers of a simulator for the molecules of a split, and the split without those that it does not answer.

    Args:
        rung: the simulator, which takes SMILES, and how it is asked.
        smiles: SMILES of every row.
        split: parts of the rows.
        store: store of the answers; those in it are not computed again.
        progress: whether to show a progress bar and a table.

    Raises:
        InputError: the simulator takes no SMILES, gives nothing that can be used, or answers for no molecule.
    """
    simulator = rung.simulator
    if {v.name for v in simulator.spec.inputs} != {"smiles"}:
        raise InputError(f"{simulator.name} takes no SMILES", where="on", remedy="Name a simulator of molecules")
    outputs = usable_outputs(simulator, rung.outputs, lists=("atom", NAMED))
    used = np.unique(np.concatenate([split[name] for name in split.parts]))
    # Canonical SMILES: a molecule is asked once, however it is written.
    texts = canonical([smiles[i] for i in used])
    requests = [dataset(simulator.spec.inputs, {"smiles": text}) for text in texts]
    some = RungColumns.of(simulator, outputs, rung.ask(requests, [v.name for v in outputs], store, progress=progress))
    if not some.ok.any():
        raise InputError(f"{simulator.name} answers for none of {len(used):,} molecules: {some.reasons[0]}", where="on")
    if not some.ok.all():
        first = int(np.argmin(some.ok))
        LOG.warning(
            "%s does not answer for %d of %d molecules, which are left out, such as %s: %s",
            simulator.name, int((~some.ok).sum()), len(used), texts[first], some.reasons[first] or "not finite",
        )  # fmt: skip
    values, reasons = np.full((len(smiles), some.values.shape[1]), np.nan), ["in no part"] * len(smiles)
    values[used] = some.values
    for row, reason in zip(used, some.reasons, strict=True):
        reasons[row] = reason
    fine = np.isfinite(values).all(axis=1)
    kept = Split({name: rows[fine[rows]] for name, rows in split.parts.items()})
    return RungColumns(simulator, outputs, values, reasons, some.core_seconds, len(used)), kept
