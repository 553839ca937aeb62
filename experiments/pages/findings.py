"""What a run found, in words made from its numbers, and whether its files agree with each other."""

from __future__ import annotations

import math

import numpy as np

from experiments.pages.formatting import (
    core_time,
    count,
    escape,
    listing,
    metric,
    number,
    percent,
    plural,
    quantity,
    short,
    times,
)
from experiments.pages.pipeline_run import PipelineRun, Target
from experiments.pages.sample_statistics import Enrichment, enrichment_interval, paired_difference
from experiments.screening.hit_rates import HitRate


def method_labels(run: PipelineRun) -> dict[str, str]:
    """Names of the surrogate and the baselines, as tables and legends give them."""
    return {
        "surrogate": "Surrogate",
        "refined": f"{run.method_name('cheap')}, corrected",
        "cheap_linear": f"{run.method_name('cheap')} + linear fit",
        "morgan_ridge": "Morgan + ridge",
        "morgan_forest": "Morgan + random forest",
        "mean": "Mean of the labels",
    }


def goal(run: PipelineRun) -> str:
    """What was sought, as plain text; empty if the configuration does not say."""
    objective = run.objective
    if objective is None or not run.targets:
        return ""
    by_name = {t.name: t for t in run.targets}
    pushed = by_name.get(objective.target([t.name for t in run.targets]), run.targets[0])
    text = f"{'low' if objective.sign < 0 else 'high'} {pushed.lower}"
    windows = []
    for name, (low, high) in objective.windows.items():
        target = by_name.get(name, Target(name, name, ""))
        if math.isinf(low) or math.isinf(high):
            one, sign = (high, "at most") if math.isinf(low) else (low, "at least")
            bound = f"{sign} {short(one)} {target.unit}".rstrip()
        else:
            bound = f"between {short(low)} and {short(high)} {target.unit}".rstrip()
        windows.append(f"a {target.lower} {bound}")
    return f"a {text}" + (f" at {listing(windows)}" if windows else "")


def hit_rule(run: PipelineRun) -> str:
    """When a simulated molecule counts as a hit, as plain text."""
    objective = run.objective
    if objective is None or not run.targets:
        return "The configuration does not say what counts as a hit."
    target = next((t for t in run.targets if t.name == objective.target([t.name for t in run.targets])), run.targets[0])
    rules = []
    for name, (low, high) in objective.windows.items():
        unit = next((t.unit for t in run.targets if t.name == name), "")
        ends = [f"{short(low)} ≤ " if math.isfinite(low) else "", f" ≤ {short(high)}" if math.isfinite(high) else ""]
        rules.append(f"{ends[0]}{name.replace('_', ' ')}{ends[1]} {unit}".rstrip())
    if objective.hit is not None:
        sign = "≥" if objective.sign > 0 else "≤"
        rules.append(f"{target.name.replace('_', ' ')} {sign} {short(objective.hit)} {target.unit}".rstrip())
    if not rules:
        return "Every simulated molecule counts as a hit: the objective has neither windows nor a threshold."
    return f"A molecule is a hit if the simulated values satisfy {listing(rules)}."


def rates(run: PipelineRun) -> Enrichment | None:
    """Hit rates of the re-check, counted from its rows; None without any."""
    if run.recheck is None:
        return None
    hit_rates = {}
    for group in ("top", "random"):
        rows = run.recheck.rows(group)
        hit_rates[group] = HitRate(int(run.recheck.hit[rows].sum()), int(rows.sum()))
    return enrichment_interval(hit_rates["top"], hit_rates["random"])


def paragraph(run: PipelineRun) -> str:
    """The finding as HTML: what was screened, what was confirmed, and what it cost."""
    text = " ".join(s for s in (_screened(run), _confirmed(run), _speed(run)) if s)
    return text or "This run holds no results yet: the sections below say what is missing."


def _screened(run: PipelineRun) -> str:
    key = "funnel/candidates" if run.metric("funnel/candidates") is not None else "screen/molecules"
    screened = run.metric(key)
    if screened is None:
        return ""
    sought = goal(run)
    rate = run.metric("screen/molecules_per_second")
    speed = f", at {metric('screen/molecules_per_second', rate, count(rate))} molecules per second" if rate else ""
    return (
        f"<strong>{metric(key, screened, count(screened))} candidates</strong> were screened"
        f"{' for ' + escape(sought) if sought else ''}{speed}."
    )


def _confirmed(run: PipelineRun) -> str:
    hit_rates = rates(run)
    if hit_rates is None or not hit_rates.top.trials:
        return ""
    top, random, expensive = hit_rates.top, hit_rates.random, escape(run.method_name("expensive"))
    text = (
        f"Of the best {count(top.trials)} that {expensive} re-checked, <strong>{count(top.hits)} were hits</strong> "
        f"({_rate(run, 'top', top)})"
    )
    if random.trials:
        text += (
            f", against {count(random.hits)} of {count(random.trials)} drawn at random ({_rate(run, 'random', random)})"
        )
        if hit_rates.value is not None:
            ratio = run.metric("recheck/enrichment")
            shown = metric("recheck/enrichment", ratio, times(ratio)) if ratio is not None else times(hit_rates.value)
            text += f": {shown} the random rate, and with 95% confidence at least {times(hit_rates.low)}"
        elif top.hits:
            text += f": with 95% confidence at least {times(hit_rates.low)} the random rate"
    return f"{text}."


def _rate(run: PipelineRun, group: str, rate: HitRate) -> str:
    key = f"recheck/{group}/hit_rate"
    value = run.metric(key)
    shown = metric(key, value, percent(value)) if value is not None else percent(rate.value or 0.0)
    low, high = rate.interval
    return f"{shown}; 95% interval {percent(low)} to {percent(high)}"


def _speed(run: PipelineRun) -> str:
    each, whole = run.metric("cost/speedup_per_molecule"), run.metric("cost/speedup_whole_run")
    expensive, fast = (
        run.metric("cost/expensive_core_seconds_per_molecule"),
        run.metric("cost/surrogate_core_seconds_per_molecule"),
    )
    text = ""
    if each is not None and expensive is not None and fast is not None:
        text = (
            f"One prediction costs {metric('cost/surrogate_core_seconds_per_molecule', fast, core_time(fast))}, one "
            f"{escape(run.method_name('expensive'))} calculation {metric('cost/expensive_core_seconds_per_molecule', expensive, core_time(expensive))}: "
            f"<strong>{metric('cost/speedup_per_molecule', each, times(each))} cheaper per molecule</strong>."
        )
    if whole is not None:
        text += (
            " With conformers, labels, training, screen and re-check all counted, the whole run was "
            f"<strong>{metric('cost/speedup_whole_run', whole, times(whole))} cheaper</strong> than simulating every "
            "candidate would be"
        )
        if (count_ := run.metric("cost/break_even_candidates")) is not None:
            shown = metric("cost/break_even_candidates", count_, count(count_))
            text += f"; labels and training pay from {shown} candidates on"
        text += "."
    return text.strip()


def accuracy(run: PipelineRun) -> str:
    """How far the predictions can be trusted, as HTML; empty without scores."""
    sentences = []
    for target in run.targets:
        key, mae = run.unit_metric(target, "surrogate", "mae")
        if mae is None:
            continue
        n = run.evaluation.count("test") if run.evaluation is not None else None
        where = f"On {plural(n, 'held-out molecule')}" if n else "On held-out molecules"
        coverage_key = f"evaluate/{target.name}/surrogate/coverage_90"
        coverage = run.metric(coverage_key)
        text = f"{where} the mean absolute error of the {escape(target.lower)} is {metric(key, mae, quantity(mae, target.unit))}"
        text += comparison(run, target)
        if coverage is not None:
            text += f"; the 90% intervals held {metric(coverage_key, coverage, percent(coverage))} of the time"
        sentences.append(f"{text}.")
    return " ".join(sentences)


def comparison(run: PipelineRun, target: Target) -> str:
    """How the surrogate stands against the best baseline, as a clause that begins with its separator."""
    labels = method_labels(run)
    others = {}
    for method in labels:
        if method != "surrogate":
            key, value = run.unit_metric(target, method, "mae")
            if value is not None:
                others[method] = (value, key)
    _, surrogate_mae = run.unit_metric(target, "surrogate", "mae")
    if not others or surrogate_mae is None:
        return ""
    best = min(others, key=lambda m: others[m][0])
    value, key = others[best]
    shown = f"{metric(key, value, quantity(value, target.unit))} for the best baseline, {escape(labels[best])}"
    if run.evaluation is not None:
        test = run.evaluation.of(target.name, "test")
        if best in test.baselines and len(test.truth):
            gap = paired_difference(test.value - test.truth, test.baselines[best] - test.truth)
            if gap is not None and gap.low <= 0 <= gap.high:
                return f" ({shown}: a difference that so few test molecules cannot tell from chance)"
    return f" ({shown}{': the surrogate is worse' if surrogate_mae > value else ''})"


def disagreements(run: PipelineRun) -> list[str]:
    """Where `metrics.json` and the tables beside it do not say the same, as plain sentences."""
    sentences: list[str] = []

    def compare(key: str, stated: float | None, computed: float | None) -> None:
        if stated is None or computed is None:
            return
        if not math.isclose(stated, computed, rel_tol=1e-3, abs_tol=1e-9):
            sentences.append(
                f"{key} is {number(stated, 5)} in metrics.json, and {number(computed, 5)} in the table it came from"
            )

    if run.evaluation is not None:
        for target in run.targets:
            test = run.evaluation.of(target.name, "test")
            if not len(test.truth):
                continue
            key, stated = run.unit_metric(target, "surrogate", "mae")
            compare(key, stated, float(np.abs(test.value - test.truth).mean()))
            key = f"evaluate/{target.name}/surrogate/coverage_90"
            compare(key, run.metric(key), float(test.inside.mean()))
    checked = rates(run)
    if checked is not None:
        for group, rate in (("top", checked.top), ("random", checked.random)):
            key = f"recheck/{group}/hit_rate"
            compare(key, run.metric(key), rate.value)
    if (expensive := run.metric("cost/expensive_core_seconds_per_molecule")) and (
        fast := run.metric("cost/surrogate_core_seconds_per_molecule")
    ):
        compare("cost/speedup_per_molecule", run.metric("cost/speedup_per_molecule"), expensive / fast)
    return sentences


def tiles(run: PipelineRun) -> list[tuple[str, str]]:
    """The few numbers that head the page: (number as HTML, what it is)."""
    numbers: list[tuple[str, str]] = []

    def add(key: str, text: str, caption: str) -> None:
        value = run.metric(key)
        if value is not None:
            numbers.append((metric(key, value, text), caption))

    key = "funnel/candidates" if run.metric("funnel/candidates") is not None else "screen/molecules"
    if (n := run.metric(key)) is not None:
        add(key, count(n), "candidates screened")
    checked = rates(run)
    if checked is not None and checked.top.trials:
        numbers.append((f"{count(checked.top.hits)} of {count(checked.top.trials)}", "best candidates confirmed"))
    if checked is not None and checked.random.trials:
        numbers.append(
            (f"{count(checked.random.hits)} of {count(checked.random.trials)}", "random candidates confirmed")
        )
    if (ratio := run.metric("cost/speedup_per_molecule")) is not None:
        add("cost/speedup_per_molecule", f"{number(ratio, 2)}×", "cheaper per molecule")
    if (ratio := run.metric("cost/speedup_whole_run")) is not None:
        add("cost/speedup_whole_run", f"{number(ratio, 2)}×", "cheaper as a whole run")
    return numbers
