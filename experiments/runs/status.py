"""What a run directory says about its run: whether that is running, how far it is, what failed and what it costs.

The state is that of `progress.json`, checked against the lock of the directory (`data.claim`), which the kernel
releases however a process ends: a run that calls itself running and holds no lock was killed. Locks of some network
file systems are seen by one machine only, or absent. A run of another machine, or of an earlier start of this one,
therefore counts as running while its file is fresh, and without locks one of this machine while its process lives too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.claim import lock_is_held, marked_kind
from data.errors import InputError
from data.host import boot_id, host_name
from data.json_files import parse_json
from data.progress import FAILED, FILE, FINISHED, FORMAT, RUNNING, STOPPED
from experiments.application.run_directory import CONFIG
from experiments.application.yaml_files import read_yaml

#: A process was killed, or its machine stopped, while it ran.
LOST = "lost"
#: A run of an earlier version, which left no metrics.
UNKNOWN = "unknown"
STATES = (RUNNING, FINISHED, STOPPED, FAILED, LOST, UNKNOWN)
#: Age of the file of a run on another machine, in multiples of the time between writes, above which it counts as lost.
STALE = 20
#: Lines of the log that are read, and bytes in which they are looked for.
LOG_LINES, LOG_BYTES = 10, 16_384


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Attributes:
        directory: directory of the run.
        stage: name of the stage.
        state: one of `STATES`.
        step: what was done last, such as "training"; shares, rates and times are those of this step.
        done, total: how much of it is done, and how much there is; None where unknown.
        share: share of it that is done.
        rate_per_s: what is done in a second of this session.
        left_s: time that is left at this rate, s; None where unknown or not running.
        note: what the progress bar says beside, such as a rate with its unit.
        failures: kind of failure -> count.
        core_seconds: processor time of all sessions of the run, s.
        seconds: wall time of the last session, s.
        updated: when the file was written last, seconds since 1970.
        problem: why it failed.
        host, pid: machine and process of the last session.
        log: last lines of `log.txt`.
    """

    directory: str
    stage: str
    state: str
    step: str = ""
    done: float | None = None
    total: float | None = None
    share: float | None = None
    rate_per_s: float | None = None
    left_s: float | None = None
    note: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)
    core_seconds: float | None = None
    seconds: float | None = None
    updated: float | None = None
    problem: str = ""
    host: str = ""
    pid: int | None = None
    log: tuple[str, ...] = ()


def run_status(directory: Path | str) -> RunStatus:
    """The state of the run in a directory; nothing in it is changed.

    Raises:
        InputError: there is no run.
    """
    path = Path(directory).expanduser()
    facts = _progress(path)
    stage = _stage(path, facts)
    if stage is None:
        raise InputError(
            "no run here: it has neither progress.json nor config.yaml",
            where=str(directory),
            remedy="Name the run.dir of a command; understudy runs DIR lists those below a folder",
        )
    locked = lock_is_held(path)
    log = tuple(_last_lines(path / "log.txt"))
    if facts is None:
        ended = FINISHED if (path / "metrics.json").is_file() else UNKNOWN
        return RunStatus(str(directory), stage, RUNNING if locked else ended, log=log)
    state = _state(facts, locked)
    numbers = {
        name: _number(facts.get(name))
        for name in ("done", "total", "share", "rate_per_s", "left_s", "core_seconds", "seconds", "updated")
    }
    if state == FINISHED and numbers["total"] is not None:
        numbers["share"] = 1.0
    if state != RUNNING:
        numbers["left_s"] = None
    failures = facts.get("failures")
    return RunStatus(
        str(directory),
        stage,
        state,
        **numbers,
        step=str(facts.get("step", "")),
        note=str(facts.get("note", "")),
        failures={str(k): int(v) for k, v in failures.items()} if isinstance(failures, dict) else {},
        problem=str(facts.get("problem", "")),
        host=str(facts.get("host", "")),
        pid=facts["pid"] if isinstance(facts.get("pid"), int) else None,
        log=log,
    )


def _state(facts: Mapping[str, Any], locked: bool | None) -> str:
    state = str(facts.get("state"))
    if locked:
        return RUNNING
    if state != RUNNING:
        return state if state in STATES else UNKNOWN
    age = time.time() - (_number(facts.get("updated")) or 0.0)
    if age > STALE * (_number(facts.get("every_s")) or 1.0):
        return LOST
    here = facts.get("host") == host_name() and facts.get("boot", "") in ("", boot_id())
    if here:
        return RUNNING if locked is None and _lives(facts.get("pid")) else LOST
    return RUNNING


def _lives(pid: Any) -> bool:
    """Whether there is a process with this id on this machine."""
    if not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _progress(path: Path) -> dict[str, Any] | None:
    """The content of `progress.json`; None where it is missing or of another kind of file with that name."""
    try:
        facts: Any = parse_json((path / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    readable = isinstance(facts, dict) and facts.get("format") == FORMAT and "state" in facts
    return facts if readable else None


def _stage(path: Path, facts: Mapping[str, Any] | None) -> str | None:
    if facts is not None:
        return str(facts.get("stage"))
    try:
        if (path / CONFIG).is_file():
            stage = read_yaml(path / CONFIG, remedy="").get("stage")
            return None if stage is None else str(stage)
        # A command that has not written anything else yet.
        return marked_kind(path) if lock_is_held(path) else None
    except (InputError, OSError, AttributeError):
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = text.splitlines()
    return (lines if size <= LOG_BYTES else lines[1:])[-LOG_LINES:]
