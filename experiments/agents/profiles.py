"""A short run of a stage that is watched: time of each step, waiting, memory, and what bounds its predictions.

It runs in a folder of its own, which is removed, and ends after some seconds. Nothing of it is a result.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil

from data.errors import InputError
from data.files import make_directory, remove_directory
from data.processes.descendants import descendants, kill_descendants
from data.processes.processor import living_seconds
from experiments.agents.composition import Composed
from experiments.agents.confinement import Root, capped
from experiments.agents.estimates import read_metrics
from experiments.application.answer_work import AnswerWork, counted, judged
from experiments.application.targets import WITHOUT
from experiments.runs.status import run_status

#: Longest watch, and time between two looks, s.
MOST_SECONDS, LOOK_S = 45.0, 0.2
#: Seconds that a stopped run has to end.
GRACE_S = 3.0
#: Rows of the batches whose work is counted, and how often they are predicted.
ROWS, ROUNDS = 256, 20
STARTING = "starting"
#: Stages that keep a short run short, and settings with which they do so.
SHORTER: Mapping[str, tuple[str, ...]] = {"train": ("train.mlflow=false",)}


@dataclass
class StepProfile:
    """What one step of the run took.

    Attributes:
        label: name of the step.
        seconds: wall time, s.
        core_seconds: processor time, s.
        rate_per_s: what it did in a second of wall time; None where it counts nothing.
    """

    label: str
    seconds: float = 0.0
    core_seconds: float = 0.0
    rate_per_s: float | None = None


@dataclass(frozen=True)
class Roofline:
    """What bounds the predictions of a surrogate on a core.

    Attributes:
        bound: arithmetic, bandwidth or transcendentals; "not counted" where its programs tell nothing.
        share: time that this resource needs at least, over the measured time; None if unknown.
        operations, bytes_moved: of one answer, as XLA counts them after fusion.
        core_us: processor time of one answer, 1e-6 s.
    """

    bound: str
    share: float | None
    operations: float | None
    bytes_moved: float | None
    core_us: float


@dataclass(frozen=True)
class Profile:
    """A short run.

    Attributes:
        stage: name of the stage.
        finished: whether it ended by itself within the time.
        seconds, core_seconds: wall and processor time, s.
        cores: cores that it may use.
        waiting_share: share of the time of these cores in which they did nothing for it.
        data_wait_share: of a training, share of the time of its loop in which it waited for data; None if unknown.
        peak_memory_mb: largest memory of all its processes, 10^6 bytes.
        steps: time and rate of each step.
        roofline: of the surrogate that it asks; None where it asks none.
        problem: why it failed, if it did.
    """

    stage: str
    finished: bool
    seconds: float
    core_seconds: float
    cores: int
    waiting_share: float
    data_wait_share: float | None
    peak_memory_mb: float
    steps: tuple[StepProfile, ...] = ()
    roofline: Roofline | None = None
    problem: str = ""


@dataclass
class _Watch:
    steps: dict[str, StepProfile] = field(default_factory=dict)
    peak_mb: float = 0.0
    core_seconds: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def look(self, pid: int, run_dir: Path) -> None:
        now, pids = time.monotonic(), [pid, *descendants(pid)]
        spent = max(self.core_seconds, living_seconds(pids))
        label, rate = STARTING, None
        with suppress(InputError):
            status = run_status(run_dir)
            label, rate = status.step or STARTING, status.rate_per_s
        step = self.steps.setdefault(label, StepProfile(label))
        step.seconds += now - self.last
        step.core_seconds += spent - self.core_seconds
        step.rate_per_s = step.rate_per_s if rate is None else rate
        self.last, self.core_seconds = now, spent
        memory = 0.0
        for one in pids:
            with suppress(psutil.Error):
                full = psutil.Process(one).memory_full_info()
                memory += getattr(full, "pss", full.rss)
        self.peak_mb = max(self.peak_mb, memory / 1e6)


def profile(
    composed: Composed, overrides: Sequence[str], root: Root, without: Sequence[str], seconds: float
) -> Profile:
    """Run a stage for some seconds, and watch it.

    Args:
        composed: the command, which passed all checks.
        overrides: its settings.
        root: the folder of all runs.
        without: names of `targets.PROGRAMS` that are not built.
        seconds: wall time after which it is stopped, at most `MOST_SECONDS`.

    Raises:
        InputError: the time is out of range, or a value is missing.
    """
    if not 1 <= seconds <= MOST_SECONDS:
        raise InputError(f"must be from 1 to {MOST_SECONDS:g}, got {seconds:g}", where="seconds")
    if composed.missing:
        raise InputError("a value is needed", where=composed.missing[0], remedy=f"Give {composed.missing[0]}=...")
    scratch = root.kept / "profiles" / uuid4().hex
    make_directory(scratch)
    try:
        # A path relative to the root has no character that the grammar of settings would read.
        arguments = _arguments(composed, overrides, scratch.relative_to(root.path))
        return _watched(composed.stage, arguments, scratch, root, without, seconds)
    finally:
        remove_directory(scratch)


def _arguments(composed: Composed, overrides: Sequence[str], scratch: Path) -> list[str]:
    """The settings with places within the scratch folder."""
    kept = [text for text in overrides if text.partition("=")[0] not in ("run.dir", "out")]
    out = composed.plain.get("out")
    places = [f"run.dir={scratch / 'run'}"]
    if isinstance(out, str):
        inner = composed.run_dir is not None and Path(out) == Path(str(composed.plain["run"]["dir"]))
        name = "run" if inner else Path(out).name
        places = [f"out={scratch / name}", *([] if inner else places)]
    return [*kept, *SHORTER.get(composed.stage, ()), *places]


def _watched(
    stage: str, arguments: Sequence[str], scratch: Path, root: Root, without: Sequence[str], seconds: float
) -> Profile:
    watch, began = _Watch(), time.monotonic()
    output = scratch / "output.txt"
    run_dir = scratch / "run"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "understudy", stage, *arguments], cwd=root.path, stdin=subprocess.DEVNULL,
            stdout=file, stderr=file, env={**os.environ, WITHOUT: ",".join(without)},
        )  # fmt: skip
    stopped = False
    try:
        while process.poll() is None:
            watch.look(process.pid, run_dir)
            if not stopped and time.monotonic() - began > seconds:
                stopped = True
                process.send_signal(signal.SIGTERM)
            if time.monotonic() - began > seconds + GRACE_S:
                break
            time.sleep(LOOK_S)
    finally:
        if process.poll() is None:
            kill_descendants(process.pid)
            process.kill()
            process.wait()
    passed, cores = time.monotonic() - began, len(os.sched_getaffinity(0))
    metrics = read_metrics(run_dir)
    problem = ""
    if process.returncode not in (0, 130) and not stopped:
        lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
        problem = capped(lines[-1].removeprefix("understudy: "), 1000) if lines else f"status {process.returncode}"
    return Profile(
        stage,
        process.returncode == 0,
        passed,
        watch.core_seconds,
        cores,
        max(0.0, 1 - watch.core_seconds / (passed * cores)),
        metrics.get("train/data_wait_share"),
        watch.peak_mb,
        tuple(watch.steps.values()),
        None,
        problem,
    )


def roofline(surrogate: Any) -> Roofline:
    """What bounds the predictions of a surrogate, from a batch of requests within its domain."""
    ask = _batch(surrogate)
    if ask is None:
        return Roofline("not counted", None, None, None, 0.0)
    ask()
    began = time.process_time()
    for _ in range(ROUNDS):
        ask()
    spent = (time.process_time() - began) / (ROUNDS * ROWS)
    work = judged(AnswerWork("surrogate", float(ROWS), spent * 1e6), counted(ask, ROWS))
    return Roofline(work.bound, work.share, work.operations, work.bytes_moved, work.core_us)


def _batch(surrogate: Any) -> Any:
    """A function that predicts for a batch; None for kinds whose requests are not drawn here."""
    if surrogate.KIND == "parameters" and surrogate.facts.on is None:
        box = surrogate.facts.domain
        rows = np.random.default_rng(0).uniform(box.low, box.high, (ROWS, len(box.low)))
        return lambda: surrogate.predict_table(rows)
    if surrogate.KIND == "properties" and surrogate.facts.on is None:
        from data.molecules.featurise import encode

        table, _ = encode(["CCO", "c1ccccc1", "CC(=O)NC", "C1CCOC1"] * (ROWS // 4))
        return lambda: surrogate.predict_table(table)
    return None
