"""The runs below a folder, with what each is known by: stage, state, share, the metrics that matter most, and cost."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.claim import MARK
from data.errors import InputError
from data.json_files import parse_json
from data.progress import FILE, FINISHED
from experiments.application.run_directory import CONFIG
from experiments.runs.status import RunStatus, run_status

#: Stage -> patterns of the names of its metrics that matter most, in this order.
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "pipeline": ("recheck/top/hit_rate", "cost/speedup_whole_run", "cost/break_even_candidates"),
    "simulate": ("simulate/answered", "simulate/failed"),
    "train": ("test/mae*", "test/*/mae*", "test/*relative_l2*", "test/*rmse*", "valid/mae*", "valid/*"),
    "evaluate": ("test/*/mae*", "test/*relative_l2*", "test/*rmse*", "evaluate/*"),
    "screen": ("cascade/speedup", "cascade/hits", "screen/*s_per_second", "screen/eligible"),
    "prepare": ("prepare/valid", "prepare/molecules_per_second"),
    "active": ("active/labels", "test/*"),
    "calibrate": ("calibrate/*",),
    "predict": ("predict/*/mae*", "predict/*relative_l2*", "predict/*"),
    "serve": ("serve/answered", "serve/refused"),
    "prune": ("prune/largest_growth",),
    "distil": ("error_over_teacher/*", "distil/speedup"),
}
#: Metrics of a run that are listed.
SHOWN = 2
#: Levels of folders below the one that is listed in which runs are looked for.
DEPTH = 6


@dataclass(frozen=True)
class RunLine:
    """A run in a list.

    Attributes:
        status: its state; its directory is relative to the folder that is listed.
        headline: metrics that matter most of its stage, by name; none before it has any.
    """

    status: RunStatus
    headline: Mapping[str, float] = field(default_factory=dict)


def runs_below(folder: Path | str) -> list[RunLine]:
    """The runs in a folder and below, sorted by directory; a part of a run, such as the screen of a pipeline, is none.

    Raises:
        InputError: there is no such folder.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(
            "no such folder", where=str(folder), remedy="Name the folder in which commands had their run.dir"
        )
    lines = []
    for path in run_directories(root):
        if (line := run_line(path, root)) is not None:
            lines.append(line)
    return sorted(lines, key=lambda line: line.status.directory)


def run_line(path: Path, root: Path) -> RunLine | None:
    """The run in a directory below a folder; None if there is none."""
    try:
        status = run_status(path)
    except InputError:
        return None
    relative = os.path.relpath(path, root)
    values = metrics_of(path)
    if status.core_seconds is None:
        cost = values.get(f"{status.stage}/core_seconds")
        status = RunStatus(**{**vars(status), "core_seconds": cost})
    return RunLine(RunStatus(**{**vars(status), "directory": relative}), headline(status.stage, values))


def headline(stage: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a run that matter most, `SHOWN` at most."""
    chosen: dict[str, float] = {}
    for pattern in HEADLINES.get(stage, ("*",)):
        for name, value in metrics.items():
            if len(chosen) < SHOWN and fnmatch.fnmatchcase(name, pattern):
                chosen.setdefault(name, value)
    return chosen


def run_directories(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Directories that may hold a run, without looking into Zarr stores and hidden folders."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    names = {entry.name for entry in entries}
    if "zarr.json" in names:
        return
    if names & {FILE, CONFIG, MARK}:
        yield folder
    if depth:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from run_directories(Path(entry.path), depth - 1)


def metrics_of(path: Path) -> dict[str, float]:
    """The metrics of a run; empty where it has none that can be read."""
    try:
        values = parse_json((path / "metrics.json").read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {str(k): float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def share_text(status: RunStatus) -> str:
    """The share that is done, as text; "" where it is not known."""
    if status.share is None:
        return ""
    return "100%" if status.state == FINISHED else f"{status.share:.1%}"
