"""What a command would cost, from the records of earlier runs below the root; nothing is guessed.

Records of a campaign give a mean and a spread for each request. Other stages have one cost for a run of so many rows;
what a run of another size costs lies between that cost, if most of it is for starting, and a cost in proportion.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.costs import core_seconds as costs_of
from data.errors import InputError
from data.store.records import RecordStore
from experiments.agents.confinement import Root
from experiments.agents.row_counts import RowCounts, rows_of
from experiments.application.renamed import present_config
from experiments.application.run_directory import CONFIG
from experiments.application.yaml_files import read_yaml
from experiments.runs.listing import run_directories
from experiments.runs.status import run_status

#: Half the width of a 90% interval of a normal distribution, in standard deviations.
NORMAL_90 = 1.645
#: Stage -> parts of its configuration on which the cost of a row depends.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "simulate": ("simulator", "conformers"),
    "train": ("model", "train", "tune", "baseline", "on"),
    "screen": ("surrogate", "cascade", "standardise"),
    "predict": ("surrogate", "standardise"),
    "prepare": ("standardise",),
    "pipeline": ("cheap", "expensive", "model", "refine"),
    "evaluate": ("surrogate",),
    "distil": ("teacher", "simulator", "model", "train", "lessons", "alone"),
}
#: Keys of these parts that say how long a training lasts at most, or where something lies.
IGNORED = frozenset(
    {"epochs", "patience", "max_seconds", "max_core_seconds", "mlflow", "checkpoint_every_s", "campaign", "count"}
)
#: Stage -> metrics that hold the rows of a run; the first that is there counts.
ROWS: Mapping[str, tuple[str, ...]] = {
    "train": ("train/samples", "train/molecules", "train/frames", "train/states"),
    "screen": ("screen/molecules", "screen/designs"),
    "predict": ("predict/rows", "predict/frames", "predict/samples"),
    "prepare": ("prepare/molecules", "prepare/valid"),
    "pipeline": ("screen/molecules",),
    "distil": ("distil/read",),
}
#: Kinds of failure that come before any work.
REFUSED = ("invalid_input", "missing_component")
NO_RECORD = "no earlier run of this stage with these settings lies below the root"


@dataclass(frozen=True)
class Estimate:
    """A quantity with a 90% interval, or the reason why there is none.

    Attributes:
        value: the estimate; None where no record tells it.
        low, high: ends of its interval; None where unknown. A limit that is enforced is a `high` without a value.
        unit: its unit.
        basis: what it follows from.
        records: number of records, or of runs, that it follows from.
    """

    value: float | None
    low: float | None
    high: float | None
    unit: str
    basis: str
    records: int = 0


@dataclass(frozen=True)
class Estimates:
    """What a command would cost.

    Attributes:
        core_seconds: processor time of all processes.
        memory: peak memory of all processes.
        disk: what it would write.
        runs: directories of the runs from which this follows, relative to the root.
    """

    core_seconds: Estimate
    memory: Estimate
    disk: Estimate
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Earlier:
    """An earlier run with the same settings, as far as its cost depends on them.

    Attributes:
        directory: its directory.
        plain: its settings.
        metrics: its metrics; empty before it has any.
        core_seconds: processor time of all its sessions: of whole processes where those were watched
            (`agents.supervision`), otherwise without the start of the command.
    """

    directory: Path
    plain: Mapping[str, Any]
    metrics: Mapping[str, float]
    core_seconds: float | None

    def fixed(self, varying: float) -> float:
        """What it cost beyond what grows with its rows, such as starting processes and importing, core-seconds."""
        return max(0.0, (self.core_seconds or 0.0) - varying)


def estimate(stage: str, plain: Mapping[str, Any], rows: RowCounts, root: Root) -> Estimates:
    """What a composed command would cost.

    Args:
        stage: name of the stage.
        plain: its configuration with resolved values.
        rows: its rows.
        root: where earlier runs lie.
    """
    runs = list(earlier_runs(stage, plain, root))
    names = tuple(root.relative(run.directory) for run in runs)
    memory = _memory(stage, plain, runs)
    if not runs:
        none = Estimate(None, None, None, "core-s", NO_RECORD)
        return Estimates(none, memory, Estimate(None, None, None, "bytes", NO_RECORD))
    if stage == "simulate":
        return Estimates(*_of_records(runs, rows, root, memory), names)
    return Estimates(_of_runs(stage, plain, runs, rows, root), memory, _disk(stage, plain, runs, rows, root), names)


def earlier_runs(stage: str, plain: Mapping[str, Any], root: Root) -> Iterator[Earlier]:
    """Runs of a stage below the root whose cost tells that of this one."""
    parts, of_jobs = _parts(stage, plain), _watched_runs(root)
    for directory in run_directories(root.base):
        try:
            status = run_status(directory)
            if status.stage != stage:
                continue
            written = (directory / CONFIG).is_file()
            # A campaign that was stopped has not written its configuration yet.
            settings, spent = of_jobs.get(directory.resolve(), ({}, None))
            before = present_config(read_yaml(directory / CONFIG, remedy="") if written else settings)
        except (InputError, OSError):
            continue
        if before and _parts(stage, before) == parts:
            yield Earlier(directory, before, read_metrics(directory), spent or status.core_seconds)


def _watched_runs(root: Root) -> dict[Path, tuple[dict[str, Any], float | None]]:
    """Directory -> settings and processor time of the runs that were started for programs."""
    runs: dict[Path, tuple[dict[str, Any], float | None]] = {}
    for path in root.kept.glob("jobs/*/settings.json"):
        try:
            plain = json.loads(path.read_bytes())
            directory = (root.base / plain["run"]["dir"]).resolve()
            sessions = [json.loads(one.read_bytes()) for one in path.parent.glob("session-*.json")]
            spent = sum(float(session["core_seconds"]) for session in sessions) if sessions else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
        runs[directory] = (plain, spent)
    return runs


def _parts(stage: str, plain: Mapping[str, Any]) -> str:
    def kept(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {str(k): kept(v) for k, v in node.items() if k not in IGNORED and not str(v).startswith("${")}
        return [kept(item) for item in node] if isinstance(node, list | tuple) else node

    names = GROUPS.get(stage, tuple(k for k in plain if k not in ("run", "out", "hydra")))
    return json.dumps({name: kept(plain.get(name)) for name in names}, sort_keys=True, default=str)


def _of_records(
    runs: Sequence[Earlier], rows: RowCounts, root: Root, memory: Estimate
) -> tuple[Estimate, Estimate, Estimate]:
    """The cost of a campaign from the records of earlier ones."""
    spent: list[np.ndarray] = []
    size = started = 0.0
    for run in runs:
        try:
            store = root.inside(str(run.plain.get("out")).replace("${run.dir}", str(run.directory)), "out")
            facts = RecordStore.open(store).facts()
            one = costs_of(facts, str(store))
        except InputError:
            continue
        # What was refused at once tells nothing of what an answer costs.
        one = one[np.isfinite(one) & ~np.isin(facts["status"].astype(str), REFUSED)]
        if len(one):
            spent.append(one)
            size += _bytes_below(store)
            started = max(started, run.fixed(float(one.sum())))
    if not spent:
        none = "the earlier runs with these settings have no records"
        return Estimate(None, None, None, "core-s", none), memory, Estimate(None, None, None, "bytes", none)
    costs = np.concatenate(spent)
    count, mean = len(costs), float(costs.mean())
    basis = f"{count:,} records of earlier campaigns: {mean:.3g} core-s each, and {started:.3g} core-s to start"
    left = rows.left
    if left is None:
        return (
            Estimate(None, None, None, "core-s", f"{basis}; how many requests there are is not known", count),
            memory,
            Estimate(None, None, None, "bytes", "how many requests there are is not known", count),
        )
    variance = float(costs.var(ddof=1)) if count > 1 else mean**2
    half = NORMAL_90 * math.sqrt(left * variance + left**2 * variance / count)
    total = left * mean
    return (
        Estimate(started + total, started + max(0.0, total - half), started + total + half, "core-s", basis, count),
        memory,
        Estimate(left * size / count, None, None, "bytes", f"{size / count:,.0f} bytes a record", count),
    )


def _of_runs(stage: str, plain: Mapping[str, Any], runs: Sequence[Earlier], rows: RowCounts, root: Root) -> Estimate:
    """The cost of a run from those of earlier ones, for as many rows and passes over them."""
    finished = [run for run in runs if run.metrics]
    if not finished:
        return Estimate(None, None, None, "core-s", "the earlier runs with these settings did not finish")
    values, lows, highs = [], [], []
    for run in finished:
        varying = run.metrics.get(f"{stage}/core_seconds", run.core_seconds or 0.0)
        fixed, factor = run.fixed(varying), _factor(stage, plain, rows, run, root)
        ends = (varying, varying * factor if np.isfinite(factor) else varying)
        values.append(fixed + ends[1])
        lows.append(fixed + min(ends))
        highs.append(fixed + max(ends))
    basis = (
        f"{len(finished)} earlier run{'s' if len(finished) > 1 else ''}, in proportion to rows and passes where known"
    )
    return Estimate(float(np.mean(values)), min(lows), max(highs), "core-s", basis, len(finished))


def _factor(stage: str, plain: Mapping[str, Any], rows: RowCounts, run: Earlier, root: Root) -> float:
    """How many times the rows and passes of an earlier run this one has; NaN where either is not known."""
    if stage == "train":
        asked, passed = (plain.get("train") or {}).get("epochs"), run.metrics.get("train/epochs")
        try:
            before = rows_of(stage, run.plain, root).total
        except InputError:
            before = None
        passes = float(asked) / passed if asked and passed else math.nan
        return passes * rows.total / before if rows.total and before else passes
    before_rows = next((run.metrics[name] for name in ROWS.get(stage, ()) if run.metrics.get(name)), math.nan)
    return math.nan if rows.left is None else rows.left / before_rows


def _memory(stage: str, plain: Mapping[str, Any], runs: Sequence[Earlier]) -> Estimate:
    peaks = [v for run in runs for name, v in run.metrics.items() if name.endswith("peak_memory_mb")]
    if peaks:
        return Estimate(max(peaks), min(peaks), max(peaks), "MB", "peaks of earlier runs", len(peaks))
    campaign = plain.get("campaign")
    if stage == "simulate" and isinstance(campaign, Mapping) and isinstance(campaign.get("memory_mb"), int | float):
        workers = campaign.get("workers") or max(1, len(os.sched_getaffinity(0)) // int(campaign.get("threads") or 1))
        limit = float(campaign["memory_mb"]) * int(workers)
        return Estimate(None, None, limit, "MB", f"campaign.memory_mb of {workers} workers is enforced")
    return Estimate(None, None, None, "MB", "no earlier run states its peak")


def _disk(stage: str, plain: Mapping[str, Any], runs: Sequence[Earlier], rows: RowCounts, root: Root) -> Estimate:
    ends = []
    for run in runs:
        size = _bytes_below(run.directory)
        # A surrogate is as large whatever it learns from.
        factor = math.nan if stage == "train" else _factor(stage, plain, rows, run, root)
        ends.append(size * factor if np.isfinite(factor) else size)
    return Estimate(float(np.mean(ends)), min(ends), max(ends), "bytes", "what earlier runs wrote", len(ends))


def _bytes_below(folder: Path) -> float:
    return float(sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink()))


def read_metrics(directory: Path) -> dict[str, float]:
    """The metrics of a run; empty before it has any."""
    try:
        values = json.loads((directory / "metrics.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
