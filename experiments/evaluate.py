"""`understudy evaluate`: score a trained surrogate on files that its training did not see."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.files import write_json
from data.rejects import RejectLog
from experiments.stage import StageSettings, application, build, existing_file, names, refuse_equal_stems, summary
from experiments.train import read_table, score_table
from surrogates.base import load_surrogate, read_card
from surrogates.devices import enable_compilation_cache
from surrogates.graph.molecular import MolecularSurrogate


@dataclass(frozen=True)
class ScoredData:
    """What to score on.

    Attributes:
        test: files, each scored apart; may be left out where there is a comparison.
        smiles: column that holds SMILES, in tables.
        target: columns to compare with, in the order of the surrogate's targets; None for columns of their names.
    """

    test: Any = field(default_factory=list)
    smiles: str = "smiles"
    target: Any = None


@dataclass(frozen=True)
class EvaluateSettings(StageSettings):
    """The keys of `understudy evaluate`."""

    surrogate: str = MISSING
    head: str | None = None
    comparison: Any = None
    forecasts: Any = None
    data: ScoredData = field(default_factory=ScoredData)


def surrogate_directory(value: str | None) -> Path:
    """The directory of a surrogate, from its own path or from that of the run that made it."""
    path = existing_file(value, "surrogate")
    for candidate in (path, path / "surrogate"):
        if (candidate / "surrogate.json").exists():
            return candidate
    raise InputError("no surrogate.json in it", where=str(path), remedy="Name a directory that understudy train made")


def compared(targets: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """The column that each target is compared with: of its own name where none is given.

    Raises:
        InputError: columns are given, and not one for each target.
    """
    if columns and len(columns) != len(targets):
        raise InputError(
            f"{len(columns)} columns are named, the surrogate has {len(targets)} targets ({', '.join(targets)})",
            where="data.target",
            remedy="Name one column for each, in that order",
        )
    return dict(zip(targets, columns or targets, strict=True))


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Score on each of the files, under `test/<stem>/...`."""
    settings = build(EvaluateSettings, config, where="")
    files = [existing_file(name, "data.test") for name in names(settings.data.test)]
    refuse_equal_stems(files, "data.test")
    directory = surrogate_directory(settings.surrogate)
    kind = read_card(directory)["kind"]
    if kind == "weather" and settings.forecasts is None:
        raise InputError(
            "which states to forecast is not said",
            where="forecasts",
            remedy="Give forecasts=held_out forecasts.file=WINDOWS",
        )
    if settings.forecasts is not None and kind != "weather":
        raise InputError(f"a {kind} surrogate makes no forecasts", where="forecasts", remedy="Leave it out")
    if not files and settings.comparison is None and settings.forecasts is None:
        raise InputError("a file is needed", where="data.test", remedy="Give data.test=[FILE]")
    if settings.comparison is not None and kind != "field":
        raise InputError(f"a {kind} surrogate has no solver of fields", where="comparison", remedy="Leave it out")
    enable_compilation_cache()
    surrogate = load_surrogate(directory)
    metrics: dict[str, float] = {}
    if isinstance(surrogate, MolecularSurrogate):
        columns = compared(surrogate.targets, names(settings.data.target))
        with RejectLog(run_dir / "rejects.csv") as rejects:
            for path in files:
                labels = read_table(path, settings.data.smiles, list(columns.values()), [], rejects)
                rows = np.arange(len(labels.smiles))
                metrics |= score_table(surrogate, labels, rows, f"test/{path.stem}", columns)
    elif kind == "field":
        from experiments.fields import evaluate_fields

        with RejectLog(run_dir / "rejects.csv") as rejects:
            metrics |= evaluate_fields(directory, files, rejects)
        if settings.comparison is not None:
            from experiments.fluid_comparison import compare_with_solver

            cores = len(os.sched_getaffinity(0))
            metrics |= compare_with_solver(surrogate, config.comparison, run_dir, cores)[1]
    elif kind == "weather":
        from experiments.weather.evaluate import evaluate_forecaster

        metrics |= evaluate_forecaster(surrogate, directory, config.forecasts, run_dir)[1]
    elif kind == "mesh":
        from experiments.meshes import evaluate_meshes

        with RejectLog(run_dir / "rejects.csv") as rejects:
            metrics |= evaluate_meshes(surrogate, files, rejects)
    elif kind == "parametric":
        from experiments.parameters import evaluate_parametric

        columns = compared(surrogate.targets, names(settings.data.target))
        with RejectLog(run_dir / "rejects.csv") as rejects:
            metrics |= evaluate_parametric(surrogate, files, columns, rejects)
    else:
        from experiments.forces import evaluate_forces

        with RejectLog(run_dir / "rejects.csv") as rejects:
            metrics |= evaluate_forces(directory, files, rejects, head=settings.head)
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    shown = {k: f"{v:.6g}" for k, v in metrics.items() if not k.startswith(("comparison/", "forecast/"))}
    page = {"page": run_dir / "forecast.html"} if kind == "weather" else {}
    summary("Evaluated", {**shown, "metrics": run_dir / "metrics.json", **page})


main = application("evaluate", evaluate, root="apply")
