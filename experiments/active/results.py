"""Writes the results of a run of active learning: figure, metrics, labels, surrogate and closing table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from data.files import write_json, write_text
from data.formats.rows import Row
from data.identity import frame_keys
from data.molecules.writing import write_extxyz
from data.structures.structures import Structures
from experiments.active.active_learning import ActiveConfig, ActiveOutcome
from experiments.active.choice_trial import Verdict, verdict
from experiments.active.round_rows import verdict_line
from experiments.application.stage_costs import Ledger
from experiments.pages.formatting import count, number
from experiments.pages.style import BLUE, INK, VERMILLION, draw, legend_below, plain_logarithmic
from surrogates.learning.learned_from import hash_keys, save_hashes

#: Ticks of an axis of errors, meV/Angstrom.
TICKS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
#: What a run spends time on.
ACTIVITIES = ("labels", "training", "trial", "exploration")
ENDINGS = {
    "goal": "the goal was met",
    "labels": "the labels were spent",
    "pool": "every frame of the pool was asked for",
    "rounds": "the rounds were used up",
}


def write_frames(frames: Structures, path: Path) -> None:
    """Write labelled frames as extxyz."""
    rows, spins = [], frames.spins
    for m in range(len(frames)):
        atoms = slice(frames.atom_start[m], frames.atom_start[m + 1])
        properties: dict[str, Any] = {"energy": float(frames.energy[m]), "forces": frames.forces[atoms]}
        properties |= {"charge": int(frames.charge[m]), "spin": int(spins[m])}
        if frames.periodic[m].any():
            properties |= {"pbc": frames.periodic[m], "cell": frames.lattice[m]}
        if frames.fixed[atoms].any():
            properties["fixed"] = frames.fixed[atoms]
        rows.append(Row(m + 1, None, frames.numbers[atoms], frames.positions[atoms], properties))
    write_extxyz(path, rows)


def metrics(outcome: ActiveOutcome, config: ActiveConfig, ledger: Ledger) -> dict[str, float]:
    """The metrics of a run, as written to `metrics.json`."""
    last = outcome.rounds[-1]
    run_metrics = {
        "active/rounds": float(len(outcome.rounds)),
        "active/labels": float(last["labels"]),
        "active/labels_failed": float(sum(row["failed"] for row in outcome.rounds)),
        "active/goal_met": float(outcome.stopped_by == "goal"),
        "active/goal_force_error_mev_per_angstrom": config.stop.force_error_mev_per_angstrom,
        "active/fell_back": float(last["fell_back"]) if "fell_back" in last else 0.0,
    }
    for name in ("force_error_mev_per_angstrom", "uncertain_share", "lost_share"):
        if last[name] is not None:
            run_metrics[f"active/{name}"] = last[name]
    state = verdict(outcome.rounds, config.trial)
    if state is not None:
        run_metrics |= {
            "active/fell_back": float(state.falls_back),
            "active/trial_difference": state.difference,
            "active/trial_standard_error": state.standard_error,
            "active/trial_frames": float(state.frames),
        }
    for name in ("uncertainty_rank_correlation", "chosen_energy_kt", "audit_energy_kt"):
        values = [row[name] for row in outcome.rounds if row.get(name) is not None]
        if values:
            run_metrics[f"active/{name}"] = float(np.mean(values))
    run_metrics |= {f"active/{name}": value for name, value in last.items() if name.startswith("test_")}
    run_metrics |= {
        f"cost/{name}_core_seconds": ledger.core_seconds(name)
        for name in ("labels", "training", "trial", "exploration")
    }
    return run_metrics


def curve(axes: Axes, rounds: Sequence[Mapping[str, Any]], goal: float) -> None:
    """Plot the errors on fresh frames, and on test frames if there are any, against the number of labels."""
    # The surrogate that a round audits was trained on the labels of the rounds before it.
    before = [0, *(row["labels"] for row in rounds[:-1])]
    fresh = [
        (n, row["force_error_mev_per_angstrom"])
        for n, row in zip(before, rounds, strict=True)
        if row["force_error_mev_per_angstrom"] is not None
    ]
    if fresh:
        axes.plot(*zip(*fresh, strict=True), "o-", color=BLUE, label="fresh frames of its own dynamics")
    test = [(row["labels"], row[key]) for row in rounds for key in ("test_forces_mae_mev_per_angstrom",) if key in row]
    if test:
        axes.plot(*zip(*test, strict=True), "s-", color=VERMILLION, label="test frames")
    axes.axhline(goal, color=INK, linestyle=":", label="goal")
    by_chance = [n for n, row in zip(before, rounds, strict=True) if row.get("fell_back")]
    if by_chance:
        axes.axvline(by_chance[0], color=INK, linewidth=0.8, label="from here at random")
    error_axis(axes, [value for _, value in fresh + test] + [goal])
    axes.set(xlabel="Labels", ylabel="Mean absolute error of a force component (meV/Å)")
    legend_below(axes)


def error_axis(axes: Axes, values: Sequence[float]) -> None:
    """Give `axes` a logarithmic vertical axis that encloses `values` with a small margin."""
    low, high = 0.8 * min(values), 1.25 * max(values)
    plain_logarithmic(axes, "y", [tick for tick in TICKS if low <= tick <= high] or [float(np.median(values))])
    axes.set_ylim(low, high)


def write_report(outcome: ActiveOutcome, config: ActiveConfig, ledger: Ledger, run_dir: Path) -> dict[str, float]:
    """Write `metrics.json`, `active.json`, `active.svg`, `labels.xyz` and `surrogate/`, and return the metrics."""
    run_metrics = metrics(outcome, config, ledger)
    state = verdict(outcome.rounds, config.trial)
    facts = {"stopped_by": outcome.stopped_by, "ended": ENDINGS[outcome.stopped_by], "rounds": outcome.rounds}
    write_json(run_dir / "active.json", {**facts, "choice": None if state is None else verdict_line(state)})
    write_frames(outcome.frames, run_dir / "labels.xyz")
    goal = config.stop.force_error_mev_per_angstrom
    labels = count(run_metrics["active/labels"])
    finding = (
        f"{'Reached' if run_metrics['active/goal_met'] else 'Not yet at'} {number(goal)} meV/Å after {labels} labels"
    )
    drawing = draw(
        lambda axes: curve(axes, outcome.rounds, goal),
        name="active",
        label="Error of forces against the number of labels",
        title=finding,
    )
    write_text(run_dir / "active.svg", drawing.xml)
    scores = {name: value for name, value in run_metrics.items() if not name.startswith("cost/")}
    outcome.potential.with_facts(scores=scores).save(run_dir / "surrogate")
    save_hashes(run_dir / "surrogate", hash_keys(frame_keys(outcome.frames)))
    write_json(run_dir / "metrics.json", dict(sorted(run_metrics.items())))
    return run_metrics


def closing_rows(
    run_metrics: Mapping[str, float], stopped_by: str, state: Verdict | None, run_dir: Path
) -> dict[str, object]:
    """The rows of the table that ends the run."""
    error = run_metrics.get("active/force_error_mev_per_angstrom")
    failed = f", {run_metrics['active/labels_failed']:.0f} failed" if run_metrics["active/labels_failed"] else ""
    rows: dict[str, object] = {
        "ended because": ENDINGS[stopped_by],
        "labels": f"{run_metrics['active/labels']:,.0f} in {run_metrics['active/rounds']:.0f} rounds{failed}",
        "error on fresh frames": "not measured" if error is None else f"{error:.3g} meV/Å before they were learned",
    }
    if state is not None:
        rows["choice of frames"] = verdict_line(state).partition(": ")[2]
    if "active/test_forces_mae_mev_per_angstrom" in run_metrics:
        rows["error on test frames"] = f"{run_metrics['active/test_forces_mae_mev_per_angstrom']:.3g} meV/Å"
    for name in ACTIVITIES:
        rows[f"cost of {name}"] = f"{run_metrics[f'cost/{name}_core_seconds']:,.0f} core-s"
    return rows | {"surrogate": run_dir / "surrogate", "figure": run_dir / "active.svg", "run": run_dir}
