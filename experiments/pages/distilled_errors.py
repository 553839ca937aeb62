"""Names of the errors and of the contenders in the metrics of a distillation."""

from __future__ import annotations

from collections.abc import Mapping

#: File of a finished run that says who the teacher was; it is written last but for the page.
CARD = "distillation.json"
#: The same student, trained on the labels alone.
ALONE = "alone"
CONTENDERS = ("teacher", "student", ALONE)


def error_keys(metrics: Mapping[str, float]) -> list[str]:
    """What stands behind "student/" in the keys of errors that the teacher has too, such as "test/mae"."""
    keys = [key.removeprefix("student/") for key in metrics if key.startswith("student/")]
    return sorted(key for key in keys if is_error(key) and metrics.get(f"teacher/{key}", 0.0) > 0)


def is_error(key: str) -> bool:
    """Whether a metric is a mean absolute error, a relative error of fields, the log loss of probabilities, or a CRPS."""
    last = key.rpartition("/")[2]
    return last in ("log_loss", "relative_l2") or last.startswith(("mae", "crps")) or "_mae" in last
