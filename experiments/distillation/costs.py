"""What a distillation costs and saves: processor time of an answer, break-even, and equal time without a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.costs import label_core_seconds, training_core_seconds
from data.files import write_json
from data.json_files import read_plain
from experiments.application.usage import cpu_seconds
from experiments.comparison.break_even import break_even
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.saved import CARD

#: Epochs that no training reaches.
ENDLESS = 10**9
#: Rounds in which each contender answers once, of which the cheapest counts.
ROUNDS = 5


def core_seconds_each(
    contenders: Mapping[str, Callable[[], Any]], count: int, clock: Callable[[], float] = cpu_seconds
) -> dict[str, float]:
    """Processor time of one answer of each contender, the least of some rounds in which they take turns, s.

    Args:
        contenders: name -> function that answers all inputs.
        count: number of inputs that a function answers.
        clock: processor time so far, s.
    """
    for answer in contenders.values():
        answer()  # compiles
    least = dict.fromkeys(contenders, math.inf)
    for _ in range(ROUNDS):
        for name, answer in contenders.items():
            began = clock()
            answer()
            least[name] = min(least[name], clock() - began)
    return {name: seconds / max(count, 1) for name, seconds in least.items()}


def teacher_costs(directory: Path, scores: Mapping[str, float]) -> dict[str, float]:
    """What the teacher cost, as far as its scores or the metrics of its run say it, in core-seconds.

    Args:
        directory: directory of the saved teacher; that of its run is the one above.
        scores: of the teacher.

    Returns:
        `teacher/train_core_seconds` and `teacher/label_core_seconds`; what is not known is left out.
    """
    metrics, run = dict(scores), directory.parent / "metrics.json"
    if directory.name == "surrogate" and (directory / CARD).is_file() and run.is_file():
        metrics |= read_plain(run, dict[str, Any], remedy="Restore it from a copy, or remove it")
    costs = {"train": training_core_seconds(metrics), "label": label_core_seconds(metrics)}
    return {f"teacher/{name}_core_seconds": cost for name, cost in costs.items() if cost}


def spent_and_saved(each: Mapping[str, float], spent: float) -> dict[str, float]:
    """Metrics of the costs of an answer, the distillation, and the number of answers from which it pays.

    Args:
        each: core-seconds of an answer of the teacher and of the student.
        spent: core-seconds of the distillation.
    """
    metrics = {f"{name}/core_us_each": 1e6 * seconds for name, seconds in each.items()}
    metrics |= {"distil/core_seconds": spent, "distil/speedup": each["teacher"] / each["student"]}
    answers = break_even(spent, each["teacher"], each["student"])
    return metrics | ({"distil/break_even_answers": answers} if math.isfinite(answers) else {})


def fit_costs(prefix: str, result: FitResult) -> dict[str, float]:
    """Cost and epochs of a training as metrics."""
    costs = {f"{prefix}/train_core_seconds": result.core_seconds}
    if result.epochs is not None:
        costs[f"{prefix}/epochs"] = result.epochs[0]
    return costs


def at_equal_time(training: TrainConfig, path: Path, spent: float) -> TrainConfig:
    """The recipe of the same network on labels alone, which ends after the processor time of the whole distillation.

    Its learning rate falls with that time. It counts from the compilation on, as the student's does.

    Args:
        training: recipe of the student.
        path: file that keeps the time, so that a run that resumes has that with which it began.
        spent: processor time of the distillation: the training of the student and the answers of the teacher, s.
    """
    kept = read_plain(path, dict[str, float], remedy="Remove it") if path.is_file() else {}
    if "core_seconds" not in kept:
        kept = {"core_seconds": spent}
        write_json(path, kept)
    return replace(training, epochs=ENDLESS, max_core_seconds=kept["core_seconds"], patience=None, mlflow=False)
