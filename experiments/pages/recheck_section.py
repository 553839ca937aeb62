"""The section of a report on the re-check: hit rates, enrichment, and errors beside the predicted intervals."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from experiments.pages import accuracy_figures
from experiments.pages import screen_figures as figures
from experiments.pages.accuracy_sections import panel, why_absent
from experiments.pages.findings import rates
from experiments.pages.formatting import (
    absent,
    count,
    escape,
    listing,
    metric,
    number,
    percent,
    plural,
    quantity,
    table,
)
from experiments.pages.pipeline_run import PipelineRun
from experiments.pages.style import draw


def recheck(run: PipelineRun) -> str:
    """Hit rates, enrichment, and errors against the predicted intervals."""
    checked, enrichment = run.recheck, rates(run)
    if checked is None or enrichment is None or not (enrichment.top.trials or enrichment.random.trials):
        return absent("the re-check", why_absent(run, "recheck.parquet"))
    expensive = run.method_name("expensive")
    trials = [
        (g, label, r)
        for g, label, r in (
            ("top", "Best of\nthe screen", enrichment.top),
            ("random", "Random\ncandidates", enrichment.random),
        )
        if r.trials
    ]
    drawing = draw(
        partial(figures.hit_rates, rates=trials),
        name="hit-rates",
        label="Share of re-checked molecules that were hits, with exact 95% intervals",
        height=2.5,
    )
    heading = f"{count(enrichment.top.hits)} of {count(enrichment.top.trials)} best confirmed, {count(enrichment.random.hits)} of {count(enrichment.random.trials)} at random"
    first = panel(drawing, heading, _enrichment(run))
    panels = []
    for target in run.targets:
        groups = {}
        for group in ("top", "random"):
            rows = np.flatnonzero(checked.rows(group))
            rows = rows[np.argsort(checked.rank[rows], kind="stable")]
            p = checked.targets[target.name].take(rows)
            ok = p.complete & np.isfinite(p.low) & np.isfinite(p.high)
            if ok.any():
                groups[group] = (checked.rank[rows][ok], p.take(ok))
        if not groups:
            continue
        drawing = draw(
            partial(accuracy_figures.recheck_errors, target=target, groups=groups, expensive=expensive),
            name=f"recheck-{target.name}",
            label=f"Error of each re-checked prediction of {target.label} beside its 90% interval",
        )
        inside = sum(int(p.inside.sum()) for _, p in groups.values())
        total = sum(len(p.truth) for _, p in groups.values())
        heading = f"{escape(target.label)}: {inside} of {total} re-checked values inside their interval"
        panels.append(panel(drawing, heading, "Bars: predicted 90% intervals, by rank. Hollow: outside."))
        drawing = draw(
            partial(
                accuracy_figures.parity,
                target=target,
                groups={g: p for g, (_, p) in groups.items()},
                expensive=expensive,
            ),
            name=f"recheck-parity-{target.name}",
            label=f"Predicted against re-simulated {target.label}",
            height=4.4,
        )
        bias = {g: float(np.mean(p.value - p.truth)) for g, (_, p) in groups.items()}
        texts = [
            f"{quantity(abs(b), escape(target.unit), 2)} too {'high' if b > 0 else 'low'} for the {'best' if g == 'top' else 'random'}"
            for g, b in bias.items()
        ]
        heading = f"{escape(target.label)}: predictions are on average {listing(texts)}"
        panels.append(
            panel(drawing, heading, "The best are chosen for extreme predictions, so some regression is expected.")
        )
    failed = int((checked.status != "ok").sum())
    note = (
        f"<p class='note'>{plural(failed, 'simulation')} of the re-check failed and count neither as hit nor as miss.</p>"
        if failed
        else ""
    )
    coverage = run.metric("recheck/coverage_90")
    covered = (
        f"<p>Over both groups and all properties the 90% intervals held {metric('recheck/coverage_90', coverage, percent(coverage))} "
        "of the time. Conformal coverage is promised for candidates drawn at random, not for those selected as best.</p>"
        if coverage is not None
        else ""
    )
    return (
        f'<div class="panels">{first}<div>{_rate_table(run)}{covered}{note}</div></div>'
        f'<div class="panels">{"".join(panels)}</div>'
    )


def _rate_table(run: PipelineRun) -> str:
    """Trials, hits, failures and coverage of the two groups."""
    checked, enrichment = run.recheck, rates(run)
    assert checked is not None
    assert enrichment is not None
    rows = []
    for group, label, rate in (
        ("top", "Best of the screen", enrichment.top),
        ("random", "Random candidates", enrichment.random),
    ):
        key = f"recheck/{group}/hit_rate"
        stated = run.metric(key)
        line = [label, count((checked.group == group).sum()), count(rate.trials), count(rate.hits)]
        line.append(metric(key, stated, None if stated is None else percent(stated)))
        for target in run.targets:
            p = checked.targets[target.name].take(checked.rows(group))
            line.append(f"{count(p.inside.sum())} of {count(len(p.truth))}")
        rows.append(line)
    head = ["Group", "Sent", "Simulated", "Hits", "Rate", *(f"Interval held, {escape(t.label)}" for t in run.targets)]
    return table(head, rows)


def _enrichment(run: PipelineRun) -> str:
    enrichment = rates(run)
    assert enrichment is not None
    stated = run.metric("recheck/enrichment")
    high = "no upper bound" if math.isinf(enrichment.high) else number(enrichment.high, 2)
    span = f"{number(enrichment.low, 2)} to {high}"
    exact = "(at least 90% confidence, from the two exact Clopper-Pearson 95% intervals)"
    if enrichment.value is None:
        return f"No random molecule was a hit, so the enrichment has no estimate; its interval is {span} {exact}."
    shown = (
        metric("recheck/enrichment", stated, number(stated, 3)) if stated is not None else number(enrichment.value, 3)
    )
    return f"Enrichment over random: {shown}, interval {span} {exact}."
