"""Kills of an operation between any two of its file-system calls, each followed by a run that goes on from there.

An operation is a function of a directory that makes something there, and goes on with it where it finds it begun. It
runs once undisturbed, with each call that changes a file counted; then, in a fresh directory each time, it is killed
before the first of them, before the second, and so on, runs again, and has to leave what the undisturbed run left. At
last it is killed again and again in one directory, each time a little later. Every run is a fork of a process
that has imported everything and started no thread: `kill_everywhere` starts it.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.faults.forks import HANG, End, forked
from benchmarks.faults.trials import FaultTrial, State, difference
from data.checksums import TABLE, read_table, sha256_of
from data.store.owner import is_owner_file

Operation = Callable[[Path], object]
StateOf = Callable[[Path], dict[str, bytes]]
#: Audit events of calls that change what a directory holds.
EVENTS = frozenset(
    f"os.{name}" for name in ("mkdir", "remove", "rename", "rmdir", "truncate", "link", "symlink", "chmod")
)
#: Methods of open files that hand bytes to the system.
METHODS = frozenset({"write", "writelines", "flush", "close", "truncate", "__exit__"})
#: The process number of the last writer: no part of the result.
NOT_COMPARED = frozenset({"lock", ".lock", TABLE})


def tree(directory: Path) -> dict[str, bytes]:
    """Every file and empty directory below, with the bytes.

    Tables of checksums may name earlier versions and files that are gone: they are checked, not compared.
    """
    for table in directory.rglob(TABLE):
        for name, digests in (read_table(table.parent) or {}).items():
            if (table.parent / name).is_file():
                assert sha256_of(table.parent / name) in digests, f"{name} is not what its checksum says"
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else b"directory"
        for path in sorted(directory.rglob("*"))
        if path.name not in NOT_COMPARED
        and not is_owner_file(path.name)
        and (path.is_file() or not any(path.iterdir()))
    }


def named_operation(name: str) -> tuple[Operation, StateOf]:
    """The operation of a name of `kill_operations`, or "module:function", and what is compared of it.

    A function "module:state_of_function" may say the latter.
    """
    module, _, function = name.partition(":")
    if not function:
        module, function = "benchmarks.faults.kill_operations", name
    place = importlib.import_module(module)
    return getattr(place, function), getattr(place, f"state_of_{function}", tree)


def kills_of(name: str, folder: Path, most: int | None, seed: int) -> Iterator[FaultTrial]:
    """Kill one operation; see the module.

    Args:
        name: see `named_operation`.
        folder: absent; for all directories.
        most: so many points at most, spread evenly; None: all.
        seed: where they begin.
    """
    operation, state = named_operation(name)
    title = f"{name.rpartition(':')[2]} at any call"
    folder.mkdir(parents=True)
    _import_what_it_imports(operation, folder / "imports" / "made")
    whole = _Run(operation, folder / "whole" / "made")
    calls = [json.loads(line) for line in whole.counted().splitlines()]
    expected = whole.state(state)
    if problem := expected.get(FAILED):
        raise RuntimeError(problem)
    for point, call in _spread(calls, most, seed):
        run = _Run(operation, folder / f"killed-{point}" / "made")
        run.killed_at(point)
        trial = FaultTrial("kills", title, f"killed before call {point}, {call}", *run.resumed(state, expected))
        yield trial
        if not trial.bad:
            shutil.rmtree(run.directory.parent)
    run = _Run(operation, folder / "often" / "made")
    for point in range(0, 100 * len(calls), max(1, len(calls) // min(20, most or 20))):
        if not run.killed_at(point):
            break
    yield FaultTrial("kills", title, "killed again and again", *run.resumed(state, expected))


def _spread(calls: list[tuple[int, str]], most: int | None, seed: int) -> list[tuple[int, str]]:
    """At most so many, one of which is the last."""
    if most is None or most >= len(calls):
        return calls
    step = len(calls) / most
    first = seed % max(1, int(step))
    return [*(calls[int(first + step * i)] for i in range(most - 1)), calls[-1]]


def _import_what_it_imports(operation: Operation, directory: Path) -> None:
    """Import once, here, what every fork would import anew."""

    def run() -> str:
        operation(directory)
        return "\n".join(sys.modules)

    directory.parent.mkdir()
    for name in forked(run).said.splitlines():
        with suppress(Exception):  # What went wrong shows in the next run.
            importlib.import_module(name)


#: Key of a state that could not be taken.
FAILED = "its state cannot be read"


class _Run:
    """Runs of an operation in one directory, each in a process of its own."""

    def __init__(self, operation: Operation, directory: Path) -> None:
        self.operation, self.directory = operation, directory
        directory.parent.mkdir(parents=True, exist_ok=True)

    def counted(self) -> str:
        """Each call before which the directory is not what it was before the one before: [number, call]."""
        lines: list[str] = []
        before: set[object] = set()

        def note(number: int, call: str) -> None:
            nonlocal before
            now = _signature(self.directory.parent)
            if number == 0 or now != before:
                lines.append(json.dumps([number, call]))
            before = now

        def run() -> str:
            _watch(self.directory.parent, note)
            self.operation(self.directory)
            return "\n".join(lines)

        end = forked(run)
        if end.status != 0:
            raise RuntimeError(f"undisturbed, it ends with {end.status}: {end.said}")
        return end.said

    def killed_at(self, point: int) -> bool:
        """Kill it before a call; False if it ended before, as threads make the number of calls differ by a few."""

        def stop(number: int, call: str) -> None:
            if number == point:
                os.kill(os.getpid(), signal.SIGKILL)

        def run() -> str:
            _watch(self.directory.parent, stop)
            self.operation(self.directory)
            return ""

        return forked(run).status == -signal.SIGKILL

    def resumed(self, state: StateOf, expected: State) -> tuple[str, str]:
        """Run it to its end: the outcome, of `trials.OUTCOMES`, and what was said."""

        def run() -> str:
            self.operation(self.directory)
            return ""

        end = forked(run, limit_s=120.0)
        if end.status:
            return problem_of(end)
        present = self.state(state)
        if FAILED in present:
            return "traceback", present[FAILED]
        said = difference(expected, present)
        return ("silent", said) if said else ("equal", "")

    def state(self, state: StateOf) -> State:
        """SHA-256 of each thing to compare, or what went wrong; taken in a process of its own, too."""

        def run() -> str:
            return json.dumps(
                {name: hashlib.sha256(content).hexdigest() for name, content in state(self.directory).items()}
            )

        end = forked(run)
        return json.loads(end.said) if end.status == 0 else {FAILED: end.said}


def problem_of(end: End) -> tuple[str, str]:
    """The outcome of a run that failed, and what it said."""
    if end.status == HANG:
        return "hang", "the next run does not end"
    if end.status < 0:
        return "crash", f"the next run ends by signal {-end.status}"
    last = end.said.strip().splitlines()[-1] if end.said.strip() else ""
    refused = last.startswith(("data.errors.", "SystemExit: status 2: ", "understudy: "))
    return "named" if refused else "traceback", end.said[-1500:]


def _watch(folder: Path, step: Callable[[int, str], None]) -> None:
    """Call `step` with its number before each call that changes a file in a folder, in any thread."""
    root, count, lock = os.path.realpath(folder), 0, threading.RLock()
    local = threading.local()

    def below(path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(root)

    def take(call: str) -> None:
        nonlocal count
        if getattr(local, "inside", False):
            return
        local.inside = True
        with lock:
            step(count, call)
            count += 1
        local.inside = False

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and below(path):
                take(f"open {os.path.basename(os.fsdecode(path))}")
        elif event in EVENTS and (any(map(below, arguments)) or any(isinstance(a, int) and a > 2 for a in arguments)):
            take(f"{event} {' '.join(os.path.basename(os.fsdecode(a)) for a in arguments if not isinstance(a, int))}")

    def profile(frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ in METHODS:
            file = function.__self__
            if isinstance(file, io.IOBase) and not file.closed and below(getattr(file, "name", None)):
                take(f"{function.__name__} {os.path.basename(os.fsdecode(file.name))}")  # type: ignore[attr-defined]

    sys.addaudithook(audit)
    threading.setprofile(profile)
    sys.setprofile(profile)


def _signature(folder: Path) -> set[object]:
    entries: set[object] = set()
    for path in folder.rglob("*"):
        try:
            facts = path.lstat()
        except FileNotFoundError:
            continue
        kind = None if path.is_dir() else (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        entries.add((str(path), kind))
    return entries
