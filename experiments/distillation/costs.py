"""What a distillation costs and saves: processor time of an answer, break-even, and equal time without a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.costs import label_core_seconds, training_core_seconds
from data.files import write_json
from data.json_files import read_plain
from experiments.application.usage import cpu_seconds
from experiments.comparison.break_even import break_even
from surrogates.learning.loop import FitResult
from surrogates.saved import CARD

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


def epochs_at_equal_time(history: Sequence[Mapping[str, float]], core_seconds: float, spent: float, steps: int) -> int:
    """Epochs of a training of the same network whose processor time is that of the whole distillation.

    The compilation is taken from the first epoch, which is the only one that has it.

    Args:
        history: rows of the student's training.
        core_seconds: processor time of that training.
        spent: processor time of the distillation: that training and the answers of the teacher.
        steps: steps of an epoch of the other training.
    """
    first, last = history[0], history[-1]
    before = len(history) > 1 and last["seconds"] > 0 and last["step"] > first["step"]
    share = (last["seconds"] - first["seconds"]) / last["seconds"] if before else 1.0
    counted = last["step"] - first["step"] if before else last["step"]
    each = core_seconds * share / counted
    once = max(0.0, core_seconds - each * last["step"])
    return max(1, round((spent - once) / (each * max(steps, 1))))


def fit_costs(prefix: str, result: FitResult) -> dict[str, float]:
    """Cost and epochs of a training as metrics."""
    costs = {f"{prefix}/train_core_seconds": result.core_seconds}
    if result.epochs is not None:
        costs[f"{prefix}/epochs"] = result.epochs[0]
    return costs


def kept_epochs(path: Path, epochs: int) -> int:
    """The epochs of the training on labels alone; a run that resumes takes those that it began with."""
    if not path.is_file():
        write_json(path, {"epochs": epochs})
    return int(read_plain(path, dict[str, int], remedy="Remove it")["epochs"])
