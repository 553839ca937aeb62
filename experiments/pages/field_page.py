"""The page of a training of fields: examples, errors by channel, region, time and wave number, bands, domain and grids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import resources
from itertools import pairwise
from pathlib import Path
from string import Template

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.fields.benchmark_layouts import STATE
from data.fields.layout import Layout
from data.fields.samples import Fields
from data.files import write_text
from experiments.pages import field_figures as figures
from experiments.pages.accuracy_sections import panel
from experiments.pages.field_errors import half_grid, regions, shells, sizes
from experiments.pages.formatting import count, escape, listing, number, percent, plural, table
from experiments.pages.reading_section import reading_table
from experiments.pages.screen_page import numbers_table
from experiments.pages.style import BLUE, INK, VERMILLION, draw
from surrogates.fields.surrogate import FieldAnswer, FieldSurrogate
from surrogates.learning.field_metrics import relative_l2_by_channel

PAGE = "report.html"
#: Test samples that the page is made from, and channels of which it shows examples.
MOST_SAMPLES, MOST_CHANNELS = 64, 3
#: Channels that the title names; more are counted.
MOST_NAMED = 5


def write_field_page(run_dir: Path, surrogate: FieldSurrogate, tested: Fields, metrics: Mapping[str, float]) -> Path:
    """Write `report.html` of a training.

    Args:
        run_dir: directory of the run.
        surrogate: the trained surrogate.
        tested: held-out samples; the first `MOST_SAMPLES` are shown.
        metrics: all metrics of the run.
    """
    some = tested.take(np.arange(min(len(tested), MOST_SAMPLES)))
    answer = surrogate.predict_fields(some)
    layout = some.layout
    first = 1 if layout.evolves else 0
    truth = np.asarray(some.states[:, first:], np.float64)
    mean = np.asarray(answer.mean[:, first:], np.float64)
    finite = np.array([bool(np.isfinite(one).all()) for one in mean])
    sections: list[tuple[str, str, str]] = []
    if finite.any():
        truth, mean, rows = truth[finite], mean[finite], np.flatnonzero(finite)
        error = sizes(mean - truth) / np.maximum(sizes(truth), 1e-300)
        whole = np.sqrt(np.square(mean - truth).reshape(len(rows), -1).sum(1)) / np.maximum(
            np.sqrt(np.square(truth).reshape(len(rows), -1).sum(1)), 1e-300
        )
        sections += [
            ("examples", "Examples", _examples(surrogate, layout, truth, mean, answer, rows, whole)),
            ("channels", "Errors by channel", _channels(layout, truth, mean)),
            ("regions", "Where it errs", _regions(layout, truth, mean)),
        ]
        if layout.evolves:
            sections.append(("times", "When it errs", _times(layout, error)))
        sections += [
            ("spectrum", "Errors by wave number", _spectrum(layout, truth, mean)),
            ("calibration", "Do the bands hold?", _calibration(surrogate, layout, some, answer, finite)),
        ]
    sections += [
        ("domain", "Training domain", _domain(answer, len(some))),
        ("grids", "Answers on another grid", _other_grid(surrogate, some)),
        ("read", "What was read", reading_table(run_dir)),
        ("numbers", "All numbers", numbers_table(dict(metrics))),
    ]
    template = Template(resources.files("experiments.pages").joinpath("page.html").read_text(encoding="utf-8"))
    lost = int((~finite).sum())
    l2 = metrics.get("test/relative_l2")
    text = template.substitute(
        title=f"Surrogate of {escape(_learned(layout))}",
        subtitle=f"A training of fields in “{escape(run_dir.name)}”",
        warnings=f"<p>{plural(lost, 'answer')} of {len(some)} are not finite.</p>" if lost else "",
        finding=""
        if l2 is None
        else f"On samples that it has not seen, the answer is off by {percent(l2)} of the size of "
        "the field (relative L2 error).",
        accuracy=f"This page shows {len(some)} of {plural(len(tested), 'test sample')}.",
        tiles="".join(
            f'<div class="tile"><b>{escape(value)}</b><span>{escape(caption)}</span></div>'
            for value, caption in _tiles(metrics, len(tested))
        ),
        contents="".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections),
        sections="\n".join(
            f'<section id="{anchor}"><h2>{escape(heading)}</h2>{body}</section>' for anchor, heading, body in sections
        ),
        footer="Written by <code>understudy train</code>.",
    )
    write_text(run_dir / PAGE, text)
    return run_dir / PAGE


def _learned(layout: Layout) -> str:
    """What is learned, in words: the channels by name where they were joined under a name that says nothing of them."""
    output, names = layout.output, _names(layout)
    if output.long_name != output.name:
        return output.long_name
    if output.name == STATE and layout.channels > 1:
        return listing(names) if len(names) <= MOST_NAMED else f"{len(names)} fields"
    return f"the field “{output.name}”"


def _tiles(metrics: Mapping[str, float], samples: int) -> list[tuple[str, str]]:
    tiles = [(count(samples), "test samples")]
    for key, caption in (
        ("test/relative_l2", "relative L2 error"),
        ("test/points_in_band", "points inside of the band"),
        ("test/in_domain", "samples inside the training domain"),
    ):
        if key in metrics:
            tiles.append((percent(metrics[key]), caption))
    return tiles


def _units(layout: Layout, axis: str) -> str:
    return figures.with_unit(axis, layout.axis(axis).units)


def _names(layout: Layout) -> list[str]:
    return [str(v) for v in layout.axis("channel").values] if layout.channels > 1 else [layout.output.name]


def _plane(values: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "x y"]:
    """A field in the plane as it is, and the middle of one in space."""
    return values if values.ndim == 2 else values[..., values.shape[2] // 2]


def _extent(layout: Layout) -> tuple[float, float, float, float]:
    ends = []
    for dim in layout.space[:2]:
        axis = np.asarray(layout.axis(dim).values, float)
        half = (axis[1] - axis[0]) / 2 if len(axis) > 1 else 0.5
        ends += [float(axis[0] - half), float(axis[-1] + half)]
    return ends[0], ends[1], ends[2], ends[3]


def _examples(
    surrogate: FieldSurrogate,
    layout: Layout,
    truth: np.ndarray,
    mean: np.ndarray,
    answer: FieldAnswer,
    rows: np.ndarray,
    whole: Float[np.ndarray, " sample"],
) -> str:
    order = np.argsort(whole)
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    bands = surrogate.facts.bands
    widths = None
    if bands is not None and answer.std.shape[1] <= len(bands.factor):
        widths = bands.half_width(answer.std)[rows][:, -1]
    when = ""
    if layout.evolves:
        axis = layout.axis("time")
        when = f", at time {number(float(axis.values[-1]))} {axis.units if axis.units != '1' else ''}".rstrip()
    unit = layout.output.units
    groups = []
    for label, i in chosen.items():
        panels = []
        for c, name in list(enumerate(_names(layout)))[:MOST_CHANNELS]:
            true, said = truth[i, -1, ..., c], mean[i, -1, ..., c]
            about = f"{name} of test sample {int(rows[i])}"
            key = f"{label}-{c}"
            if len(layout.space) == 1:
                x = np.asarray(layout.axis("x").values, float)
                half = None if widths is None else np.asarray(widths[i, ..., c], float)
                both = partial(figures.curves, x=x, truth=true, answer=said, half_width=half,
                               labels=(_units(layout, "x"), figures.with_unit(name, unit)))  # fmt: skip
                apart = partial(figures.difference, x=x, values=said - true,
                                labels=(_units(layout, "x"), figures.with_unit(f"error of {name}", unit)))  # fmt: skip
                panels.append(panel(draw(both, name=f"both-{key}", label=about), escape(f"{name}: truth and answer")))
                panels.append(panel(draw(apart, name=f"off-{key}", label=about), escape(f"{name}: answer minus truth")))
                continue
            limits = float(min(true.min(), said.min())), float(max(true.max(), said.max()))
            off = float(np.abs(said - true).max())
            for what, values, ends, signed in (
                ("truth", true, limits, False), ("answer", said, limits, False),
                ("answer minus truth", said - true, (-off, off), True),
            ):  # fmt: skip
                labels = (_units(layout, "x"), _units(layout, "y"), figures.with_unit(name, unit))
                paint = partial(figures.image, values=_plane(values), extent=_extent(layout), limits=ends,
                                labels=labels, signed=signed)  # fmt: skip
                drawing = draw(paint, name=f"{what[:3]}{len(what)}-{key}", label=f"{about}, {what}", width=3.6)
                panels.append(panel(drawing, escape(f"{name}: {what}")))
        text = f"The {label} of these samples: a relative L2 error of {percent(float(whole[i]))}{escape(when)}."
        kind = "panels" if len(layout.space) == 1 else "panels three"
        groups.append(f'<p>{text}</p><div class="{kind}">{"".join(panels)}</div>')
    more = layout.channels - MOST_CHANNELS
    note = f"<p>{plural(more, 'further channel')} not shown.</p>" if more > 0 else ""
    middle = "<p>Fields in space are shown in the middle of z.</p>" if len(layout.space) == 3 else ""
    return "".join(groups) + note + middle


def _channels(layout: Layout, truth: np.ndarray, mean: np.ndarray) -> str:
    unit = "" if layout.output.units == "1" else f" ({layout.output.units})"
    relative = relative_l2_by_channel(np.moveaxis(mean, -1, 2), np.moveaxis(truth, -1, 2))
    rows = []
    for c, name in enumerate(_names(layout)):
        off = mean[..., c] - truth[..., c]
        spread = float(truth[..., c].std())
        root = float(np.sqrt(np.square(off).mean()))
        rows.append([
            escape(name), number(root), number(float(np.abs(off).mean())), number(float(off.mean())),
            percent(float(relative[c])) if np.isfinite(relative[c]) else "", number(root / spread) if spread else "",
        ])  # fmt: skip
    head = ["Channel", f"RMSE{unit}", f"MAE{unit}", f"mean error{unit}", "relative L2 error", "RMSE over spread"]
    return table([escape(h) for h in head], rows)


def _regions(layout: Layout, truth: np.ndarray, mean: np.ndarray) -> str:
    rows = [
        [escape(name), percent(share), number(inside)] for name, share, inside in regions(truth, mean, layout.periodic)
    ]
    local = np.sqrt(np.square(mean - truth).mean(axis=(0, 1))) / np.maximum(
        truth.std(axis=tuple(range(truth.ndim - 1))), 1e-300
    )
    field = np.sqrt(np.square(local).mean(axis=-1))
    if len(layout.space) == 1:
        x = np.asarray(layout.axis("x").values, float)
        paint = partial(figures.difference, x=x, values=field, labels=(_units(layout, "x"), "RMSE over the spread"))
    else:
        labels = (_units(layout, "x"), _units(layout, "y"), "RMSE over the spread")
        paint = partial(figures.image, values=_plane(field), extent=_extent(layout), limits=(0.0, float(field.max())),
                        labels=labels)  # fmt: skip
    shown = panel(draw(paint, name="where", label="Error by place"), "RMSE over samples, times and channels, by place")
    head = ["Region", "share of the points", "RMSE over the spread"]
    return f'{table(head, rows)}<div class="panels">{shown}</div>'


def _times(layout: Layout, error: Float[np.ndarray, "sample time"]) -> str:
    times = np.asarray(layout.axis("time").values, float)
    # The state before the first time of the output is no time of it.
    times = times if len(times) == error.shape[1] else times[len(times) - error.shape[1] :]
    paint = partial(figures.errors_in_time, times=times, errors=error, label=_units(layout, "time"))
    return (
        f'<div class="panels">{panel(draw(paint, name="when", label="Error by time"), "Error along the rollout")}</div>'
    )


def _spectrum(layout: Layout, truth: np.ndarray, mean: np.ndarray) -> str:
    power = [shells(v, len(layout.space)) for v in (truth, mean, mean - truth)]
    total = power[0].sum() or 1.0
    named = [
        (n, c, p / total) for n, c, p in zip(("truth", "answer", "error"), (INK, BLUE, VERMILLION), power, strict=True)
    ]
    if len(power[0]) < 3:
        return "<p>The grid has too few points for a spectrum.</p>"
    drawing = draw(partial(figures.spectrum, powers=named), name="spectrum", label="Power by wave number")
    edges = np.unique(np.round(np.geomspace(1, len(power[0]) + 1, 4)).astype(int))
    rows = []
    for low, high in pairwise(edges.tolist()):
        true, off = power[0][low - 1 : high - 1].sum(), power[2][low - 1 : high - 1].sum()
        ratio = percent(float(np.sqrt(off / true))) if true > 1e-12 * total else "no power"
        rows.append([f"{low} to {high - 1}" if high - 1 > low else str(low), percent(float(true / total)), ratio])
    head = ["Waves along the domain", "share of the power", "relative error"]
    note = (
        "" if all(layout.periodic) else "<p>The ends of the domain do not meet, so that sharp ends add small waves.</p>"
    )
    return f'{table(head, rows)}<div class="panels">{panel(drawing, "Power of truth, answer and error")}</div>{note}'


def _calibration(
    surrogate: FieldSurrogate, layout: Layout, some: Fields, answer: FieldAnswer, finite: np.ndarray
) -> str:
    bands = surrogate.facts.bands
    if bands is None:
        return "<p>No samples were set aside to calibrate bands (data.parts).</p>"
    if some.states.shape[1] > len(bands.factor):
        return "<p>The bands were calibrated for fewer times than these samples have.</p>"
    first = 1 if layout.evolves else 0
    half = np.asarray(bands.half_width(answer.std)[finite][:, first:], float)
    off = np.abs(np.asarray(answer.mean[finite][:, first:], float) - some.states[finite][:, first:])
    ratio = off / np.maximum(half, 1e-300)
    scale = np.linspace(0, 2, 41)
    share = np.array([float((ratio <= s).mean()) for s in scale])
    paint = partial(figures.coverage_curve, scale=scale, share=share, nominal=1 - bands.alpha)
    drawing = draw(paint, name="coverage", label="Coverage of the bands")
    inside = float((ratio <= 1).mean())
    return (
        f"<p>{percent(inside)} of the points lie inside of the band, {percent(1 - bands.alpha)} were promised, calibrated "
        f'on {plural(bands.n, "sample")}.</p><div class="panels">{panel(drawing, "Coverage of wider and narrower bands")}</div>'
    )


def _domain(answer: FieldAnswer, samples: int) -> str:
    if answer.outside is None:
        return "<p>The surrogate has no record of its training domain.</p>"
    out = [said for said in answer.outside if said]
    reasons = Counter(text.split(" = ")[0] for said in out for text in said)
    if not out:
        return f"<p>All {samples} samples look like what was learned from.</p>"
    most = listing([f"{escape(name)} ({n})" for name, n in reasons.most_common(6)])
    return f"<p>{len(out)} of {samples} samples lie outside of the training domain: {most}.</p>"


def _other_grid(surrogate: FieldSurrogate, some: Fields) -> str:
    coarse = half_grid(some)
    if coarse is None:
        return "<p>The grid has too few or an odd number of points to be halved.</p>"
    few = np.arange(min(len(some), 16))
    try:
        error = _relative(surrogate, coarse.take(few))
    except (InputError, ValueError, TypeError) as refusal:
        return f"<p>This network answers on the grid that it was trained on alone: {escape(str(refusal).splitlines()[0])}</p>"
    error_as_trained = _relative(surrogate, replace(some, reading=None).take(few))
    grids = [" x ".join(map(str, f.layout.points)) for f in (some, coarse)]
    rows = [[grids[0], "trained on", percent(error_as_trained)], [grids[1], "half as many points", percent(error)]]
    return (
        f"<p>The same {len(few)} samples, as every second point of a periodic dim and means of two points of others; the "
        "answers are compared with the truth on that grid.</p>" + table(["Points", "Grid", "relative L2 error"], rows)
    )


def _relative(surrogate: FieldSurrogate, fields: Fields) -> float:
    answer = surrogate.predict_fields(fields)
    first = 1 if fields.layout.evolves else 0
    off = np.asarray(answer.mean[:, first:], float) - fields.states[:, first:]
    flat = off.reshape(len(off), -1), fields.states[:, first:].reshape(len(off), -1)
    return float(np.mean(np.linalg.norm(flat[0], axis=1) / np.maximum(np.linalg.norm(flat[1], axis=1), 1e-300)))
