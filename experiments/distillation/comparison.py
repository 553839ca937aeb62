"""The errors of teacher, student, and of the student without a teacher, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data.files import write_json
from data.plain import to_plain
from experiments.pages.distilled_errors import ALONE, CARD, error_keys, is_error
from surrogates.learning.teaching import Teacher


def ratios(metrics: Mapping[str, float]) -> dict[str, float]:
    """Errors of the student over those of the teacher, `error_over_teacher/...`, and over those of labels alone."""
    compared: dict[str, float] = {}
    for key in error_keys(metrics):
        compared[f"error_over_teacher/{key}"] = metrics[f"student/{key}"] / metrics[f"teacher/{key}"]
        if metrics.get(f"{ALONE}/{key}", 0.0) > 0:
            compared[f"error_over_alone/{key}"] = metrics[f"student/{key}"] / metrics[f"{ALONE}/{key}"]
    return compared


def write_card(run_dir: Path, teacher: Teacher, item: str) -> None:
    """Write who the teacher was, and what it was asked about."""
    write_json(run_dir / CARD, {"teacher": to_plain(teacher), "item": item})


def closing_rows(metrics: Mapping[str, float]) -> dict[str, str]:
    """The rows of the table that ends the stage: inputs, costs, errors and ratios."""
    heads = ("distil/", "error_over_", "agreement/", "teacher/", "student/", f"{ALONE}/")
    last = ("core_us_each", "train_core_seconds", "label_core_seconds", "coverage_90", "seen", "epochs")

    def is_shown(key: str) -> bool:
        if key.startswith(("distil/", "error_over_")):
            return True
        return key.startswith(heads) and (is_error(key) or key.rpartition("/")[2] in last)

    return {key: f"{metrics[key]:.6g}" for head in heads for key in metrics if key.startswith(head) and is_shown(key)}
