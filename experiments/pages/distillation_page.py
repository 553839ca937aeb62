"""The page of a distillation: cost against error of teacher, student, and the student without a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.pages.accuracy_sections import panel
from experiments.pages.distilled_errors import ALONE, CARD, CONTENDERS, error_keys, is_error
from experiments.pages.formatting import core_time, count, escape, number, percent
from experiments.pages.reading_section import reading_table
from experiments.pages.run_page import page_of_run
from experiments.pages.screen_page import json_or_empty, numbers_table
from experiments.pages.style import BLUE, GREEN, VERMILLION, draw, logarithmic
from surrogates.learning.teaching import ON_LABELS

#: Words and colour of each contender.
LOOK: Mapping[str, tuple[str, str]] = {
    "teacher": ("teacher", VERMILLION),
    "student": ("student", BLUE),
    ALONE: ("same network, labels alone", GREEN),
}
#: What is said of the numbers of a student that has seen no label.
AGAINST_TEACHER = (
    "There were no labels. Every error here is the error against the teacher, and the intervals contain its answers nine "
    "times in ten: how far the teacher is from the truth is not in them."
)
#: Most errors that have a figure.
FIGURES = 4


def is_distillation(run_dir: Path) -> bool:
    """Whether a directory holds a finished distillation."""
    return (run_dir / CARD).is_file() and (run_dir / "metrics.json").is_file()


def render_distillation(run_dir: Path) -> str:
    """The page as text.

    Args:
        run_dir: with `distillation.json`, `metrics.json` and `reading.json`.
    """
    card = json_or_empty(run_dir / CARD)
    metrics = {k: float(v) for k, v in json_or_empty(run_dir / "metrics.json").items() if isinstance(v, int | float)}
    errors = error_keys(metrics)
    item = str(card.get("item", "answer"))
    sections = [("costs", "Cost against error", _figures(metrics, errors, item) + _table(metrics, errors, item))]
    if read := reading_table(run_dir):
        sections.append(("read", "What was read", read))
    teacher = card.get("teacher")
    sections.append(("teacher", "The teacher", numbers_table(_flat(teacher if isinstance(teacher, dict) else {}))))
    sections.append(("numbers", "All numbers of this distillation", numbers_table(dict(metrics))))
    tiles = {
        f"{item}s that the teacher answered": metrics.get("distil/answered"),
        f"{item}s outside of its domain": metrics.get("distil/outside_domain"),
        f"{item}s without an answer": metrics.get("distil/failed"),
        "times cheaper than the teacher": metrics.get("distil/speedup"),
        "core-seconds of the distillation": metrics.get("distil/core_seconds"),
        "answers from which it pays": metrics.get("distil/break_even_answers"),
    }
    return page_of_run(
        f"Distillation “{run_dir.resolve().name}”",
        subtitle=f"A student of {escape(_flat(teacher or {}).get('name', 'a teacher'))}",
        finding=_finding(metrics, errors, item),
        accuracy=AGAINST_TEACHER
        if _without_labels(teacher)
        else "Errors are those on labels that neither the student nor its intervals have learned from; the teacher "
        "may have learned from some, which the log of the run says.",
        tiles={text: None if value is None else _shown(text, value) for text, value in tiles.items()},
        sections=sections,
    )


def _without_labels(teacher: Any) -> bool:
    """Whether the answers of the teacher, and not labels, calibrated the intervals."""
    return isinstance(teacher, dict) and teacher.get("calibrated_on", ON_LABELS) != ON_LABELS


def _shown(name: str, value: float) -> str:
    return number(value) if name.startswith(("times", "core")) else count(value)


def _flat(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the teacher, its weights among them."""
    weights = teacher.get("weights")
    named = {f"weight of {k}": v for k, v in weights.items()} if isinstance(weights, Mapping) else {}
    return {k: v for k, v in teacher.items() if k != "weights"} | named


def _finding(metrics: Mapping[str, float], errors: Sequence[str], item: str) -> str:
    """What came of it in one or two sentences."""
    speed = metrics.get("distil/speedup", float("nan"))
    said = [f"An answer of the student costs {_ratio(1 / speed)} of one of its teacher."]
    for key in errors[:1]:
        others = [f"{_ratio(metrics[f'student/{key}'] / metrics[f'teacher/{key}'])} of that of the teacher"]
        if f"{ALONE}/{key}" in metrics:
            ratio = metrics[f"student/{key}"] / metrics[f"{ALONE}/{key}"]
            others.append(f"{_ratio(ratio)} of that of the same network trained on labels alone for as long")
        said.append(f"Its error ({escape(key)}) is {' and '.join(others)}.")
    errors_against = {k: v for k, v in metrics.items() if k.startswith("agreement/") and is_error(k)}
    if not errors and errors_against:
        key, value = min(errors_against.items())
        covered = metrics.get(f"{key.rpartition('/')[0]}/coverage_90", metrics.get("agreement/forces_coverage_90"))
        inside = "" if covered is None else f"; its intervals contain {percent(covered)} of the answers of the teacher"
        said.append(f"Its error against the teacher ({escape(key)}) is {number(value)}{inside}.")
    many = metrics.get("distil/break_even_answers")
    said.append(
        f"It pays from {count(many)} {item}s on: the distillation took {core_time(metrics['distil/core_seconds'])}."
        if many is not None
        else "It never pays in processor time, because its answers are not cheaper than those of the teacher."
    )
    return " ".join(said)


def _ratio(value: float) -> str:
    return percent(value) if value < 2 else f"{number(value)} times"


def _figures(metrics: Mapping[str, float], errors: Sequence[str], item: str) -> str:
    """A figure for each of the first errors."""
    if not errors:
        return "<p>No labels were given, so that only the error against the teacher is known (agreement/ below).</p>"
    panels = [
        panel(
            draw(partial(_paint, metrics=metrics, key=key, item=item), name=f"cost-{k}", label=f"{key} against cost"),
            escape(key),
            "Each point is a contender; farther left is cheaper, farther down is better.",
        )
        for k, key in enumerate(errors[:FIGURES])
    ]
    return f'<div class="panels">{"".join(panels)}</div>'


def _paint(axes: Axes, metrics: Mapping[str, float], key: str, item: str) -> None:
    """Error against the cost of an answer."""
    for name in CONTENDERS:
        # The same network costs the same, whatever it learned.
        cost = metrics.get(f"{'student' if name == ALONE else name}/core_us_each")
        error = metrics.get(f"{name}/{key}")
        if cost is None or error is None:
            continue
        words, colour = LOOK[name]
        axes.plot(cost, error, "o", color=colour, markersize=8, label=words)
        axes.annotate(words, (cost, error), (7, 5), textcoords="offset points", fontsize=8.6, color=colour)
    logarithmic(axes, "x")
    axes.margins(0.35, 0.3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"processor time of a {item} (µs)")
    axes.set_ylabel(key.rpartition("/")[2].replace("_", " "))


def _table(metrics: Mapping[str, float], errors: Sequence[str], item: str) -> str:
    """Cost and errors of each contender."""
    shown = [*errors, *sorted({k.partition("/")[2] for k in metrics if k.startswith("student/") and _of_interval(k)})]
    heads = ["", f"core-µs a {item}", "training, core-s", "labels, core-s", *shown]
    rows = []
    for name in CONTENDERS:
        if not any(key.startswith(f"{name}/") for key in metrics):
            continue
        cells = [
            LOOK[name][0],
            metrics.get(f"{'student' if name == ALONE else name}/core_us_each"),
            metrics.get(f"{name}/train_core_seconds"),
            metrics.get(f"{name}/label_core_seconds"),
            *(metrics.get(f"{name}/{key}") for key in shown),
        ]
        texts = (cell if isinstance(cell, str) else "" if cell is None else number(cell, 4) for cell in cells)
        rows.append("".join(f"<td>{escape(text)}</td>" for text in texts))
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="note">The training of the student does not contain the answers of the teacher, which took '
        f"{core_time(metrics.get('distil/answers_core_seconds', 0.0))}; that of the same network without a teacher was "
        "given the time of both. What the teacher cost itself is shown where its run says it.</p>"
    )


def _of_interval(key: str) -> bool:
    return key.rpartition("/")[2].startswith(("coverage_90", "interval_width")) or "coverage" in key.rpartition("/")[2]
