"""What the board shows of the runs below a folder, as plain values for JSON.

Run directories may come from elsewhere, so their files are only read where they are plain files of a moderate size
below the folder: no symbolic link is followed, neither of a file nor of a directory, and no device or pipe is opened.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.json_files import parse_json
from data.progress import FILE as PROGRESS
from data.progress import RUNNING
from experiments.application.run_directory import CONFIG
from experiments.application.yaml_files import read_yaml
from experiments.pages.formatting import core_time, duration, number
from experiments.runs.listing import RunLine, run_directories, run_line

METRICS, HISTORY, LOG = "metrics.json", "train.jsonl", "log.txt"
#: File that is read -> largest size, bytes; of the history of a training, what lies behind is left out.
LIMITS: Mapping[str, int] = {CONFIG: 1 << 20, METRICS: 8 << 20, PROGRESS: 1 << 20, HISTORY: 32 << 20, LOG: 1 << 40}
#: Largest number of histories of one run, of points of a curve, and of levels of folders in which histories lie.
HISTORIES, POINTS, DEPTH = 24, 600, 4
#: Entries of a history that are no curve.
AXES = ("epoch", "step", "seconds")


class RunRecords:
    """The runs below a folder, read again only where their files have changed.

    Args:
        root: the folder.

    Attributes:
        rows: directory relative to the folder -> what the list shows of the run: its state, cost, headline metrics, and
            a stamp that changes with its files.
        refused: directories that are not read.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.update()

    def update(self) -> None:
        """Look for runs, and read those that are new, under way or changed.

        Raises:
            InputError: there is no such folder.
        """
        if not self.root.is_dir():
            remedy = "Name the folder in which commands had their run.dir"
            raise InputError("no such folder", where=str(self.root), file=self.root, remedy=remedy)
        rows, refused = {}, []
        for path in run_directories(self.root):
            name = os.path.relpath(path, self.root)
            if not all(_is_readable(path / file) for file in LIMITS if file != HISTORY):
                refused.append(name)
                continue
            before, stamp = self.rows.get(name), _stamp(path)
            # The lock of a run that is under way may be released without a change of its files.
            if before is not None and before["stamp"] == stamp and before["state"] != RUNNING:
                rows[name] = before
            elif (line := run_line(path, self.root)) is not None:
                rows[name] = _row(line, path, stamp)
        self.rows, self.refused = dict(sorted(rows.items())), sorted(refused)


def run_details(path: Path) -> dict[str, Any]:
    """What the comparison shows of a run: its metrics, its settings, its learning curves and the end of its log."""
    metrics = _numbers(_json(path / METRICS))
    return {
        "metrics": {name: [value, metric_text(name, value)] for name, value in sorted(metrics.items())},
        "settings": _settings(path),
        "curves": [_curve(path, history) for history in _histories(path)],
    }


def metric_text(name: str, value: float) -> str:
    """A metric as people read it: times with their unit, others with four significant digits."""
    last = name.rsplit("/", 1)[-1]
    if last.endswith("core_seconds"):
        return core_time(value)
    if last.endswith("seconds") and value >= 0:
        return duration(value)
    if abs(value) < 1e9 and float(value).is_integer():
        return f"{value:,.0f}"
    return number(value, 4)


def _row(line: RunLine, path: Path, stamp: str) -> dict[str, Any]:
    status = line.status
    updated = status.updated if status.updated is not None else _modified(path)
    return {
        "directory": status.directory,
        "stage": status.stage,
        "state": status.state,
        "step": status.step,
        "done": status.done,
        "total": status.total,
        "share": status.share,
        "note": status.note,
        "left_s": status.left_s,
        "failures": dict(status.failures),
        "problem": status.problem,
        "headline": {name: [value, metric_text(name, value)] for name, value in line.headline.items()},
        "core_seconds": status.core_seconds,
        "cost": None if status.core_seconds is None else core_time(status.core_seconds),
        "wall_seconds": status.seconds,
        "wall": None if status.seconds is None else duration(status.seconds),
        "host": status.host,
        "updated": updated,
        "log": list(status.log),
        "stamp": stamp,
    }


def _stamp(path: Path) -> str:
    """A text that changes when a file of a run does."""
    times = []
    for name in (PROGRESS, METRICS, HISTORY, CONFIG):
        facts = _facts(path / name)
        times.append("" if facts is None else f"{facts.st_mtime_ns}:{facts.st_size}")
    return " ".join(times)


def _modified(path: Path) -> float | None:
    facts = _facts(path / METRICS) or _facts(path / CONFIG)
    return None if facts is None else facts.st_mtime


def _facts(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _is_readable(path: Path) -> bool:
    """Whether a file is absent, or is a plain file within its limit."""
    facts = _facts(path)
    return facts is None or (stat.S_ISREG(facts.st_mode) and facts.st_size <= LIMITS[path.name])


def _content(path: Path, limit: int) -> bytes:
    """Up to `limit` bytes of a plain file; none of a link, a device or a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def _json(path: Path) -> Any:
    try:
        return parse_json(_content(path, LIMITS[path.name]))
    except ValueError:
        return None


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    numbers = {str(k): v for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {name: float(v) for name, v in numbers.items() if math.isfinite(v)}


def _settings(path: Path) -> dict[str, str]:
    """Dotted key -> value as text, of the configuration of a run."""
    if not (path / CONFIG).is_file() or not _is_readable(path / CONFIG):
        return {}
    try:
        return dict(_leaves(read_yaml(path / CONFIG, remedy="")))
    except (InputError, OSError):
        return {}


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node if isinstance(node, str) else json.dumps(node, default=str)


def _histories(path: Path) -> list[Path]:
    """The histories of the trainings of a run, the nearest first."""
    histories: list[Path] = []
    folders = [(path, 0)]
    while folders and len(histories) < HISTORIES:
        folder, depth = folders.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        names = {entry.name for entry in entries}
        if "zarr.json" in names:
            continue
        if HISTORY in names:
            histories.append(folder / HISTORY)
        if depth < DEPTH:
            inner = (e for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
            folders += [
                (Path(e.path), depth + 1) for e in inner if e.name not in ("checkpoints", "mlruns", "surrogate")
            ]
    return histories


def _curve(path: Path, history: Path) -> dict[str, Any]:
    """The learning curves of one training: where it lies, its epochs, and name -> [epoch, value] for each."""
    rows = []
    for line in _content(history, LIMITS[HISTORY]).split(b"\n"):
        try:
            rows.append(_numbers(parse_json(line)))
        except ValueError:
            continue  # a line that is being written
    rows = [row for row in rows if "epoch" in row]
    every = max(1, math.ceil(len(rows) / POINTS))
    kept = [row for number, row in enumerate(rows) if number % every == 0 or number == len(rows) - 1]
    names = sorted({name for row in kept for name in row if name not in AXES})
    where = os.path.relpath(history.parent, path)
    return {
        "where": "" if where == "." else where,
        "epochs": len(rows),
        "series": {name: [[row["epoch"], row[name]] for row in kept if name in row] for name in names},
    }
