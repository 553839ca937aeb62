"""The re-check of a screen by simulation, and the metrics that summarise a pipeline run.

Every cost is in core-seconds, and every speed-up is a ratio of two costs measured in the same run on the same cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from data.checksums import verify
from data.files import listed_path
from data.identity import molecule_keys
from experiments.application.stage_costs import Ledger
from experiments.pipelines.held_out import predict
from experiments.pipelines.molecule_labelling import SimulatedLabels
from experiments.pipelines.refinement import Refined, score
from experiments.screening.hit_rates import HitRate, break_even, enrichment, enrichment_at_least
from experiments.screening.hit_selection import Diversity, unlike
from experiments.screening.ledger import result_parts
from experiments.screening.library_screen import Objective
from experiments.screening.readings import StandardForms
from surrogates.learning.scores import unit_suffix
from surrogates.properties.surrogate import PropertySurrogate


@dataclass(frozen=True)
class Rechecked:
    """Number of simulated molecules, cost and metrics of a re-check; its rows are in `recheck.parquet`."""

    items: int
    core_seconds: float
    metrics: dict[str, float]


def recheck(
    surrogate: PropertySurrogate,
    label: Callable[[list[str], list[str]], SimulatedLabels],
    objective: Objective,
    targets: Sequence[str],
    run_dir: Path,
    top: int,
    random: Sequence[str],
    refined: Refined | None = None,
    diversity: Diversity | None = None,
) -> Rechecked:
    """Simulate the best `top` of the screen and the `random` control, and compare with the predictions.

    Args:
        surrogate: surrogate that screened.
        label: runs the expensive simulator on SMILES for these targets.
        objective: defines a hit.
        targets: names of the properties.
        run_dir: directory with `screen/top.csv`; receives `recheck.parquet`.
        top: number of the best candidates to simulate.
        random: SMILES of candidates drawn uniformly, which are in no training set.
        refined: the candidates as the middle rung ranks them, whose predictions then replace those of the surrogate;
            None to take the best of the screen.
        diversity: how unlike ones among the best are picked; None takes the best.
    """
    best = unlike(_best_of_screen(run_dir) if refined is None else refined.best(), top, diversity or Diversity())
    keys = set(molecule_keys(best))
    control = [s for s, key in zip(random, molecule_keys(random), strict=True) if key not in keys]
    smiles = best + control
    labels = label(smiles, list(targets))
    screened = predict(surrogate, smiles)
    answer = screened if refined is None else refined.corrections.predict(refined.cheap, smiles)
    row = {s: i for i, s in enumerate(labels.smiles)}
    failures = {s: (kind, message) for s, kind, message in labels.failed}
    have = np.array([s in row for s in smiles])
    frame = pd.DataFrame(
        {
            "smiles": smiles,
            "group": ["top"] * len(best) + ["random"] * len(control),
            "rank": [*range(1, len(best) + 1), *range(1, len(control) + 1)],
            "score": objective.score(answer) if refined is None else score(objective, targets, answer),
            "status": ["ok" if ok else failures[s][0] for s, ok in zip(smiles, have, strict=True)],
            "message": ["" if ok else failures[s][1] for s, ok in zip(smiles, have, strict=True)],
            "seconds": [labels.seconds[row[s]] if s in row else np.nan for s in smiles],
        }
    )
    for target in targets:
        frame[target] = [labels.values[target][row[s]] if s in row else np.nan for s in smiles]
        for suffix in ("", "_std", "_low", "_high"):
            frame[f"{target}{suffix or '_pred'}"] = answer[f"{target}{suffix}"]
        frame[f"{target}_screen"] = screened[target]
    frame["hit"] = have & objective.is_hit({t: frame[t].to_numpy() for t in targets})
    with listed_path(run_dir / "recheck.parquet") as temporary:
        frame.to_parquet(temporary)
    return Rechecked(len(labels.smiles), labels.core_seconds, recheck_metrics(frame, targets, labels.units))


def _best_of_screen(run_dir: Path) -> list[str]:
    best_of_all = run_dir / "screen" / "top.csv"
    verify(best_of_all, remedy="Remove the directory screen and run again")
    ranked = pd.read_csv(best_of_all)
    if "standard_smiles" in ranked:
        # The form that was screened is the one that is simulated.
        ranked["smiles"] = ranked["standard_smiles"].fillna(ranked["smiles"])
    return ranked["smiles"].astype(str).tolist()


def recheck_metrics(
    frame: pd.DataFrame, targets: Sequence[str], units: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Hit rates with exact intervals, enrichment, errors of the predictions and coverage of the intervals, by group.

    Args:
        frame: table with the columns of `recheck.parquet`.
        targets: names of the properties.
        units: unit of each, for the keys of the errors; None for no errors.
    """
    done = frame[frame["status"] == "ok"]
    metrics: dict[str, float] = {"recheck/failed": float(len(frame) - len(done))}
    rates: dict[str, HitRate] = {}
    for group in ("top", "random"):
        part = done[done["group"] == group]
        rates[group] = rate = HitRate(int(part["hit"].sum()), len(part))
        metrics |= {
            f"recheck/{group}/hits": float(rate.hits),
            f"recheck/{group}/molecules": float(rate.trials),
        }
        if rate.value is not None:
            metrics |= {
                f"recheck/{group}/hit_rate": rate.value,
                f"recheck/{group}/hit_rate_low": rate.interval[0],
                f"recheck/{group}/hit_rate_high": rate.interval[1],
            }
            for target in targets:
                # The cheap simulator may have failed on a random molecule, which then has no prediction.
                some = part[part[f"{target}_pred"].notna()]
                if not len(some):
                    continue
                metrics[f"recheck/{group}/{target}/coverage_90"] = float(_inside(some, target).mean())
                for name, column in (("mae", "pred"), ("screen_mae", "screen")):
                    if units is not None:
                        error = (some[target] - some[f"{target}_{column}"]).abs().mean()
                        metrics[f"recheck/{group}/{target}/{name}{unit_suffix(units[target])}"] = float(error)
    if len(done):
        inside = [_inside(done[done[f"{t}_pred"].notna()], t) for t in targets]
        if any(len(some) for some in inside):
            metrics["recheck/coverage_90"] = float(np.mean(np.concatenate(inside)))
    ratio = enrichment(rates["top"], rates["random"])
    if ratio is not None:
        metrics["recheck/enrichment"] = ratio
    metrics["recheck/enrichment_at_least"] = enrichment_at_least(rates["top"], rates["random"])
    return metrics


def _inside(frame: pd.DataFrame, target: str) -> np.ndarray:
    """Whether each interval holds the simulated value."""
    return ((frame[f"{target}_low"] <= frame[target]) & (frame[target] <= frame[f"{target}_high"])).to_numpy(bool)


def label_metrics(name: str, labels: SimulatedLabels) -> dict[str, float]:
    """Counts and cost (core-seconds) of the labels of one fidelity."""
    done, failed = len(labels.smiles), len(labels.failed)
    return {
        f"labels/{name}/done": float(done),
        f"labels/{name}/failed": float(failed),
        f"labels/{name}/core_seconds": labels.core_seconds,
    }


#: Stages that must run before the first prediction; the learning curve is not one, because only the report needs it.
FIXED_STAGES = ("cheap labels", "expensive labels", "pretraining", "fine-tuning")

#: Stages that are spent on these candidates.
SEARCH_STAGES = ("screening", "ranking", "refinement", "refinement labels", "recheck")


def cost_metrics(ledger: Ledger, cheap: SimulatedLabels, expensive: SimulatedLabels) -> dict[str, float]:
    """Costs per molecule, speed-ups and the break-even count.

    The cost per molecule of the expensive simulator is the mean over the labels of this run, conformers and failures
    included; that of the surrogate is the cost of the screen, from file to ranked results. The whole-run speed-up
    compares simulating every candidate with the total cost of this run: labels, training, screen and re-check.
    """
    screening = ledger.costs["screening"]
    per_expensive = expensive.core_seconds / max(1, len(expensive.smiles))
    per_cheap = cheap.core_seconds / max(1, len(cheap.smiles))
    per_surrogate = screening.core_seconds / max(1, screening.items)
    fixed = ledger.core_seconds(*FIXED_STAGES)
    spent = fixed + ledger.core_seconds(*SEARCH_STAGES)
    metrics = {
        "cost/expensive_core_seconds_per_molecule": per_expensive,
        "cost/cheap_core_seconds_per_molecule": per_cheap,
        "cost/surrogate_core_seconds_per_molecule": per_surrogate,
        "cost/speedup_per_molecule": per_expensive / per_surrogate,
        "cost/speedup_per_molecule_over_cheap": per_cheap / per_surrogate,
        "cost/fixed_core_seconds": fixed,
        "cost/whole_run_core_seconds": spent,
        "cost/speedup_whole_run": per_expensive * screening.items / spent,
    }
    count = break_even(fixed, per_expensive, per_surrogate)
    return metrics | ({"cost/break_even_candidates": count} if count is not None else {})


def funnel_metrics(run_dir: Path, objective: Objective, metrics: Mapping[str, float]) -> dict[str, float]:
    """Number of candidates left after each step; the results are read part by part, so memory stays small."""
    in_domain = in_window = 0
    for part in result_parts(run_dir / "screen"):
        names = ["in_domain", *objective.windows]
        columns = {n: c.to_numpy() for n, c in zip(names, pq.read_table(part, columns=names).columns, strict=True)}
        domain = columns["in_domain"].astype(bool)
        in_domain += int(domain.sum())
        in_window += int((domain & objective.in_windows(columns)).sum())
    return {
        "funnel/candidates": metrics["screen/molecules"],
        "funnel/valid": metrics["screen/valid"],
        "funnel/in_domain": float(in_domain),
        "funnel/in_window": float(in_window),
        **(
            {"funnel/refined": metrics["refinement/candidates"] - metrics["refinement/failed"]}
            if "refinement/candidates" in metrics
            else {}
        ),
        "funnel/top": metrics.get("recheck/top/molecules", 0.0),
        "funnel/confirmed": metrics.get("recheck/top/hits", 0.0),
    }


def standard_forms(metrics: Mapping[str, float]) -> dict[str, str]:
    """The row on candidates that were screened in their standard form; empty if none was requested."""
    if "screen/standardised" not in metrics:
        return {}
    forms = StandardForms(int(metrics["screen/standardised"]), int(metrics["screen/stripped"]))
    return {"standard forms": forms.said}


def closing_rows(metrics: Mapping[str, float], targets: Sequence[str], units: Mapping[str, str]) -> dict[str, str]:
    """The rows of the table that ends a pipeline run."""
    rows = {
        "candidates screened": f"{metrics['screen/molecules']:,.0f} at {metrics['screen/molecules_per_second']:,.0f}/s",
        **standard_forms(metrics),
        "labels": f"{metrics['labels/cheap/done']:,.0f} cheap, {metrics['labels/expensive/done']:,.0f} expensive, "
        f"{metrics['labels/cheap/failed'] + metrics['labels/expensive/failed']:,.0f} failed",
    }
    for target in targets:
        key = f"mae{unit_suffix(units[target])}"
        rows[f"{target}, held-out MAE"] = (
            f"{metrics[f'evaluate/{target}/surrogate/{key}']:.3f} {units[target]} "
            f"(mean {metrics[f'evaluate/{target}/mean/{key}']:.3f}, "
            f"cheap method + linear fit {metrics[f'evaluate/{target}/cheap_linear/{key}']:.3f}, "
            f"Morgan + forest {metrics[f'evaluate/{target}/morgan_forest/{key}']:.3f}); "
            f"coverage of the 90% intervals {metrics[f'evaluate/{target}/surrogate/coverage_90']:.0%}"
        )
        if f"evaluate/{target}/refined/{key}" in metrics:
            rows[f"{target}, refined"] = (
                f"{metrics[f'evaluate/{target}/refined/{key}']:.3f} {units[target]} held out; "
                f"coverage {metrics[f'evaluate/{target}/refined/coverage_90']:.0%}"
                + (
                    f"; {value:.3f} {units[target]} for the best that were re-checked "
                    f"(the surrogate {metrics[f'recheck/top/{target}/screen_{key}']:.3f})"
                    if (value := metrics.get(f"recheck/top/{target}/{key}")) is not None
                    else ""
                )
            )
    if "refinement/candidates" in metrics:
        rows["refined"] = (
            f"{metrics['refinement/candidates']:,.0f} best of the screen by the cheap method, "
            f"{metrics['refinement/failed']:,.0f} failed; "
            f"{metrics['refinement/labels']:,.0f} of them labelled to learn from"
        )
    for key, file in (("refinement/filtered", "filtered.csv"), ("screen/filtered", "screen/filtered.csv")):
        if key in metrics:
            rows["refused by filters"] = f"{metrics[key]:,.0f} candidates as good as the best, in {file}"
            break
    rows["re-checked hits"] = (
        f"{metrics['recheck/top/hits']:.0f} of {metrics['recheck/top/molecules']:.0f} best, "
        f"{metrics['recheck/random/hits']:.0f} of {metrics['recheck/random/molecules']:.0f} at random"
    )
    rows["cost per molecule"] = (
        f"{metrics['cost/expensive_core_seconds_per_molecule']:.2f} core-s simulated, "
        f"{1e6 * metrics['cost/surrogate_core_seconds_per_molecule']:.0f} core-us by the surrogate "
        f"(x {metrics['cost/speedup_per_molecule']:,.0f})"
    )
    rows["whole run"] = (
        f"{metrics['cost/whole_run_core_seconds']:,.0f} core-s with labels, training and re-check "
        f"(x {metrics['cost/speedup_whole_run']:,.0f} compared with simulating every candidate)"
    )
    return rows
