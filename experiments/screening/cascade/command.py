"""Builds a cascade from the configuration of `understudy screen`, runs it, and prints its funnel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from data.errors import InputError
from data.files import write_json
from data.settings import build, existing_file
from data.terminal import columns_table, print_table
from experiments.screening.cascade.best_hits import TOP, write_best
from experiments.screening.cascade.cascade_screen import KEPT, Cascade, cascade_screen_config
from experiments.screening.cascade.population import FailurePolicy
from experiments.screening.cascade.rungs import CascadeRung, build_rungs, check_rungs
from experiments.screening.cascade.settings import MORE_OR_LESS, CalibrationSettings, hit_rule
from experiments.screening.cascade.shortlisted import SHORTLIST, shortlist_screen
from experiments.screening.column_units import COLUMNS
from experiments.screening.library_screen import ScreenConfig
from experiments.screening.objective import Objective
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig
from surrogates.cascade.promise import Promise


def run_cascade(config: DictConfig, objective: Objective, how: ScreenConfig, candidates: str, out: Path) -> None:
    """Screen candidates by the rungs of a configuration, or resume such a screen.

    Args:
        config: composed configuration of `understudy screen`.
        objective: what is sought.
        how: settings of the first rung's screen.
        candidates: file of the candidates.
        out: output directory.

    Raises:
        InputError: a rung cannot be used, or the promise cannot be kept.
    """
    for name in ("recall", "confidence"):
        value = config[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1:
            raise InputError(f"must lie between 0 and 1, got {value}", where=name, remedy=f"Give {name}=0.9, say")
    names = [str(name) for name in config.cascade]
    settings: Any = OmegaConf.to_container(config.rungs, resolve=True)
    calibration = build(CalibrationSettings, config.calibration, where="calibration")
    failures = build(FailurePolicy, {"policy": config.failures}, where="failures")
    campaign = replace(build(CampaignConfig, config.campaign, where="campaign"), give_up_after=None)
    conformers = build(ConformerConfig, config.conformers, where="conformers")
    promise = build(
        Promise,
        {"recall": config.recall, "confidence": config.confidence, "stages": max(1, len(names) - 1)},
        where="",
    )
    path = existing_file(candidates, "candidates")
    level = config.fdr
    if level is not None and (isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1):
        raise InputError(f"must lie between 0 and 1, got {level}", where="fdr", remedy="Give fdr=0.1, say")
    # Before a surrogate is loaded or a table read: what no number of rungs could keep costs nothing to refuse.
    if level is None:
        promise.refuse_too_few(
            calibration.labels + (calibration.certain or 0),
            what="labels are allowed",
            where="calibration.labels",
            remedy=MORE_OR_LESS,
        )
    rungs = build_rungs(names, settings, conformers)
    rule = hit_rule(objective, _targets(rungs[0], objective))
    rungs = check_rungs(rungs, rule.names)
    for rung in rungs:
        if rung.assumed:
            Console().print(f"Assumed: {rung.assumed}")
    screen = cascade_screen_config(replace(how, objective=objective), objective)
    cascade = Cascade(rungs, rule, promise, calibration, failures, screen, campaign, out)
    metrics = cascade.run(path) if level is None else shortlist_screen(cascade, float(level), path)
    target = objective.target(_targets(rungs[0], objective))
    kept = pd.read_parquet(out / KEPT)
    write_json(out / COLUMNS, {k: u for rung in rungs for k, u in rung.column_units(kept.columns).items()})
    best = write_best(kept, rungs[-1].number, target, objective.sign, how.top_k, how.distinct, out / TOP)
    show_funnel(rungs, metrics, out)
    Console().print(f"The best {best:,} of the hits are in {out / TOP}.")


def cascade_files(out: Path) -> dict[str, Path]:
    """The files of a cascade in `out`, by what they hold."""
    return {"best": out / TOP, "answers": out / KEPT, "shortlist": out / SHORTLIST}


def _targets(rung: CascadeRung, objective: Objective) -> Sequence[str]:
    """Scalar outputs of the first rung, in order, without error bars."""
    scalars = [v.name for v in rung.model.spec.outputs if not v.dims]
    return [name for name in scalars if not name.endswith("_std")] or list(objective.windows)


def show_funnel(rungs: Sequence[CascadeRung], metrics: Mapping[str, float], out: Path) -> None:
    """Print the funnel by rung.

    Args:
        rungs: the rungs.
        metrics: metrics of the cascade.
        out: its directory.
    """
    table = columns_table("Cascade", ("rung", "in", "out", "share of hits lost", "core-s", "core-s each"))
    for rung in rungs:
        prefix = f"cascade/rung/{rung.number}"
        lost = ""
        if f"{prefix}/share_of_hits_lost" in metrics:
            share, bound = metrics[f"{prefix}/share_of_hits_lost"], metrics[f"{prefix}/share_of_hits_lost_bound"]
            lost = f"{share:.1%} (at most {bound:.1%})"
        each = f"{metrics[f'{prefix}/core_seconds_per_candidate']:.3g}" + (" declared" if rung.declared else "")
        table.add_row(
            escape(f"{rung.number} {rung.label}"),
            f"{metrics[f'{prefix}/in']:,.0f}",
            f"{metrics[f'{prefix}/out']:,.0f}",
            lost,
            f"{metrics[f'{prefix}/core_seconds']:,.1f}",
            each,
        )
    console = Console()
    print_table(table, console)
    said = {name: metrics[f"cascade/{name}"] for name in ("labels", "candidates", "calibration_labels", "hits")}
    labelled = f"{said['labels']:,.0f} of {said['candidates']:,.0f} candidates have a label of the last rung"
    if "cascade/fdr_promised" in metrics:
        console.print(
            f"{labelled}; {said['hits']:,.0f} of them are hits. The shortlist has {metrics['cascade/shortlist']:,.0f} "
            f"other candidates, of which an expected share of {metrics['cascade/fdr_promised']:g} at most are no hits; "
            f"it is in {out / SHORTLIST}."
        )
    else:
        console.print(
            f"{labelled}, {said['calibration_labels']:,.0f} of them to set the thresholds; {said['hits']:,.0f} are "
            f"hits. A recall of {metrics['cascade/recall_promised']:g} is promised with a confidence of "
            f"{metrics['cascade/confidence']:g}."
        )
    if "cascade/speedup" in metrics:
        spent, ratio = metrics["cascade/core_seconds"], metrics["cascade/speedup"]
        console.print(f"{spent:,.1f} core-s, {ratio:.3g} times fewer than the last rung on all.")
    console.print(f"Answers are in {out / 'kept.parquet'}.")
