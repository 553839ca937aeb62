"""The page of predictions beside true values: scores of each quantity, a parity plot, or curves of a probability."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from string import Template

from matplotlib.axes import Axes

from data.files import write_text
from experiments.pages.accuracy_sections import panel
from experiments.pages.formatting import count, escape, number, percent
from experiments.pages.reading_section import reading_table
from experiments.pages.screen_page import numbers_table
from experiments.pages.style import BLUE, draw
from experiments.prediction.truth import ProbabilityTruth, Truth, TruthScores
from surrogates.learning.scores import unit_suffix

PAGE = "report.html"


def write_page(run_dir: Path, out: Path, scores: Mapping[str, Truth], metrics: Mapping[str, float]) -> Path:
    """Write `report.html` of a run.

    Args:
        run_dir: directory of the run.
        out: the file of predictions.
        scores: scores of each quantity; those without pairs are left out.
        metrics: all metrics of the run.
    """
    shown = {name: one for name, one in scores.items() if one.pairs}
    sections = [(f"q{k}", name, _section(f"q{k}", name, one)) for k, (name, one) in enumerate(shown.items())]
    sections.append(("read", "What was read", reading_table(run_dir)))
    sections.append(("numbers", "All numbers", numbers_table(dict(metrics))))
    template = Template(resources.files("experiments.pages").joinpath("page.html").read_text(encoding="utf-8"))
    text = template.substitute(
        title=f"Predictions in “{escape(out.name)}”",
        subtitle="True values stand in the same file",
        warnings="",
        finding=" ".join(_sentence(name, one) for name, one in shown.items()),
        accuracy="The truth is what the input holds; whether the surrogate learned from it is not checked here "
        "(understudy evaluate does).",
        tiles="".join(
            f'<div class="tile"><b>{count(one.pairs)}</b><span>pairs of {escape(name)}</span></div>'
            for name, one in shown.items()
        ),
        contents="".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections),
        sections="\n".join(
            f'<section id="{anchor}"><h2>{escape(heading)}</h2>{body}</section>' for anchor, heading, body in sections
        ),
        footer="Written by <code>understudy predict</code>.",
    )
    write_text(run_dir / PAGE, text)
    return run_dir / PAGE


def _sentence(name: str, scores: Truth) -> str:
    if isinstance(scores, ProbabilityTruth):
        said = scores.metrics()
        area = f"a ROC-AUC of {said['roc_auc']:.3f}, a PR-AUC of {said['pr_auc']:.3f} and " if "roc_auc" in said else ""
        return (
            f"{escape(name)}: {area}an expected calibration error of {said['ece']:.3f} over {scores.pairs:,} labels, "
            f"{percent(said['positives'])} of them 1."
        )
    metrics, suffix = scores.metrics(), unit_suffix(scores.unit)
    unit = "" if scores.unit in ("", "1") else f" {escape(scores.unit)}"
    coverage = (
        f" {percent(metrics['coverage_90'])} of the intervals hold the truth." if "coverage_90" in metrics else ""
    )
    return (
        f"{escape(name)}: a mean absolute error of {number(metrics[f'mae{suffix}'])}{unit} "
        f"over {scores.pairs:,} values.{coverage}"
        + (
            f" True values are taken in{unit or ' the unit of the predictions'}, but {scores.doubt}."
            if scores.doubt
            else ""
        )
    )


def _section(anchor: str, name: str, scores: Truth) -> str:
    if isinstance(scores, ProbabilityTruth):
        return _of_a_probability(anchor, name, scores)
    label = f"Predicted against true {name}"
    drawing = draw(partial(_parity, name=name, scores=scores), name=f"parity-{anchor}", label=label)
    shown = len(scores.shown)
    sample = f"{shown:,} of {scores.pairs:,} pairs, drawn at random" if shown < scores.pairs else f"all {shown:,} pairs"
    return (
        f'<div class="panels">{panel(drawing, escape(label), f"{sample}; lines are 90% intervals.")}</div>'
        f"{_scores_table(scores.metrics(), scores.unit)}"
    )


def _of_a_probability(anchor: str, name: str, scores: ProbabilityTruth) -> str:
    panels = [
        ("roc", _roc, f"ROC curve of {name}", "Each point is a threshold of the probability; the diagonal is chance."),
        (
            "reliability",
            _reliability,
            f"Reliability of the probability of {name}",
            "Share of ones among molecules of about equal probability; on the diagonal, probabilities are right.",
        ),
    ]
    drawn = [
        panel(draw(partial(plot, name=name, scores=scores), name=f"{kind}-{anchor}", label=label), escape(label), text)
        for kind, plot, label, text in panels
    ]
    return f'<div class="panels">{"".join(drawn)}</div>{_scores_table(scores.metrics(), "1")}'


#: Scores in words; those of an error or a width are in the unit of the quantity.
WORDS: Mapping[str, str] = {
    "pairs": "values with a truth",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "r2": "coefficient of determination",
    "coverage_90": "share of the 90% intervals that hold the truth",
    "interval_width": "mean width of the 90% intervals",
    "roc_auc": "area under the ROC curve",
    "pr_auc": "area under the precision-recall curve",
    "positives": "share of ones",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "expected calibration error",
    "undecided": "share of labels that cannot be told at 90%",
}


def _scores_table(metrics: Mapping[str, float], unit: str) -> str:
    suffix, rows = unit_suffix(unit), []
    for name, value in metrics.items():
        base = name.removesuffix(suffix) if suffix else name
        words = WORDS.get(base, name)
        rows.append((f"{words} ({unit})" if base != name and base in WORDS and unit != "1" else words, name, value))
    cells = "".join(
        f'<tr><td title="{escape(name)}">{escape(words)}</td>'
        f"<td>{count(value) if name == 'pairs' else number(value, 4)}</td></tr>"
        for words, name, value in rows
    )
    return f"<table><tbody>{cells}</tbody></table>"


def _roc(axes: Axes, name: str, scores: ProbabilityTruth) -> None:
    false, true = scores.curve()
    axes.plot((0, 1), (0, 1), color="#8792A2", linewidth=1, zorder=1)
    axes.plot(false, true, color=BLUE, linewidth=1.6, drawstyle="steps-post", zorder=2)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", anchor="W")
    axes.set_xlabel(f"share of the zeros of {name} above the threshold")
    axes.set_ylabel("share of the ones above it")


def _reliability(axes: Axes, name: str, scores: ProbabilityTruth) -> None:
    points = scores.reliability()
    axes.plot((0, 1), (0, 1), color="#8792A2", linewidth=1, zorder=1)
    sizes = 12 + 120 * points[:, 2] / points[:, 2].max()
    axes.scatter(points[:, 0], points[:, 1], s=sizes, color=BLUE, alpha=0.7, linewidth=0, zorder=2)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", anchor="W")
    axes.set_xlabel(f"predicted probability of {name}")
    axes.set_ylabel("share of ones")


def _parity(axes: Axes, name: str, scores: TruthScores) -> None:
    """Predicted against true values, with intervals."""
    pairs = scores.shown
    low, high = float(pairs[:, :2].min()), float(pairs[:, :2].max())
    pad = 0.06 * ((high - low) or 1.0)
    ends = (low - pad, high + pad)
    axes.plot(ends, ends, color="#8792A2", linewidth=1, zorder=1)
    axes.vlines(pairs[:, 0], pairs[:, 2], pairs[:, 3], color=BLUE, alpha=0.3, linewidth=0.8, zorder=2)
    axes.plot(pairs[:, 0], pairs[:, 1], "o", color=BLUE, markersize=3.5, markeredgewidth=0, alpha=0.7, zorder=3)
    # A name may hold its unit already.
    unit = "" if scores.unit in ("", "1") or name.endswith(f"({scores.unit})") else f" ({scores.unit})"
    axes.set(xlim=ends, ylim=ends, aspect="equal", anchor="W")
    axes.set_xlabel(f"{name}, true{unit}")
    axes.set_ylabel(f"{name}, predicted{unit}")
