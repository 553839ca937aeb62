"""The stages of the command as functions.

A stage runs in a process of its own, as `understudy STAGE ...` does: with the same settings, files and resumption, and
with its output shown where `print` would show it. Interrupting the call stops the stage, and so does, on Linux, the end
of the process or thread that called, however it ends. The same call resumes it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from data.checksums import verify
from data.errors import CorruptStoreError, InputError
from data.json_files import read_plain
from data.processes.descendants import PARENT
from surrogates.trained import Surrogate
from understudy.campaigns import records
from understudy.loading import load

#: Stages whose setting `out` is the directory of their run.
OUT_IS_RUN = frozenset({"screen", "grow", "prune", "distil"})
#: Seconds that a stage which was interrupted has to write its last checkpoint.
GRACE_S = 60.0
ANEW = "Run the stage again, which writes it anew"


@dataclass(frozen=True)
class Run:
    """What a stage made.

    Attributes:
        stage: its name.
        directory: where it lies.
        out: what the setting `out` names: the store of `simulate`, the library of `prepare`, the windows of `windows`;
            None where the stage has no such setting.
    """

    stage: str
    directory: Path
    out: Path | None = None

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """The flat metrics of `metrics.json`, with the unit in the key; empty where the stage measures nothing."""
        path = self.directory / "metrics.json"
        return read_plain(path, dict[str, Any], remedy=ANEW) if path.exists() else {}

    def surrogate(self) -> Surrogate:
        """The surrogate that `train`, `distil` or `pipeline` saved; see `understudy.load`."""
        return load(self.directory)

    def records(self) -> xr.Dataset:
        """The finished records of `simulate`; see `understudy.records`."""
        if self.out is None:
            raise InputError(f"a run of {self.stage} has no store", where=str(self.directory))
        return records(self.out)

    def top(self) -> pd.DataFrame:
        """The best candidates of `screen` or `pipeline`, best first."""
        for path in (self.directory / "top.csv", self.directory / "screen" / "top.csv"):
            if path.exists():
                verify(path, remedy=ANEW)
                try:
                    return pd.read_csv(path)
                except (OSError, ValueError) as error:
                    raise CorruptStoreError(f"cannot be read: {error}", where=str(path), remedy=ANEW) from error
        raise InputError("no top.csv in it", where=str(self.directory), remedy="Only a screen has one")


def pipeline(*overrides: str, **settings: Any) -> Run:
    """From candidates to a shortlist that the simulator has confirmed, with a page; see `run`."""
    return run("pipeline", *overrides, **settings)


def simulate(*overrides: str, **settings: Any) -> Run:
    """Run a simulator over many inputs, into a resumable store; see `run`."""
    return run("simulate", *overrides, **settings)


def calibrate(*overrides: str, **settings: Any) -> Run:
    """Make a ladder of simulators one simulator, with a promised error; see `run`."""
    return run("calibrate", *overrides, **settings)


def active(*overrides: str, **settings: Any) -> Run:
    """Learn a potential from few labels, which its own dynamics choose; see `run`."""
    return run("active", *overrides, **settings)


def windows(*overrides: str, **settings: Any) -> Run:
    """Write states of the atmosphere for training; see `run`."""
    return run("windows", *overrides, **settings)


def train(*overrides: str, **settings: Any) -> Run:
    """Train a surrogate on labels; see `run`."""
    return run("train", *overrides, **settings)


def evaluate(*overrides: str, **settings: Any) -> Run:
    """Score a surrogate on other files; see `run`."""
    return run("evaluate", *overrides, **settings)


def grow(*overrides: str, **settings: Any) -> Run:
    """Give a trained potential, or a mixture, an expert for new data; see `run`."""
    return run("grow", *overrides, **settings)


def prune(*overrides: str, **settings: Any) -> Run:
    """Replace experts of a mixture by one that has learned their answers; see `run`."""
    return run("prune", *overrides, **settings)


def distil(*overrides: str, **settings: Any) -> Run:
    """Train a light surrogate on the answers of an expensive one; see `run`."""
    return run("distil", *overrides, **settings)


def prepare(*overrides: str, **settings: Any) -> Run:
    """Featurise a library once, for fast repeated screening; see `run`."""
    return run("prepare", *overrides, **settings)


def screen(*overrides: str, **settings: Any) -> Run:
    """Stream candidates through a surrogate and keep the best; see `run`."""
    return run("screen", *overrides, **settings)


def predict(*overrides: str, **settings: Any) -> Run:
    """Answer every row, frame or sample of a file, in the file `out`; see `run`."""
    return run("predict", *overrides, **settings)


def export(*overrides: str, **settings: Any) -> Run:
    """Write the answers of a store to the file `out`, for other programs; see `run`."""
    return run("export", *overrides, **settings)


def forecast(*overrides: str, **settings: Any) -> Run:
    """Write forecasts of a trained forecaster from states of a file, in the file `out`; see `run`."""
    return run("forecast", *overrides, **settings)


def report(*overrides: str, **settings: Any) -> Run:
    """Write the page of a run; see `run`."""
    return run("report", *overrides, **settings)


def run(stage: str, *overrides: str, **settings: Any) -> Run:
    """Run a stage of the command.

    Args:
        stage: its name.
        *overrides: settings as the command takes them, such as `"data.file=labels.csv"`; `understudy STAGE --help`
            lists them.
        **settings: settings without a dot in their name as Python values: `run_dir` is `run.dir`, and a path may hold
            any character.

    Returns:
        Where the stage left its results.

    Raises:
        InputError: the stage refused a setting or a file; the message is its own.
        KeyboardInterrupt: the stage was stopped; the same call resumes it.
        RuntimeError: the stage ended by a fault of its own; its last lines are in the message.
    """
    line = [*overrides, *(f"{_key(name)}={quoted(value)}" for name, value in settings.items())]
    values = {key: _plain(value) for key, _, value in (argument.partition("=") for argument in line)}
    # The directory of these runs is what `out` names; of others that write one file, it lies beside the file.
    in_out = stage in OUT_IS_RUN
    implied = {stage: values.get("out")} if in_out else {}
    implied |= dict.fromkeys(("predict", "forecast", "export"), f"{values['out']}.run" if "out" in values else None)
    directory = values.get("run.dir") or implied.get(stage)
    if directory is None:
        directory = f"runs/{stage}/{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        line.append(f"{'out' if in_out else 'run.dir'}={directory}")
    status, tail = _shown([sys.executable, "-m", "understudy", stage, *line])
    if status == 130:
        raise KeyboardInterrupt
    if status == 2:
        raise InputError(tail[-1].removeprefix("understudy: ") if tail else "the stage refused its settings")
    if status != 0:
        raise RuntimeError(f"understudy {stage} ended with status {status}:\n" + "\n".join(tail))
    default = {"simulate": "labels.zarr", "windows": "windows"}.get(stage)
    out = values.get("out") or (None if default is None else str(Path(directory) / default))
    return Run(stage, Path(directory), None if out is None else Path(out))


def _key(name: str) -> str:
    return "run.dir" if name == "run_dir" else name


def quoted(value: Any) -> str:
    """A Python value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(quoted(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _plain(value: str) -> str:
    """A path as it was before `quoted`."""
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("\\'", "'").replace("\\\\", "\\")
    return value


def _shown(line: list[str]) -> tuple[int, list[str]]:
    """Run a command, print what it prints while it runs, and return its status and the last lines of its errors."""
    tail: deque[str] = deque(maxlen=40)
    environment = {**os.environ, PARENT: str(os.getpid())}
    with subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            for text in process.stdout:
                print(text, end="", flush=True)
                if text.strip():
                    tail.append(text.rstrip("\n"))
            status = process.wait()
        except KeyboardInterrupt:
            # From a terminal the stage has had the same signal; a second one would cut its last checkpoint short.
            if not sys.stdin.isatty():
                process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return status, list(tail)
