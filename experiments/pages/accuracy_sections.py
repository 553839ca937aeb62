"""Sections on accuracy: parity, baselines, calibration and the learning curve."""

from __future__ import annotations

from functools import partial

import numpy as np

from experiments.pages import accuracy_figures as figures
from experiments.pages.findings import method_labels
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
from experiments.pages.pipeline_run import OTHERS, PipelineRun, Target
from experiments.pages.sample_statistics import Interval, calibration_curve, level_band, mae_interval
from experiments.pages.style import Drawing, draw


def panel(drawing: Drawing, heading: str, caption: str = "") -> str:
    """A figure under a heading that says what it shows. Heading and caption are HTML."""
    note = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure><h3>{heading}</h3>{drawing.inline()}{note}</figure>"


def why_absent(run: PipelineRun, name: str) -> str:
    """Why a file could not be used, or that it lacks what is needed."""
    reason = run.absent.get(name)
    return f"{name}: {reason}." if reason else f"{name} does not hold what is needed."


def _sure(run: PipelineRun, target: Target) -> bool:
    return run.evaluation is not None and bool(len(run.evaluation.of(target.name, "test").truth))


def accuracy(run: PipelineRun) -> str:
    """Parity on the held-out test, and every method's error beside each other."""
    if run.evaluation is None or not any(_sure(run, t) for t in run.targets):
        return absent("accuracy on held-out labels", why_absent(run, "evaluation.parquet"))
    expensive = run.method_name("expensive")
    sizes = {part: run.evaluation.count(part) for part in ("train", "calibration", "test")}
    intro = (
        f"<p>The surrogate learned from {plural(sizes['train'], 'molecule')} labelled by {escape(expensive)}; its intervals "
        f"were set on {count(sizes['calibration'])} others, and everything in this section is measured on "
        f"<strong>{plural(sizes['test'], 'test molecule')}</strong> that no training at any fidelity has seen.</p>"
    )
    panels = []
    for target in run.targets:
        test = run.evaluation.of(target.name, "test")
        if not len(test.truth):
            panels.append(absent(target.label, "evaluation.parquet has no finite test values of it"))
            continue
        mae = mae_interval(test.value - test.truth)
        assert mae is not None
        drawing = draw(
            partial(figures.parity, target=target, groups={"test": test}, expensive=expensive),
            name=f"parity-{target.name}",
            label=f"Predicted against simulated {target.label} of the test molecules, with 90% intervals",
            height=4.4,
        )
        heading = f"{escape(target.label)}: off by {quantity(mae.value, escape(target.unit), 2)} on average"
        panels.append(panel(drawing, heading, "Points: test molecules. Bars: predicted 90% intervals. Line: equality."))
    certain = [target for target in run.targets if _sure(run, target)]
    panels += [method_panel(run, target) for target in certain]
    tables = [method_table(run, target) for target in certain]
    return intro + f'<div class="panels">{"".join(panels)}</div>' + "".join(tables)


def method_rows(run: PipelineRun, target: Target) -> list[tuple[str, str, Interval]]:
    """(method, label, MAE with bootstrap interval) of every method that predicted the test molecules."""
    if run.evaluation is None:
        return []
    test, labels = run.evaluation.of(target.name, "test"), method_labels(run)
    predicted = {"surrogate": test.value} | {name: test.baselines[name] for name in OTHERS if name in test.baselines}
    rows = []
    for method, values in predicted.items():
        error = (values - test.truth)[np.isfinite(values)]
        mae = mae_interval(error)
        if mae is not None:
            rows.append((method, labels[method], mae))
    return rows


def method_panel(run: PipelineRun, target: Target) -> str:
    """The MAE of each method with its interval, drawn."""
    rows = method_rows(run, target)
    drawing = draw(
        partial(figures.method_errors, target=target, rows=rows),
        name=f"methods-{target.name}",
        label=f"Mean absolute error of each method for {target.label}",
        height=0.5 * len(rows) + 1.0,
    )
    order = sorted(rows, key=lambda r: r[2].value)
    place = [r[0] for r in order].index("surrogate")
    heading = (
        f"{escape(target.label)}: the surrogate is the most accurate of {len(order)} methods"
        if place == 0
        else f"{escape(target.label)}: {escape(order[0][1])} is the most accurate, the surrogate number {place + 1}"
    )
    return panel(drawing, heading, "Bars: 95% bootstrap intervals; where two overlap much, the order is not certain.")


def method_table(run: PipelineRun, target: Target) -> str:
    """MAE with interval, R2, Spearman, coverage and width of each method."""
    assert run.evaluation is not None
    rows = method_rows(run, target)
    unit = escape(target.unit)
    cells = []
    for method, label, mae in sorted(rows, key=lambda r: r[2].value):
        key, value = run.unit_metric(target, method, "mae")
        prefix = f"evaluate/{target.name}/{method}"
        line = [escape(label), metric(key, value), f"{number(mae.low)} to {number(mae.high)}"]
        for name in ("r2", "spearman"):
            stated = run.metric(f"{prefix}/{name}")
            if stated is None and method == "mean":
                line.append('<span class="absent" title="a constant has no rank correlation">undefined</span>')
            else:
                line.append(metric(f"{prefix}/{name}", stated, None if stated is None else number(stated, 2)))
        if method in ("surrogate", "refined"):
            coverage = run.metric(f"{prefix}/coverage_90")
            width_key, width = run.unit_metric(target, method, "interval_width")
            line.append(metric(f"{prefix}/coverage_90", coverage, None if coverage is None else percent(coverage)))
            line.append(metric(width_key, width))
        else:
            line += ['<span class="absent">no interval</span>'] * 2
        cells.append(line)
    best = [i for i, line in enumerate(cells) if line[0] == escape(method_labels(run)["surrogate"])]
    n = run.evaluation.of(target.name, "test").truth.size
    head = ["Method", f"MAE ({unit})", "95% interval", "R²", "Spearman", "90% coverage", f"Mean width ({unit})"]
    caption = (
        f"{escape(target.label)}, {plural(n, 'test molecule')}. The interval is a percentile bootstrap over the molecules; "
        "baselines were fitted on the same training molecules."
        + (
            " The corrected method learned from the calibration molecules as well."
            if any(method == "refined" for method, *_ in rows)
            else ""
        )
    )
    return table(head, cells, caption=caption, marked=best[0] if best else None)


def calibration(run: PipelineRun) -> str:
    """Whether the intervals hold as often as they say, and how wide they are."""
    if run.evaluation is None:
        return absent("calibration of the intervals", why_absent(run, "evaluation.parquet"))
    curves, panels, sentences = [], [], []
    for target in run.targets:
        test = run.evaluation.of(target.name, "test")
        if not len(test.truth) or not (np.isfinite(test.low) & np.isfinite(test.high)).all():
            panels.append(
                absent(f"intervals of {target.label}", "evaluation.parquet has no finite test intervals of it")
            )
            continue
        curve = calibration_curve(run.evaluation.of(target.name, "calibration"), test)
        if curve is not None and len(curve.level):
            curves.append((target, curve))
        coverage = float(test.inside.mean())
        key = f"evaluate/{target.name}/surrogate/coverage_90"
        stated = run.metric(key)
        shown = metric(key, stated, percent(stated)) if stated is not None else percent(coverage)
        n, m = run.evaluation.of(target.name, "calibration").truth.size, test.truth.size
        text = f"{escape(target.label)}: {shown} of {count(m)} test molecules lie inside their 90% interval"
        if n:
            low, high = level_band(n, m, 0.9)
            verdict = "within" if low <= coverage <= high else ("below" if coverage < low else "above")
            text += (
                f", {verdict} the {percent(low)} to {percent(high)} that valid intervals give in 95% of draws of "
                f"{count(n)} calibration and {count(m)} test molecules"
            )
        sentences.append(f"<li>{text}.</li>")
        if (test.high - test.low).max() > 0:
            drawing = draw(
                partial(figures.interval_widths, target=target, test=test),
                name=f"widths-{target.name}",
                label=f"Size of the error against half the interval width for {target.label}",
            )
            half = np.quantile((test.high - test.low) / 2, [0.1, 0.5, 0.9])
            heading = f"{escape(target.label)}: half-widths from {number(half[0], 2)} to {quantity(half[2], escape(target.unit), 2)}"
            panels.append(
                panel(
                    drawing,
                    heading,
                    f"10th to 90th percentile; median {quantity(half[1], escape(target.unit), 2)}. Shaded: the interval held.",
                )
            )
    if curves:
        drawing = draw(
            partial(figures.calibration, curves=curves),
            name="calibration",
            label="Measured against nominal coverage of the intervals at levels from 10% to 95%",
        )
        outside = sum(int(((c.measured < c.low) | (c.measured > c.high)).sum()) for _, c in curves)
        levels = sum(len(c.level) for _, c in curves)
        heading = (
            "Coverage follows the nominal level within sampling error"
            if not outside
            else f"Coverage leaves the band of sampling error at {outside} of {levels} levels"
        )
        note = (
            "Intervals at every level rebuilt from the calibration molecules. Grey: where 95% of draws of so few "
            "molecules fall if the intervals are valid (Beta-binomial)."
        )
        head = panel(drawing, heading, note)
    elif not panels:
        return absent(
            "calibration of the intervals", "evaluation.parquet has no calibration or test molecules with intervals"
        )
    else:
        head = absent("nominal against measured coverage", "it needs calibration molecules with finite intervals")
    return (
        f'<div class="panels">{head}<div><ul>{"".join(sentences)}</ul>{_PROMISE}</div></div>'
        f'<div class="panels">{"".join(panels)}</div>'
    )


_PROMISE = (
    "<p>An interval is the ensemble's prediction plus or minus its spread times a factor, chosen so that 90% of the "
    "calibration molecules lie inside (split conformal prediction). For molecules drawn as those were, that holds whatever "
    "the network does; with few of them the share that is measured scatters, as the grey band shows.</p>"
    "<p>It is a promise on average, not for each molecule, and not for molecules chosen because their prediction is extreme: "
    "the re-check above shows how it fares there.</p>"
)


def learning_curve(run: PipelineRun) -> str:
    """Error against the number of expensive labels."""
    panels = []
    labels = method_labels(run)
    for target in run.targets:
        points = sorted((p for p in run.curve if p.target == target.name and p.mae > 0), key=lambda p: p.labels)
        line = [p for p in points if p.method == "surrogate"]
        if len(line) < 2:
            continue
        drawing = draw(
            partial(figures.learning_curve, target=target, points=points, labels=labels),
            name=f"curve-{target.name}",
            label=f"Test error for {target.label} against the number of expensive labels, for each method",
            height=4.4,
        )
        first, last = line[0], line[-1]
        change = last.mae / first.mae - 1
        verb = "falls by" if change < 0 else "rises by"
        heading = (
            f"{escape(target.label)}: the surrogate's error {verb} {percent(abs(change))} from {count(first.labels)} to "
            f"{plural(last.labels, 'label')}"
        )
        panels.append(panel(drawing, heading, "Both axes are logarithmic. Every method learns from the same labels."))
    if not panels:
        why = why_absent(run, "learning_curve.json")
        return absent(
            "the learning curve",
            why if "learning_curve.json" in run.absent else "it needs the surrogate at two or more label counts",
        )
    missing = [t.label for t in run.targets if not any(f"curve-{t.name}" in p for p in panels)]
    note = (
        absent(f"the learning curve of {listing(missing)}", "learning_curve.json has too few points of it")
        if missing
        else ""
    )
    return f'<div class="panels">{"".join(panels)}</div>{note}'
