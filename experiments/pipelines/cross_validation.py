"""Cross-validation of a training: one surrogate for each fold, and the mean and spread of each score over the folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.files import write_json
from data.json_files import read_plain
from data.terminal import columns_table, print_table
from experiments.application.run_directory import configuration_checked
from surrogates.learning.resuming import record_training_data
from surrogates.learning.task import Task

#: File of the scores of each fold, and of their mean and standard deviation.
SUMMARY = "cross_validation.json"
FOLD_METRICS = "metrics.json"


def cross_validate(
    task: Task[Any, Any, Any],
    data: Any,
    count: int,
    run_dir: Path,
    train_on: Callable[..., dict[str, float]],
    *,
    progress: bool = True,
) -> dict[str, float]:
    """Train once for each fold, in `run_dir/fold-N`, and summarise the scores of the folds in `cross_validation.json`.

    A fold that has its `metrics.json` is finished and is not trained again; one that was stopped resumes.

    Args:
        task: training of a kind of surrogate that has folds.
        data: what `task.read` returned.
        count: number of folds, 2 or more.
        run_dir: directory of the run.
        train_on: trains on one fold; see `experiments.stages.train.train_on`.
        progress: whether to show progress bars and tables.

    Returns:
        `NAME/mean` and `NAME/std` of each metric that all folds have, the latter over the folds with ddof=1.

    Raises:
        InputError: there are fewer than two folds, the data do not fit them, or the run has folds of other data.
    """
    if count < 2:
        raise InputError(f"{count} folds", where="cross_validation", remedy="Ask for 2 or more, such as 5")
    parts, content = task.folds(data, count)
    places = [run_dir / f"fold-{k + 1}" for k in range(count)]
    begun = any(place.exists() for place in places)
    record_training_data(run_dir, {"data": content, "number of folds": str(count)}, begun=begun)
    configuration_checked(run_dir)
    scores: list[dict[str, float]] = []
    for place, part in zip(places, parts, strict=True):
        if (place / FOLD_METRICS).is_file():
            scores.append(read_plain(place / FOLD_METRICS, dict[str, float], remedy=f"Remove {place}"))
            continue
        place.mkdir(parents=True, exist_ok=True)
        metrics = train_on(task, part, place, progress=progress)
        if metrics:
            write_json(place / FOLD_METRICS, dict(sorted(metrics.items())))
        scores.append(metrics)
    if not all(scores):
        return {}
    summary = summarise(scores)
    wrong = [name for name, one in summary.items() if not np.isfinite([one["mean"], one["std"]]).all()]
    if wrong:
        raise InputError(
            f"the folds have a {wrong[0]} of which there is no mean",
            where=str(run_dir),
            remedy="Remove the fold-* in it",
        )
    write_json(run_dir / SUMMARY, {"folds": count, "metrics": summary})
    if progress:
        shown = {name: one for name, one in summary.items() if name.startswith("test/")}
        rows = [
            (name, f"{one['mean']:.6g} ± {one['std']:.3g}", *(f"{value:.5g}" for value in one["values"]))
            for name, one in shown.items()
        ]
        heads = ["score", "mean ± std", *(f"fold {k + 1}" for k in range(count))]
        print_table(columns_table("Cross-validation", heads, rows))
    return {f"{name}/{end}": one[end] for name, one in summary.items() for end in ("mean", "std")}


def summarise(scores: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation (ddof=1) and values of each metric that all folds have.

    A score that some fold lacks, such as ROC-AUC of a fold with labels of one kind, is left out.
    """
    names = [name for name in scores[0] if all(name in one for one in scores)]
    table = {name: np.array([one[name] for one in scores]) for name in names}
    return {
        name: {"mean": float(values.mean()), "std": float(values.std(ddof=1)), "values": values.tolist()}
        for name, values in sorted(table.items())
    }
