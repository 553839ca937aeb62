"""The page of one or more comparisons: for each a figure, tables, and a paragraph on each surrogate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from data.files import write_text
from experiments.comparison import break_even as fr
from experiments.comparison.contenders import Point
from experiments.comparison.cost_figure import capital, frontier_drawing
from experiments.comparison.resolution import resolution_drawing, words
from experiments.comparison.result import PHRASES, Comparison, break_even_words, speed_words
from experiments.pages.formatting import core_time, count, duration, escape, listing, number, plural, table

METHOD = (
    "The rules are those of McGreivy and Hakim (2024): a solver is compared at equal error or at equal cost, and "
    "only if it is an efficient one. Every contender answered the same requests, at the batch size, of the same "
    "list for all, at which it is cheapest, and the timed rounds of all were interleaved. Cost is processor time "
    "(with an accelerator wall time × cores) from input arrays to output arrays, the least of many rounds; "
    "compilation is left out and stated, resampling onto the grid of the reference is included. The solver’s cost "
    "at a surrogate’s error is interpolated between the two neighbouring rungs, linearly in logarithms; beyond the "
    "last rung there is only a bound."
)


def write_page(comparisons: Sequence[Comparison], path: Path) -> Path:
    """Write the page atomically; it needs no network and no JavaScript.

    Args:
        comparisons: one or more comparisons, each of which gets a section, in this order.
        path: path of the page.
    """
    write_text(path, render(comparisons))
    return path


def render(comparisons: Sequence[Comparison]) -> str:
    """The page as HTML; the same comparisons give the same text."""
    template = Template(resources.files("experiments.pages").joinpath("page.html").read_text(encoding="utf-8"))
    one = comparisons[0] if len(comparisons) == 1 else None
    anchors = [f"problem-{i + 1}" for i in range(len(comparisons))]
    links = [*zip(anchors, [c.title for c in comparisons], strict=True), ("method", "How this was measured")]
    title = f"Solver and surrogate: {one.title}" if one else "Solvers and their surrogates"
    return template.substitute(
        title=escape(title),
        subtitle="Error against cost, at equal error and at equal cost",
        warnings="".join(f'<div class="warning">{escape(c.unsettled)}</div>' for c in comparisons if c.unsettled),
        finding="<br>".join(headline(c, named=one is None) for c in comparisons),
        accuracy="" if one is None else reference_words(one),
        tiles="".join(_tiles(one)) if one else "",
        contents="".join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in links),
        sections="\n".join(section(c, anchor) for c, anchor in zip(comparisons, anchors, strict=True))
        + f'<section id="method"><h2>How this was measured</h2><p>{METHOD}</p></section>',
        footer="Written from <code>comparison.json</code> alone.",
    )


def section(comparison: Comparison, anchor: str) -> str:
    """Figure and tables of one comparison as HTML.

    Args:
        comparison: comparison to show.
        anchor: id of the section, unique on the page; names of its figures begin with it.
    """
    gone = [p for p in comparison.points if not math.isfinite(p.error)]
    caption = (
        f"Means over {plural(comparison.requests, 'trajectory', 'trajectories')}, with standard errors; "
        f"{plural(comparison.cores, 'core')}. Lower and further to the left is better. "
        "Dashed: the distance to the solver at equal error."
    )
    if gone:
        caption += f" Not shown, because their answers are not finite: {escape(listing([p.name for p in gone]))}."
    paragraphs = "".join(f"<p>{worth(p, comparison)}</p>" for p in comparison.surrogates)
    return (
        f'<section id="{anchor}"><h2>{escape(comparison.title)}</h2>'
        f'<div class="panels one"><figure><h3>{figure_heading(comparison)}</h3>'
        f"{frontier_drawing(comparison, name=f'{anchor}-frontier').inline()}<figcaption>{caption}</figcaption></figure>"
        f"</div>{paragraphs}{_resolution(comparison, anchor)}{_worth_table(comparison)}{_points_table(comparison)}"
        f"<p>{reference_words(comparison)}</p></section>"
    )


def _resolution(comparison: Comparison, anchor: str) -> str:
    """The errors of the operator on other grids, as HTML; empty if they were not measured."""
    errors = comparison.resolution
    if len(errors) < 2:
        return ""
    drawing = resolution_drawing(errors, name=f"{anchor}-resolution", floor=3 * comparison.reference_difference)
    caption = (
        "Initial states and truth are those of the reference, resampled to each grid. The solver takes the time step "
        "of the training’s labels, shortened in proportion on finer grids; where it errs less than three times what "
        "the reference does, it is not shown."
    )
    return (
        f'<div class="panels one"><figure><h3>On other grids than that of its training</h3>{drawing.inline()}'
        f"<figcaption>{caption}</figcaption></figure></div><p>{escape(words(errors))}</p>"
    )


def _best(comparison: Comparison) -> Point | None:
    """The surrogate with the largest speed-up at equal error; None if none has a finite error.

    A surrogate whose speed-up has only an upper bound comes first only if there is no other.
    """

    def merit(p: Point) -> tuple[bool, float]:
        reading = fr.speed_up(p, comparison.points)
        return reading.relation != "at most", reading.value

    return max((p for p in comparison.surrogates if math.isfinite(p.error)), key=merit, default=None)


def faster(surrogate: Point, comparison: Comparison) -> str:
    """Whether the solver or the surrogate is faster at equal error, as a clause."""
    reading = fr.speed_up(surrogate, comparison.points)
    value, relation = reading.value, reading.relation
    if (value < 1 and relation != "at least") or (value == 1 and relation == "at most"):
        return f"the solver is faster at equal error: {speed_words(reading)}"
    if value > 1 and relation != "at most":
        return f"the surrogate is faster at equal error: {speed_words(reading)}"
    if value == 1 and relation == "equal":
        return "both cost the same at equal error"
    return f"which is faster at equal error is not known: {speed_words(reading)}"


def figure_heading(comparison: Comparison) -> str:
    """Heading of the figure, as HTML."""
    best = _best(comparison)
    if best is None:
        return "No surrogate has a finite error"
    return f"{escape(best.name)}: {faster(best, comparison)}"


def headline(comparison: Comparison, *, named: bool = False) -> str:
    """The finding in one or two sentences, as HTML."""
    best = _best(comparison)
    start = f"<strong>{escape(comparison.title)}:</strong> " if named else ""
    if best is None:
        return f"{start}No surrogate has a finite error."
    others = len(comparison.surrogates) - 1
    among = f", the best of {others + 1} surrogates" if others else ""
    who = f"{start}With {escape(best.name)}{among}"
    return f"{who}, <strong>{faster(best, comparison)}</strong>. {_pays(best, comparison)}"


def _pays(surrogate: Point, comparison: Comparison) -> str:
    pays = fr.break_even_of(surrogate, comparison.points)
    spent = f"its {core_time(surrogate.up_front)} of labels and training"
    if pays is None:
        return f"The number of trajectories from which {spent} pay is not known."
    if math.isinf(pays.count):
        return f"Counting {spent}, it never pays."
    doubt = " The solver may also be cheaper for any number of them." if pays.relation == "at least" else ""
    return f"Counting {spent}, it pays from {pays.words.removesuffix(', if at all')} trajectories on.{doubt}"


def worth(surrogate: Point, comparison: Comparison) -> str:
    """One surrogate in plain sentences, as HTML."""
    name = f"<strong>{escape(surrogate.name)}</strong>"
    if not math.isfinite(surrogate.error):
        return f"{name} gave {plural(surrogate.non_finite, 'value')} that are not finite, so that it has no error."
    points = comparison.points
    solver, equal_cost = fr.cost_at_error(points, surrogate.error), fr.error_at_cost(points, surrogate.core_seconds)
    sentences = [
        f"{name} errs by {number(surrogate.error)} and costs {core_time(surrogate.core_seconds)} a trajectory.",
        {
            "equal": f"At that error the solver costs {core_time(solver.value)} "
            f"({_between(solver)}): {faster(surrogate, comparison)}.",
            "at least": f"That is more accurate than every rung of the solver, whose best "
            f"({escape(solver.between[0])}) costs {core_time(solver.value)}: {faster(surrogate, comparison)}.",
            "at most": f"That is less accurate than the solver's cheapest rung ({escape(solver.between[0])}), which "
            f"costs {core_time(solver.value)}: {faster(surrogate, comparison)}.",
        }[solver.relation],
        {
            "equal": f"At equal cost the solver errs by {number(equal_cost.value)}, "
            f"{number(equal_cost.value / surrogate.error, 2)} times as much.",
            "at least": f"No rung of the solver is that cheap; its cheapest errs by {number(equal_cost.value)}, "
            f"{number(equal_cost.value / surrogate.error, 2)} times as much.",
            "at most": f"For less than that cost the solver errs by {number(equal_cost.value)}, "
            f"{number(equal_cost.value / surrogate.error, 2)} times as much.",
        }[equal_cost.relation],
        _pays(surrogate, comparison),
    ]
    if comparison.scalar_name and surrogate.spearman is not None and surrogate.kendall is not None:
        sentences.append(
            f"It ranks {escape(comparison.scalar_name)} with Spearman {surrogate.spearman:.3f} and "
            f"Kendall {surrogate.kendall:.3f}."
        )
    return " ".join(sentences)


def _between(reading: fr.Interpolated) -> str:
    names = [escape(n) for n in reading.between]
    if len(names) == 1:
        return f"rung {names[0]}"
    return f"between {names[0]} and {names[1]}, {core_time(reading.low)} to {core_time(reading.high)}"


def reference_words(comparison: Comparison) -> str:
    """The reference, and how far it differs from its own refinement, as HTML."""
    smallest = min(p.error for p in comparison.points)
    return (
        f"The truth is {escape(comparison.reference)}, which differs from its own refinement by "
        f"{number(comparison.reference_difference, 2)} ({escape(comparison.error_name)}): "
        f"{number(smallest / comparison.reference_difference, 2)} times less than the smallest error compared."
    )


def _tiles(comparison: Comparison) -> list[str]:
    best = _best(comparison)
    if best is None:
        return []
    cells = [
        (speed_words(fr.speed_up(best, comparison.points)), "speed-up at equal error"),
        (number(best.error, 2), f"{comparison.error_name} error of {best.name}"),
        (core_time(best.core_seconds), "cost of a trajectory"),
        (break_even_words(best, comparison.points), "break-even (trajectories)"),
    ]
    return [f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>' for value, text in cells]


def _worth_table(comparison: Comparison) -> str:
    rows = []
    for p in comparison.surrogates:
        if not math.isfinite(p.error):
            continue
        gain = fr.accuracy_gain(p, comparison.points)
        rows.append(
            [
                escape(p.name),
                speed_words(fr.speed_up(p, comparison.points)),
                f"{PHRASES[gain.relation]}×{number(gain.value, 2)}",
                core_time(p.label_core_seconds),
                core_time(p.training_core_seconds),
                break_even_words(p, comparison.points),
            ]
        )
    head = ["Surrogate", "Speed-up at equal error", "Solver’s error at equal cost", "Labels", "Training", "Pays from"]
    return table(head, rows, caption="Below ×1 the solver is better.") if rows else ""


def _points_table(comparison: Comparison) -> str:
    on = {p.name for p in fr.frontier(comparison.points)}
    rows = []
    for p in (*comparison.rungs, *comparison.surrogates):
        rung = "rung" if p.name in on else "beaten" if math.isfinite(p.error) else "diverged"
        what = "surrogate" if p.kind == "surrogate" else rung
        spread = "" if p.error_standard_error is None else f" ± {number(p.error_standard_error, 2)}"
        rows.append(
            [
                escape(p.name) + (f' <span class="absent">{escape(p.note)}</span>' if p.note else ""),
                what,
                f"{number(p.error)}{spread}" if math.isfinite(p.error) else "not finite",
                core_time(p.core_seconds),
                count(p.batch),
                duration(p.latency_seconds),
                duration(p.first_call_seconds),
            ]
        )
        if comparison.scalar_name:
            rows[-1].append("" if p.spearman is None else f"{p.spearman:.3f}")
    head = [
        "Contender",
        "",
        f"{capital(comparison.error_name)} error",
        "Cost of a trajectory",
        "Best batch",
        "Single request",
    ]
    head += ["First call", *([f"Spearman, {comparison.scalar_name}"] if comparison.scalar_name else [])]
    caption = (
        "Cost: the least of the timed rounds. The first call includes compilation, which the cost does not. "
        "Beaten: another rung is at least as accurate and cheaper."
    )
    return table([escape(h) for h in head], rows, caption=caption)
