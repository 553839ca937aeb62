"""`understudy evaluate`: score a trained surrogate on files that its training did not see."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig
from omegaconf.errors import MissingMandatoryValue

from data.errors import InputError
from data.files import write_json
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build, existing_file, names, refuse_equal_stems
from data.structures.frame_settings import KeySettings
from data.terminal import show_pairs
from experiments.application.run_directory import rejects_path
from experiments.application.stage import StageSettings, application, reading_shown
from surrogates.family import FAMILIES, Family
from surrogates.learning.devices import enable_compilation_cache
from surrogates.learning.learned_from import read_hashes
from surrogates.saved import load_surrogate, read_card, surrogate_directory

#: Keys that only some kinds of surrogates use, and why the others do not.
ONLY_SOME = {
    "data.test": "is scored by forecasts=held_out forecasts.file=WINDOWS",
    "head": "has one head",
    "data.smiles": "reads no SMILES",
    "data.target": "is compared under the names of what it learned",
    **{f"data.{key.name}": "reads no frames with labels" for key in fields(KeySettings)},
}


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


def evaluate(config: DictConfig, run_dir: Path) -> None:
    """Score a surrogate on each file, with metrics under `test/<stem>/...`, and by the studies that are chosen."""
    settings = build(EvaluateSettings, config, where="")
    files = [existing_file(name, "data.test") for name in names(settings.data.test, "data.test")]
    refuse_equal_stems(files, "data.test")
    studies = [name for name in STUDIES if getattr(settings, name) is not None]
    if settings.surrogate is None and studies == ["forecasts"]:
        # References alone, without a forecaster.
        write_metrics(forecast_study(None, None, config, run_dir), studies, run_dir)
        return
    directory = surrogate_directory(settings.surrogate, "surrogate")
    family = FAMILIES[read_card(directory)["kind"]]
    refuse_other_studies(family, studies, files)
    enable_compilation_cache()
    chosen = {**asdict(settings.data), "head": settings.head}
    surrogate = family.task.ready(load_surrogate(directory), chosen)
    metrics: dict[str, float] = {}
    readings: list[Reading] = []
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        metrics |= family.task.evaluate(surrogate, files, chosen, rejects, readings, learned=read_hashes(directory))
    for name in studies:
        metrics |= STUDIES[name](surrogate, directory, config, run_dir)
    write_metrics(metrics, studies, run_dir)


def refuse_other_studies(family: Family, studies: Sequence[str], files: Sequence[Path]) -> None:
    """Refuse studies of other kinds of surrogates, and an evaluation on nothing.

    Args:
        family: the kind of the surrogate.
        studies: chosen keys of `STUDIES`.
        files: files to score on.

    Raises:
        InputError: a study is about another kind, or there is neither a file nor a study.
    """
    for name in studies:
        if family.study != name:
            others = " or ".join(other.name for other in FAMILIES.values() if other.study == name)
            problem = f"it compares surrogates of {others}, and this is one of {family.name}"
            raise InputError(problem, where=name, remedy="Leave it out")
    if files or studies:
        return
    if family.study == "forecasts":
        raise InputError(
            "the states to forecast are not named",
            where="forecasts",
            remedy="Give forecasts=held_out forecasts.file=WINDOWS",
        )
    raise InputError("a file is needed", where="data.test", remedy="Give data.test=[FILE]")


def forecast_study(surrogate: Any, directory: Path | None, config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Compare forecasts with references by the scores of WeatherBench 2, and write a page."""
    from experiments.forecasting.forecast_evaluation import evaluate_forecaster

    return evaluate_forecaster(surrogate, directory, config.forecasts, run_dir)[1]


def solver_study(surrogate: Any, directory: Path | None, config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Compare a surrogate of fields with its solver on coarser grids, at equal error or cost."""
    from experiments.comparison.solver_comparison import compare_with_solver

    return compare_with_solver(surrogate, config.comparison, run_dir, len(os.sched_getaffinity(0)))[1]


#: Group of the configuration -> the study that it sets; `Family.study` says which surrogates have it.
STUDIES: Mapping[str, Callable[[Any, Path | None, DictConfig, Path], dict[str, float]]] = {
    "comparison": solver_study,
    "forecasts": forecast_study,
}


def write_metrics(metrics: dict[str, float], studies: Sequence[str], run_dir: Path) -> None:
    """Write `metrics.json`, and print the table that ends the stage."""
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    shown = {k: f"{v:.6g}" for k, v in metrics.items() if not k.startswith(("comparison/", "forecast/"))}
    page = {"page": run_dir / "forecast.html"} if "forecasts" in studies else {}
    show_pairs("Evaluated", {**shown, "metrics": run_dir / "metrics.json", **page})


def unused_in_evaluation(config: DictConfig) -> dict[str, str]:
    """Keys that this kind of surrogate does not use, with the reason; see `experiments.application.strict`."""
    try:
        kind = str(read_card(surrogate_directory(config.surrogate, "surrogate"))["kind"])
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return {}
    used = FAMILIES[kind].task.EVALUATED_WITH
    return {key: f"a surrogate of {kind} {why}" for key, why in ONLY_SOME.items() if key not in used}


main = application("evaluate", evaluate, unused=unused_in_evaluation)
