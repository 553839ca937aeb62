"""`understudy evaluate`: score a trained surrogate on files that its training did not see."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig
from omegaconf.errors import MissingMandatoryValue

from data.errors import InputError
from data.files import write_json
from data.identity import molecule_keys
from data.reading import Reading
from data.rejects import RejectLog
from data.structures.frame_names import FrameKeys
from experiments.application.run_directory import rejects_path
from experiments.application.stage import (
    StageSettings,
    application,
    build,
    existing_file,
    names,
    refuse_equal_stems,
    show_readings,
    summary,
    surrogate_directory,
)
from experiments.stages.train import score_table
from experiments.tasks.frames import KeySettings
from experiments.tasks.overlap import Overlap
from experiments.tasks.parts import say_other_labels
from experiments.tasks.tables import Table, read_table
from surrogates.learning.devices import enable_compilation_cache
from surrogates.learning.learned_from import read_hashes
from surrogates.properties.surrogate import MolecularSurrogate
from surrogates.trained import load_surrogate, read_card


@dataclass(frozen=True)
class ScoredData(KeySettings):
    """The data to score on; the keys of `KeySettings` apply to files of frames.

    Attributes:
        test: files, each scored separately; may be omitted if there is a comparison.
        smiles: column of a table that holds SMILES.
        target: columns to compare with, in the order of the surrogate's targets; None for the columns that have the
            names of the targets.
        dims: dims of unnamed arrays of fields, as in training.
    """

    test: Any = field(default_factory=list)
    smiles: str = "smiles"
    target: Any = None
    dims: Any = None


@dataclass(frozen=True)
class EvaluateSettings(StageSettings):
    """The keys of `understudy evaluate`."""

    surrogate: str | None = MISSING
    head: str | None = None
    comparison: Any = None
    forecasts: Any = None
    data: ScoredData = field(default_factory=ScoredData)


def compared(targets: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """The column that each target is compared with, which by default has the name of the target.

    Raises:
        InputError: columns are named, but not exactly one for each target.
    """
    if columns and len(columns) != len(targets):
        raise InputError(
            f"{len(columns)} columns are named, the surrogate has {len(targets)} targets ({', '.join(targets)})",
            where="data.target",
            remedy="Name one column for each, in that order",
        )
    if repeated := [name for name in columns if list(columns).count(name) > 1]:
        raise InputError(
            f"{repeated[0]} is named for more than one of the targets ({', '.join(targets)})",
            where="data.target",
            remedy="Name another column for each, in that order",
        )
    return dict(zip(targets, columns or targets, strict=True))


def in_units_of(surrogate: MolecularSurrogate, table: Table, columns: Mapping[str, str], path: Path) -> Table:
    """The table with a note for each column whose file names no unit; it is assumed to be in the surrogate's unit.

    Args:
        surrogate: surrogate that is scored.
        table: content of `path`.
        columns: target -> column.
        path: file that error messages name.

    Raises:
        InputError: a column has another unit than its target.
    """
    assumed = []
    for target, column in columns.items():
        ours, theirs = surrogate.facts.units[target], table.units[column]
        if "1" not in (ours, theirs) and ours != theirs:
            raise InputError(
                f"{column} is in {theirs}, the surrogate gives {target} in {ours}",
                where=str(path),
                remedy=f"Convert it to {ours}",
            )
        if theirs == "1" and ours != "1":
            assumed.append(f"{column} is in {ours}, in which the surrogate gives {target}")
    reading = replace(table.reading, assumed=(*table.reading.assumed, *assumed))
    return replace(table, reading=reading)


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Score a surrogate on each file, with metrics under `test/<stem>/...`."""
    settings = build(EvaluateSettings, config, where="")
    files = [existing_file(name, "data.test") for name in names(settings.data.test)]
    refuse_equal_stems(files, "data.test")
    if settings.surrogate is None and settings.forecasts is not None:
        from experiments.forecasting.scoring import evaluate_forecaster

        _write_metrics(evaluate_forecaster(None, None, config.forecasts, run_dir)[1], "forecasts", run_dir)
        return
    directory = surrogate_directory(settings.surrogate, "surrogate")
    kind = read_card(directory)["kind"]
    if kind == "forecasts" and settings.forecasts is None:
        raise InputError(
            "the states to forecast are not named",
            where="forecasts",
            remedy="Give forecasts=held_out forecasts.file=WINDOWS",
        )
    if settings.forecasts is not None and kind != "forecasts":
        raise InputError(f"a surrogate of {kind} makes no forecasts", where="forecasts", remedy="Leave it out")
    if not files and settings.comparison is None and settings.forecasts is None:
        raise InputError("a file is needed", where="data.test", remedy="Give data.test=[FILE]")
    if settings.comparison is not None and kind != "fields":
        raise InputError(f"a surrogate of {kind} has no solver of fields", where="comparison", remedy="Leave it out")
    if kind != "potentials" and settings.data.keys("data.") != FrameKeys():
        raise InputError(f"a surrogate of {kind} has no frames with labels", where="data", remedy="Leave the *_key out")
    enable_compilation_cache()
    surrogate = load_surrogate(directory)
    metrics: dict[str, float] = {}
    readings: list[Reading] = []
    if isinstance(surrogate, MolecularSurrogate):
        columns = compared(surrogate.targets, names(settings.data.target))
        with RejectLog(rejects_path(run_dir)) as rejects:
            tables = {
                path.stem: read_table(path, settings.data.smiles, list(columns.values()), [], rejects) for path in files
            }
        for path in files:
            tables[path.stem] = in_units_of(surrogate, tables[path.stem], columns, path)
        for path in files:
            table = tables[path.stem]
            readings.append(table.reading)
            if path.is_dir():
                say_other_labels(readings, table.fingerprint, surrogate.labels_fingerprint)
            overlap = Overlap.among(read_hashes(directory), molecule_keys(table.smiles), "molecules")
            overlap.note(readings)
            metrics |= table.counts(f"test/{path.stem}")
            metrics |= overlap.scores(f"test/{path.stem}", partial(_scored, surrogate, table, columns))
    elif kind == "fields":
        from experiments.tasks.fields import evaluate_fields

        with RejectLog(rejects_path(run_dir)) as rejects:
            metrics |= evaluate_fields(directory, files, rejects, readings, dims=settings.data.dims)
        if settings.comparison is not None:
            from experiments.comparison.fluids import compare_with_solver

            cores = len(os.sched_getaffinity(0))
            metrics |= compare_with_solver(surrogate, config.comparison, run_dir, cores)[1]
    elif kind == "forecasts":
        from experiments.forecasting.scoring import evaluate_forecaster

        metrics |= evaluate_forecaster(surrogate, directory, config.forecasts, run_dir)[1]
    elif kind == "meshes":
        from experiments.tasks.meshes import evaluate_meshes

        with RejectLog(rejects_path(run_dir)) as rejects:
            metrics |= evaluate_meshes(surrogate, files, rejects, readings, learned=read_hashes(directory))
    elif kind == "parameters":
        from experiments.tasks.parameters import evaluate_parametric

        outputs = [v.name for v in surrogate.facts.layout.outputs]
        columns = compared(outputs, names(settings.data.target))
        with RejectLog(rejects_path(run_dir)) as rejects:
            metrics |= evaluate_parametric(surrogate, files, columns, rejects, readings, learned=read_hashes(directory))
    else:
        from experiments.tasks.force_scores import evaluate_forces

        with RejectLog(rejects_path(run_dir)) as rejects:
            metrics |= evaluate_forces(
                directory, files, rejects, head=settings.head, keys=settings.data.keys("data."), run_dir=run_dir
            )
    show_readings(readings, run_dir)
    _write_metrics(metrics, kind, run_dir)


def _scored(
    surrogate: MolecularSurrogate, table: Table, columns: Mapping[str, str], rows: np.ndarray, prefix: str
) -> dict[str, float]:
    return score_table(surrogate, table, rows, prefix, columns)


def _write_metrics(metrics: dict[str, float], kind: str, run_dir: Path) -> None:
    """Write `metrics.json`, and print the table that ends the stage."""
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    shown = {k: f"{v:.6g}" for k, v in metrics.items() if not k.startswith(("comparison/", "forecast/"))}
    page = {"page": run_dir / "forecast.html"} if kind == "forecasts" else {}
    summary("Evaluated", {**shown, "metrics": run_dir / "metrics.json", **page})


def unused_in_evaluation(config: DictConfig) -> dict[str, str]:
    """Keys that this kind of surrogate does not use, with the reason; see `experiments.application.strict`."""
    try:
        kind = str(read_card(surrogate_directory(config.surrogate, "surrogate"))["kind"])
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return {}
    unused: dict[str, str] = {}
    if kind != "potentials":
        unused["head"] = f"a surrogate of {kind} has one head"
    if kind != "properties":
        unused["data.smiles"] = f"a surrogate of {kind} reads no SMILES"
    if kind not in ("properties", "parameters"):
        unused["data.target"] = f"a surrogate of {kind} is compared under the names of what it learned"
    if kind == "forecasts":
        unused["data.test"] = "states to forecast are given as forecasts.file"
    return unused


main = application("evaluate", evaluate, unused=unused_in_evaluation)
