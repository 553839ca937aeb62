"""Sections on the search: funnel, best molecules, re-check, map of the library, costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.pages import molecules
from experiments.pages import screen_figures as figures
from experiments.pages.accuracy_sections import panel, why_absent
from experiments.pages.density import hexagons, histogram
from experiments.pages.findings import hit_rule
from experiments.pages.formatting import (
    absent,
    core_time,
    count,
    duration,
    escape,
    fixed,
    metric,
    number,
    percent,
    plural,
    table,
    times,
)
from experiments.pages.pipeline_run import FIXED_STAGES, PipelineRun, RecheckedMolecules, Target
from experiments.pages.reading_section import reading_table
from experiments.pages.style import draw

FUNNEL: tuple[tuple[str, str], ...] = (
    ("funnel/candidates", "Candidates"),
    ("funnel/valid", "Readable"),
    ("funnel/in_domain", "In the training domain"),
    ("funnel/in_window", "Predicted in the window"),
    ("funnel/refined", "Best, by the cheap simulator"),
    ("funnel/top", "Best, re-checked"),
    ("funnel/confirmed", "Confirmed hits"),
)


def funnel_steps(run: PipelineRun) -> list[tuple[str, float]]:
    """(label, count) of the steps that `metrics.json` holds."""
    return [(label, run.metrics[key]) for key, label in FUNNEL if key in run.metrics]


def funnel(run: PipelineRun) -> str:
    """From candidates to confirmed hits."""
    steps = funnel_steps(run)
    if len(steps) < 2:
        return absent("the funnel", why_absent(run, "metrics.json") + " It needs the keys funnel/*.")
    drawing = draw(
        partial(figures.funnel, steps=steps),
        name="funnel",
        label="Number of candidates left after each step",
        height=0.5 * len(steps) + 0.3,
        width=5.6,
    )
    rows = []
    for key, label in FUNNEL:
        value = run.metric(key)
        if key == "funnel/refined" and value is None:
            # Runs without a middle rung lack this step.
            continue
        share = ""
        total = run.metric("funnel/candidates")
        if value is not None and total:
            share = percent(value / total)
        rows.append([escape(label), metric(key, value, None if value is None else count(value)), share])
    figure = panel(
        drawing,
        f"{count(steps[0][1])} candidates, {count(steps[-1][1])} {escape(steps[-1][0].lower())}",
        "The widths are logarithmic.",
    )
    return (
        f'<div class="panels">{figure}<div>{table(["Step", "Left", "Of all"], rows)}'
        f'<p class="note">{escape(hit_rule(run))}</p>{_refused(run)}</div></div>{_rungs(run)}'
        f"{reading_table(run.path / 'screen')}"
    )


def _refused(run: PipelineRun) -> str:
    """How many candidates the filters refused; empty for a run without filters."""
    for key, file in (("refinement/filtered", "filtered.csv"), ("screen/filtered", "screen/filtered.csv")):
        value = run.metric(key)
        if value is not None:
            return (
                f'<p class="note">{metric(key, value, count(value))} candidates as good as the best have structural '
                f"alerts and were left out ({file}).</p>"
            )
    return ""


def _rungs(run: PipelineRun) -> str:
    """What entered and left each rung, and its cost; empty for a run without a middle rung."""
    asked = run.metric("refinement/candidates")
    if asked is None:
        return ""
    failed = run.metric("refinement/failed") or 0.0
    names = (
        ("screening", "Surrogate of the 2D graph", run.metric("funnel/candidates"), asked),
        ("refinement", run.method_name("cheap"), asked, run.metric("funnel/top")),
        ("recheck", run.method_name("expensive"), run.metric("funnel/top"), run.metric("funnel/confirmed")),
    )
    rows = []
    for stage, name, entered, left in names:
        cost = run.cost(stage)
        row = [escape(name), *("—" if n is None else count(n) for n in (entered, left))]
        row.append(count(failed) if stage == "refinement" else "—")
        if cost is None:
            rows.append([*row, "—", "—"])
        else:
            each = core_time(cost.core_seconds / cost.items) if cost.items else "—"
            rows.append([*row, number(cost.core_seconds, 4), each])
    added = run.metric("refinement/labels")
    note = (
        f'<p class="note">{escape(run.method_name("expensive"))} labelled '
        f"{metric('refinement/labels', added, count(added))} of the candidates of the second rung before the ranking; "
        "its values are predicted from the answers of this rung, and candidates are ranked by the probability of "
        "being a hit. Labelled candidates take no part in the re-check. The cost of the last rung includes the random "
        "candidates.</p>"
        if added
        else ""
    )
    return table(["Rung", "In", "Out", "Failed", "Core-seconds", "Each"], rows) + note


def decimals(width: float) -> int:
    """Decimals that show a value whose uncertainty is `width`."""
    return max(0, min(6, 1 - math.floor(math.log10(width)))) if math.isfinite(width) and width > 0 else 2


def top_molecules(run: PipelineRun, limit: int = 40) -> str:
    """The re-checked best, drawn, with predicted and simulated values."""
    checked = run.recheck
    if checked is None or not (checked.group == "top").any():
        return absent("the best molecules", why_absent(run, "recheck.parquet"))
    rows = np.flatnonzero(checked.group == "top")
    rows = rows[np.argsort(checked.rank[rows], kind="stable")]
    places = {name: decimals(_typical((p.high - p.low)[rows]) / 2) for name, p in checked.targets.items()}
    cards = "".join(_card(run, checked, int(i), places) for i in rows[:limit])
    more = f'<p class="note">{count(len(rows) - limit)} more are in recheck.parquet.</p>' if len(rows) > limit else ""
    by = "the surrogate"
    if run.metric("refinement/candidates") is not None:
        by = f"the probability of being a hit, predicted from the answers of {run.method_name('cheap')}"
    intro = f"<p>Ranked by {escape(by)}. {escape(hit_rule(run))} Intervals are 90%.</p>"
    return f'{intro}<div class="cards">{cards}</div>{more}'


def _typical(values: np.ndarray) -> float:
    """Median of the finite values; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def _card(run: PipelineRun, checked: RecheckedMolecules, i: int, places_of: Mapping[str, int]) -> str:
    smiles = checked.smiles[i]
    status = str(checked.status[i])
    badge, text = ("hit", "✓ hit") if checked.hit[i] else ("miss", "no hit")
    if status != "ok":
        badge, text = "failed", f"re-check failed: {status}"
    values = []
    for target in run.targets:
        p = checked.targets[target.name]
        places = places_of[target.name]
        interval = (
            f"{fixed(p.low[i], places)} to {fixed(p.high[i], places)}"
            if math.isfinite(p.low[i]) and math.isfinite(p.high[i])
            else "no interval"
        )
        simulated = fixed(p.truth[i], places) if math.isfinite(p.truth[i]) else "—"
        outside = math.isfinite(p.truth[i]) and not p.inside[i]
        values.append(
            f'<tr><th scope="row">{escape(target.label)} <small>({escape(target.unit)})</small></th>'
            f"<td><b>{fixed(p.value[i], places)}</b><small>{interval}</small></td>"
            f"<td{' class=' + chr(34) + 'outside' + chr(34) if outside else ''}><b>{simulated}</b>"
            f"<small>{'outside' if outside else ''}</small></td></tr>"
        )
    note = f'<p class="why">{escape(checked.message[i][:160])}</p>' if status != "ok" and checked.message[i] else ""
    return (
        f'<article class="card {badge}"><header><span>#{int(checked.rank[i])}</span>'
        f'<span class="badge">{escape(text)}</span></header>{molecules.drawing(smiles, f"molecule-{i}")}'
        f'<table><thead><tr><th></th><th scope="col">Predicted</th><th scope="col">Re-check</th></tr></thead>'
        f"<tbody>{''.join(values)}</tbody></table>{note}<code>{escape(smiles)}</code></article>"
    )


def library(run: PipelineRun) -> str:
    """Where the library's predictions lie, and where the objective looks."""
    if not run.parts or not run.targets:
        return absent("the distribution of predictions", why_absent(run, "screen/results"))
    try:
        return _map(run) if len(run.targets) > 1 else _line(run, run.targets[0])
    except (OSError, ValueError, KeyError) as error:
        return absent("the distribution of predictions", f"screen/results cannot be read: {str(error)[:200]}.")


def _map(run: PipelineRun) -> str:
    y, others = run.targets[0], run.targets[1:]
    windows = run.objective.windows if run.objective else {}
    x = next((t for t in others if t.name in windows), others[0])
    cells = hexagons(run.parts, x.name, y.name)
    best = None
    if run.recheck is not None and (run.recheck.group == "top").any():
        best = {t.name: run.recheck.targets[t.name].take(run.recheck.group == "top") for t in (x, y)}
    drawing = draw(
        partial(figures.density, hexagons=cells, x=x, y=y, objective=run.objective, best=best),
        name="library",
        label=f"Predicted {y.label} against predicted {x.label} of all candidates, as hexagonal counts",
        width=7.2,
        height=4.8,
    )
    total, inside = run.metric("funnel/candidates"), run.metric("funnel/in_window")
    heading = f"{count(cells.total)} predictions"
    if total and inside is not None:
        heading = (
            f"{metric('funnel/in_window', inside, count(inside))} of {metric('funnel/candidates', total, count(total))} candidates "
            f"({percent(inside / total)}) lie in the domain and the window"
        )
    note = "Counts are on a logarithmic colour scale"
    if cells.outside:
        note += f"; {plural(cells.outside, 'outlying candidate')} ({percent(cells.outside / cells.total)}) beyond the drawn range"
    return f'<div class="panels one">{panel(drawing, heading, note + ".")}</div>'


def _line(run: PipelineRun, target: Target) -> str:
    counts = histogram(run.parts, target.name)
    drawing = draw(
        partial(figures.distribution, histogram=counts, target=target, objective=run.objective),
        name="library",
        label=f"Distribution of predicted {target.label} over the candidates",
    )
    return f'<div class="panels">{panel(drawing, f"{count(counts.total)} predictions of {escape(target.label)}")}</div>'


def costs(run: PipelineRun) -> str:
    """What each stage cost, and the speed-ups with their formulas."""
    blocks = []
    if run.costs:
        used = [c for c in run.costs if c.core_seconds > 0]
        total = sum(c.core_seconds for c in run.costs)
        rows = [
            [
                escape(c.stage),
                f"{count(c.items)} {escape(c.item)}{'s' if c.items != 1 else ''}" if c.items else "—",
                duration(c.wall_seconds),
                number(c.core_seconds, 4),
                core_time(c.core_seconds / c.items) if c.items else "—",
                percent(c.core_seconds / total) if total else "—",
            ]
            for c in run.costs
        ]
        rows.append(["All stages", "", duration(sum(c.wall_seconds for c in run.costs)), number(total, 4), "", "100%"])
        head = ["Stage", "Items", "Wall time", "Core-seconds", "Each", "Share"]
        caption = "All stages count processor time, that of programs which they start included; simulations that failed count too."
        if run.cost("conformers") is None:
            caption += " Conformers are made, and counted, within the labelling stages."
        if used:
            largest = max(used, key=lambda c: c.core_seconds)
            drawing = draw(
                partial(figures.stage_costs, costs=used, fixed=FIXED_STAGES),
                name="stages",
                label="Core-seconds of each stage",
                width=5.6,
                height=0.36 * len(used) + 1.0,
            )
            heading = f"{escape(largest.stage[:1].upper() + largest.stage[1:])}: {percent(largest.core_seconds / total)} of all {core_time(total)}"
            blocks.append(f'<div class="panels">{panel(drawing, heading)}{_break_even(run)}</div>')
        blocks.append(table(head, rows, caption=caption, marked=len(rows) - 1))
    else:
        blocks.append(absent("the cost of each stage", why_absent(run, "costs.json")))
    blocks.append(_formulas(run))
    return "".join(blocks)


def _break_even(run: PipelineRun) -> str:
    fixed_cost = run.metric("cost/fixed_core_seconds")
    if fixed_cost is None:
        fixed_cost = sum(c.core_seconds for c in run.costs if c.stage in FIXED_STAGES)
    expensive, fast = (
        run.metric("cost/expensive_core_seconds_per_molecule"),
        run.metric("cost/surrogate_core_seconds_per_molecule"),
    )
    if not (fixed_cost and expensive and fast):
        return absent("the break-even", "metrics.json lacks the costs per molecule.")
    crossing = run.metric("cost/break_even_candidates")
    drawing = draw(
        partial(
            figures.break_even,
            fixed=fixed_cost,
            expensive=expensive,
            surrogate=fast,
            expensive_name=run.method_name("expensive"),
            screened=run.metric("funnel/candidates") or run.metric("screen/molecules") or 0.0,
            crossing=crossing,
        ),
        name="break-even",
        label="Total cost of simulating every candidate and of the surrogate, against the number of candidates",
        height=4.2,
    )
    heading = (
        f"The surrogate pays from {metric('cost/break_even_candidates', crossing, count(crossing))} candidates on"
        if crossing is not None
        else "The surrogate does not pay: a prediction costs no less than a simulation"
    )
    return panel(drawing, heading)


def _formulas(run: PipelineRun) -> str:
    def show(key: str, text: str | None = None) -> str:
        value = run.metric(key)
        return metric(key, value, None if value is None or text is None else text)

    def core(key: str) -> str:
        value = run.metric(key)
        return metric(key, value, None if value is None else core_time(value))

    expensive, fast = "cost/expensive_core_seconds_per_molecule", "cost/surrogate_core_seconds_per_molecule"
    total = "funnel/candidates" if run.metric("funnel/candidates") is not None else "screen/molecules"
    n = run.metric(total)
    name = escape(run.method_name("expensive"))
    rows = []
    if (value := run.metric("cost/speedup_per_molecule")) is not None:
        rows.append(
            [
                "Speed-up per molecule",
                f"{name} each ÷ surrogate each = {core(expensive)} ÷ {core(fast)}",
                show("cost/speedup_per_molecule", times(value)),
            ]
        )
    if (value := run.metric("cost/speedup_per_molecule_over_cheap")) is not None:
        rows.append(
            [
                f"The same over {escape(run.method_name('cheap'))}",
                f"{core('cost/cheap_core_seconds_per_molecule')} ÷ {core(fast)}",
                show("cost/speedup_per_molecule_over_cheap", times(value)),
            ]
        )
    if (value := run.metric("cost/speedup_whole_run")) is not None:
        rows.append(
            [
                "Speed-up of the whole run",
                f"{name} each × candidates ÷ everything spent = {core(expensive)} × {metric(total, n, None if n is None else count(n))} ÷ "
                f"{core('cost/whole_run_core_seconds')}",
                show("cost/speedup_whole_run", times(value)),
            ]
        )
    if (value := run.metric("cost/break_even_candidates")) is not None:
        spent = (
            core("cost/fixed_core_seconds")
            if run.metric("cost/fixed_core_seconds") is not None
            else "labels and training"
        )
        rows.append(
            [
                "Break-even number of candidates",
                f"labels and training ÷ ({name} each − surrogate each) = {spent} ÷ ({core(expensive)} − {core(fast)})",
                show("cost/break_even_candidates", count(value)),
            ]
        )
    if not rows:
        return absent("the speed-ups", why_absent(run, "metrics.json") + " It needs the keys cost/*.")
    note = (
        '<p class="note">Everything ran on the same cores. What simulating every candidate would cost is the mean of this '
        "run's own expensive labels times the number of candidates: an extrapolation, since it was not done. Everything spent "
        "is labels, conformers, training, screen and re-check; making the library and the learning curve are listed above "
        "but serve only this demonstration and this report.</p>"
    )
    return table(["Ratio", "Formula", "Value"], rows, wordy=True) + note
