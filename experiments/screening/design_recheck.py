"""Simulates the best designs of a screen and a random control, and compares the predictions with the solutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from jaxtyping import Int

from data.checksums import verify
from data.errors import InputError
from data.files import listed_path
from data.formats.cells import safe_frame
from data.terminal import columns_table, print_table
from experiments.campaigns.named_simulator import named_simulator
from experiments.screening.ledger import result_parts
from experiments.screening.objective import Objective
from simulators.adapter import Simulator
from simulators.campaigns.answers import answer_requests
from simulators.campaigns.config import CampaignConfig

if TYPE_CHECKING:
    from surrogates.parameters.surrogate import ParameterSurrogate

STORE = "recheck.zarr"


@dataclass(frozen=True)
class RecheckSettings:
    """How designs are re-checked; the keys of `recheck`.

    Attributes:
        simulator: name of a configuration of a simulator, or the run of `understudy simulate` that used one; None to
            skip the re-check.
        settings: overrides of the simulator, such as `simulator.order=3`.
        top: number of the best designs.
        random: number of designs drawn at random.
        workers: number of processes that solve; None for one for each core.
        seed: seed of the random draw.
    """

    simulator: str | None = None
    settings: tuple[str, ...] = ()
    top: int = 20
    random: int = 20
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "random", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")

    def build_simulator(self) -> Simulator:
        """Build the simulator.

        Raises:
            InputError: no simulator is named, or there is none of that name.
        """
        if self.simulator is None:
            raise InputError("no simulator is named", where="recheck.simulator", remedy="Give recheck.simulator=NAME")
        return named_simulator(self.simulator, self.settings, key="recheck.simulator")


def recheck_designs(
    surrogate: ParameterSurrogate,
    simulator: Simulator,
    out: Path,
    objective: Objective,
    how: RecheckSettings,
    *,
    progress: bool = True,
) -> dict[str, float]:
    """Solve the best designs of a screen and a random control, in a resumable campaign.

    Args:
        surrogate: surrogate that screened.
        simulator: simulator that solves.
        out: directory of the screen; receives `recheck.zarr` and `recheck.csv`.
        objective: objective of the screen.
        how: settings of the re-check.
        progress: whether to show a progress bar and the table of the best designs.

    Returns:
        Flat metrics: those of `recheck_metrics`, and `recheck/core_seconds`.

    Raises:
        InputError: the simulator has other inputs or outputs than the surrogate.
    """
    refuse_other(surrogate, simulator)
    best = _best(out, how.top)
    drawn = _at_random(out, how.random, how.seed, set(best["line"]))
    frame = pd.concat([best.assign(group="top"), drawn.assign(group="random")], ignore_index=True)
    frame["rank"] = frame.groupby("group").cumcount() + 1
    layout = surrogate.facts.layout
    values = frame[list(surrogate.columns)].to_numpy(float)
    requests = [simulator.spec.request({k: v[i] for k, v in layout.named(values).items()}) for i in range(len(values))]
    answers = answer_requests(
        simulator,
        requests,
        out / STORE,
        CampaignConfig(workers=how.workers, give_up_after=None),
        names=tuple(v.name for v in layout.outputs),
        progress=progress,
        none_answered=True,
    )
    frame["status"], frame["message"], frame["seconds"] = answers.status, answers.message, answers.seconds
    predicted = surrogate.predict_table(values)
    failed = np.full(len(surrogate.targets), np.nan)
    pairs = zip(answers.status, answers.values, strict=True)
    solutions = np.stack([layout.flat_outputs(v) if status == "ok" else failed for status, v in pairs])
    for k, name in enumerate(surrogate.targets):
        solved = solutions[:, k]
        frame[name], frame[f"{name}_pred"] = solved, predicted[name]
        for end in ("std", "low", "high"):
            if f"{name}_{end}" in predicted:
                frame[f"{name}_{end}"] = predicted[f"{name}_{end}"]
        frame[f"{name}_relative_error"] = np.abs(predicted[name] - solved) / np.maximum(np.abs(solved), 1e-300)
    with listed_path(out / "recheck.csv") as temporary:
        safe_frame(frame).to_csv(temporary, index=False)
    if progress:
        show(frame, objective.target(surrogate.targets))
    # The table above shows first why each design failed.
    answers.summary.refuse_no_answer(None)
    metrics = recheck_metrics(frame, surrogate.targets, objective)
    return {**metrics, "recheck/core_seconds": answers.summary.core_seconds}


def recheck_metrics(frame: pd.DataFrame, targets: Sequence[str], objective: Objective) -> dict[str, float]:
    """Errors and coverage of each target by group, and how many of the top designs beat the best random one.

    Args:
        frame: table with the columns of `recheck.csv`.
        targets: names of the targets.
        objective: objective of the screen.
    """
    metrics: dict[str, float] = {}
    for group in ("top", "random"):
        part = frame[frame["group"] == group]
        done = part[part["status"] == "ok"]
        metrics |= {
            f"recheck/{group}/solved": float(len(done)),
            f"recheck/{group}/failed": float(len(part) - len(done)),
        }
        for name in targets if len(done) else ():
            metrics[f"recheck/{group}/{name}/relative_error"] = float(done[f"{name}_relative_error"].mean())
            metrics[f"recheck/{group}/{name}/best"] = float((objective.sign * done[name]).max() * objective.sign)
            if f"{name}_low" in done:
                inside = (done[f"{name}_low"] <= done[name]) & (done[name] <= done[f"{name}_high"])
                metrics[f"recheck/{group}/{name}/coverage_90"] = float(inside.mean())
    name = objective.target(list(targets))
    worth = (objective.sign * frame[name]).where(frame["status"] == "ok")
    chosen, random = worth[frame["group"] == "top"].dropna(), worth[frame["group"] == "random"].dropna()
    if len(chosen) and len(random):
        metrics["recheck/top/beat_best_random"] = float((chosen > random.max()).sum())
    return metrics


def refuse_other(surrogate: ParameterSurrogate, simulator: Simulator) -> None:
    """Refuse a simulator whose inputs or outputs do not match a surrogate.

    Raises:
        InputError: inputs, their dims or units differ, or a target is not among the outputs.
    """
    ours = {v.name: (v.dims, v.units) for v in surrogate.facts.layout.inputs}
    theirs = {v.name: (v.dims, v.units) for v in simulator.spec.inputs}
    if ours != theirs:
        raise InputError(
            f"{simulator.name} takes {', '.join(theirs)}; the surrogate takes {', '.join(ours)}",
            where="recheck.simulator",
            remedy="Name the simulator whose labels it learned from, with the same settings",
        )
    outputs = {v.name for v in simulator.spec.outputs}
    if lacking := [v.name for v in surrogate.facts.layout.outputs if v.name not in outputs]:
        raise InputError(f"{simulator.name} does not give {', '.join(lacking)}", where="recheck.simulator")


def show(frame: pd.DataFrame, name: str) -> None:
    """Print the predictions and solutions of the top designs."""
    rows = []
    for row in frame[frame["group"] == "top"].to_dict("records"):
        interval = f"{row[f'{name}_low']:.4g} to {row[f'{name}_high']:.4g}" if f"{name}_low" in row else ""
        solved = f"{row[name]:.5g}" if row["status"] == "ok" else str(row["status"])
        error = f"{row[f'{name}_relative_error']:.2%}" if row["status"] == "ok" else ""
        rows.append((str(row["rank"]), str(row["line"]), f"{row[f'{name}_pred']:.5g}", interval, solved, error))
    heads = ("rank", "line", "predicted", "90% interval", "solved", "error")
    print_table(columns_table(f"{name}: predicted and solved", heads, rows, texts=0))


def _best(out: Path, count: int) -> pd.DataFrame:
    path = out / "top.parquet"
    if not path.exists():
        raise InputError("no design has a score", where=str(out), remedy="Widen the windows of the objective")
    verify(path, remedy="Remove it and run the screen again, which writes it anew")
    return pq.read_table(path).slice(0, count).to_pandas()


def _at_random(out: Path, count: int, seed: int, others: set[int]) -> pd.DataFrame:
    """Rows of the results drawn uniformly, without those of `others`; the parts are read one by one."""
    parts = result_parts(out)
    sizes = [pq.read_metadata(part).num_rows for part in parts]
    total = sum(sizes)
    # Enough rows are drawn that those among the others can be dropped.
    picks = np.random.default_rng(seed).choice(total, min(total, count + len(others)), replace=False)
    tables = []
    for part, start, size in zip(parts, np.cumsum([0, *sizes]), sizes, strict=False):
        inside: Int[np.ndarray, " n"] = np.flatnonzero((start <= picks) & (picks < start + size))
        if len(inside):
            rows = pq.read_table(part).take(picks[inside] - start).to_pandas()
            tables.append(rows.assign(order=inside))
    frame = pd.concat(tables, ignore_index=True).sort_values("order")
    return frame[~frame["line"].isin(others)].head(count).drop(columns="order")
