"""`--json`: one JSON document on standard output when a command ends; all else that it prints goes to standard error.

The document says what was made and where it lies, what it cost, what the closing tables say, and why a command failed.
Keys carry their units. docs/guides/runs.md lists them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.encodable import encodable_json
from data.errors import InputError, UsageError
from data.json_files import parse_json
from data.processes.processor import tree_seconds
from data.progress import FILE as PROGRESS
from data.terminal import PrintedTable, tables_collected
from experiments.application.shard_arguments import quoted

OPTION = "--json"
FORMAT = 1
#: Options that print something else than the end of a run.
OTHER_OUTPUT = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
#: Exit status -> state of the command; any other status is a failure.
STATES: Mapping[int, str] = {0: "finished", 2: "refused", 130: "stopped"}
#: Remedies of errors that name none themselves.
MISSING = "Install what the problem names, or choose another simulator"
REPORT = "Report it with the traceback, which is on standard error and in log.txt of the run"


@dataclass
class StageRun:
    """The run of a stage.

    Attributes:
        directory: directory of the run.
        config: its configuration.
        claimed: whether the directory was this run's, so that what lies there is its own.
        finished: whether it ended without an error.
    """

    directory: Path
    config: DictConfig
    claimed: bool = False
    finished: bool = False

    def facts(self, tables: Sequence[PrintedTable]) -> dict[str, Any]:
        """What the run made, and what it says of itself."""
        progress = self._progress() if self.claimed else {}
        return {
            "directory": str(self.directory),
            "files": _files(tables),
            "metrics": self._metrics() if self.finished else {},
            "failures": progress.get("failures") or {},
            "core_seconds_all_sessions": progress.get("core_seconds"),
            "readings": (_read(self.directory / "reading.json") or []) if self.finished else [],
            "tables": [_table(table) for table in tables],
        }

    def resume_arguments(self, arguments: Sequence[str]) -> list[str]:
        """The arguments that resume this run: those of the command, and its directory where they name none."""
        out = OmegaConf.select(self.config, "out", default=None, throw_on_missing=False)
        is_out = out is not None and Path(str(out)).resolve() == self.directory.resolve()
        key = "out" if is_out else "run.dir"
        named = any(argument.partition("=")[0] in (key, "shard") for argument in arguments)
        return [*arguments] if named else [*arguments, f"{key}={quoted(self.directory)}"]

    def _progress(self) -> dict[str, Any]:
        facts = _read(self.directory / PROGRESS)
        # That of an earlier process says nothing about this one.
        return facts if isinstance(facts, dict) and facts.get("pid") == os.getpid() else {}

    def _metrics(self) -> dict[str, float]:
        """`metrics.json` of the run, or else of its output, such as a prepared library."""
        out = OmegaConf.select(self.config, "out", default=None, throw_on_missing=False)
        for folder in (self.directory, *([] if out is None else [Path(str(out))])):
            metrics = _read(folder / "metrics.json")
            if isinstance(metrics, dict):
                return metrics
        return {}


@dataclass
class CommandOutcome:
    """What a command of a stage did, while it runs.

    Attributes:
        stage: name of the stage.
        arguments: its arguments, without `--json`.
        tables: tables that it printed so far.
        run: its run; None if it was refused before it had one, and of a sweep, whose jobs are processes of their own.
        error: why it did not succeed.
    """

    stage: str
    arguments: Sequence[str]
    tables: list[PrintedTable]
    run: StageRun | None = None
    error: dict[str, Any] | None = None

    def document(self, status: int, seconds: float, core_seconds: float) -> dict[str, Any]:
        """The document; see docs/guides/runs.md."""
        nothing = {"directory": None, "files": _files(self.tables), "metrics": {}, "failures": {}, "readings": [],
                   "tables": [_table(table) for table in self.tables], "core_seconds_all_sessions": None}  # fmt: skip
        facts = self.run.facts(self.tables) if self.run is not None else nothing
        cost = {
            "core_seconds": core_seconds,
            "wall_seconds": seconds,
            "core_seconds_all_sessions": facts.pop("core_seconds_all_sessions"),
        }
        return {
            "format": FORMAT,
            "stage": self.stage,
            "state": STATES.get(status, "failed"),
            "exit_status": status,
            **facts,
            "cost": cost,
            "error": None if status == 0 else self._error(status),
        }

    def _error(self, status: int) -> dict[str, Any]:
        if status == 130:
            return {**self._stopped(), "exit_status": status}
        problem = f"the command ended with status {status}; its tables say what is unfinished"
        error = self.error or InputError(problem).facts() | {"kind": "unfinished"}
        if error["remedy"] is None and error["kind"] == "missing_component":
            error["remedy"] = MISSING
        error = self._placed(error)
        return {**error, "exit_status": status}

    def _stopped(self) -> dict[str, Any]:
        arguments = [*self.arguments]
        if self.run is not None:
            arguments = self.run.resume_arguments(self.arguments)
        elif "sweep" in (files := _files(self.tables)):
            named = any(argument.partition("=")[0] in ("hydra.sweep.dir", "run.dir", "out") for argument in arguments)
            arguments += [] if named else [f"run.dir={quoted(Path(files['sweep']).parent)}"]
        command = ["understudy", self.stage, *arguments]
        facts = InputError("stopped by Ctrl-C, SIGTERM or SIGUSR1", remedy=f"Resume with {shlex.join(command)}").facts()
        return facts | {"kind": "stopped", "resume": command}

    def _placed(self, error: dict[str, Any]) -> dict[str, Any]:
        """The error with its file or key, where the text of the place is one of them alone."""
        where = error["where"]
        if not where or error["file"] is not None or error["key"] is not None:
            return error
        path = Path(where)
        with suppress(OSError, ValueError):
            if path.is_file() or (os.sep in where and path.exists()):
                return error | {"file": where}
        config = self.run.config if self.run is not None else {}
        if re.fullmatch(r"[\w.@/-]+", where) and re.split(r"[.@]", where)[0] in config:
            return error | {"key": where}
        return error


_CURRENT: list[CommandOutcome] = []


@contextmanager
def run_reported(config: DictConfig, directory: Path) -> Iterator[StageRun]:
    """Report a run of a stage to the document of the command, if it prints one."""
    run = StageRun(directory, config)
    if _CURRENT:
        _CURRENT[-1].run = run
    yield run
    run.finished = True


def report_error(error: Exception) -> None:
    """Report why a command is refused to its document, if it prints one."""
    if _CURRENT:
        _CURRENT[-1].error = error_facts(error)


def error_facts(error: BaseException) -> dict[str, Any]:
    """An error for a program: kind, problem, where, file, row, key and remedy; None for what is not known."""
    if isinstance(error, InputError):
        return error.facts()
    # It imports xarray, which most commands without a stage do without.
    from data.spec import SimulationError

    if isinstance(error, SimulationError):
        remedy = error.details.get("remedy")
        return InputError(error.message, remedy=None if remedy is None else str(remedy)).facts() | {"kind": error.kind}
    if isinstance(error, OmegaConfBaseException):
        text = " ".join(str(error).split("full_key:")[0].split())
        key = str(error.full_key) if error.full_key else None
        return UsageError(text, where=key, key=key, remedy="See --help").facts()
    if type(error).__module__.startswith("hydra."):
        return UsageError(" ".join(str(error).split()), remedy="See --help").facts()
    problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return InputError(problem, remedy=REPORT).facts() | {"kind": "internal_error"}


def with_document(stage: str, arguments: Sequence[str], run: Callable[[Sequence[str]], int]) -> int:
    """Run a command, and print its document.

    Args:
        stage: name of its stage.
        arguments: its arguments, `--json` among them.
        run: runs it with its other arguments, and returns its exit status.

    Returns:
        The exit status, which is 1 after an error of the program itself.
    """
    rest = [argument for argument in arguments if argument != OPTION]
    seconds, spent = time.monotonic(), tree_seconds()
    with standard_output_kept(), tables_collected() as tables:
        outcome = CommandOutcome(stage, rest, tables)
        _CURRENT.append(outcome)
        try:
            other = next((argument for argument in rest if argument.partition("=")[0] in OTHER_OUTPUT), None)
            if other is not None:
                raise UsageError(
                    f"{OPTION} says how a run ended, and {other} begins none", remedy=f"Leave {OPTION} out"
                )
            status = run(rest)
        except InputError as error:
            outcome.error, status = error.facts(), 2
            print(f"understudy: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            status = 130
        except Exception as error:
            outcome.error, status = error_facts(error), 1
            traceback.print_exc()
        finally:
            _CURRENT.remove(outcome)
    print_document(outcome.document(status, time.monotonic() - seconds, max(0.0, tree_seconds() - spent)))
    return status


def print_document(value: Any) -> None:
    """Print a value as JSON to standard output; a NaN is an error, because JSON has none."""
    print(json.dumps(encodable_json(value), indent=1, allow_nan=False), flush=True)


@contextmanager
def standard_output_kept() -> Iterator[None]:
    """Send to standard error what this process, its libraries and its children print to standard output."""
    stream = sys.stdout
    try:
        number, other = stream.fileno(), sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        # It is no file, as in a notebook or in a test.
        with redirect_stdout(sys.stderr):
            yield
        return
    stream.flush()
    kept = os.dup(number)
    os.dup2(other, number)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        # What a library has written through the other name of the stream goes where the rest went.
        stream.flush()
        os.dup2(kept, number)
        os.close(kept)


def _files(tables: Sequence[PrintedTable]) -> dict[str, str]:
    files: dict[str, str] = {}
    for table in tables:
        files |= {name: path for name, path in table.files.items() if Path(path).exists()}
    return files


def _table(table: PrintedTable) -> dict[str, Any]:
    facts = asdict(table)
    del facts["files"]
    return facts


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
