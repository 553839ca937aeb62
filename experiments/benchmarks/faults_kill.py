"""Kills of an operation between any two of its file-system calls, each followed by a run that goes on from there.

    python -m experiments.benchmarks.faults_kill [NAME ...] [--every N]

An operation is a function of a directory that makes something there, and goes on with it where it finds it begun. It
runs once undisturbed, with each call that changes a file counted; then, in a fresh directory each time, it is killed
before the first of them, before the second, and so on, runs again, and has to leave what the undisturbed run left. At
last it is killed again and again in one directory, each time a little later. Every run is a fork of a process
that has imported everything and started no thread.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.checksums import TABLE, read_table, sha256_of

Operation = Callable[[Path], object]
State = Callable[[Path], dict[str, bytes]]
#: Audit events of calls that change what a directory holds.
EVENTS = frozenset(
    f"os.{name}" for name in ("mkdir", "remove", "rename", "rmdir", "truncate", "link", "symlink", "chmod")
)
#: Methods of open files that hand bytes to the system.
METHODS = frozenset({"write", "writelines", "flush", "close", "truncate", "__exit__"})
#: The process number of the last writer: no part of the result.
NOT_COMPARED = frozenset({"lock", ".lock", TABLE})


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Attributes:
        operation: its name.
        point: number of the call before which the process was killed; -1 for the directory of many kills.
        call: what that was.
        problem: empty if the next run left what an undisturbed one leaves.
    """

    operation: str
    point: int
    call: str
    problem: str


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
        if path.name not in NOT_COMPARED and (path.is_file() or not any(path.iterdir()))
    }


def kill_everywhere(
    operations: Sequence[str], folder: Path, *, every: int = 1, paths: Sequence[Path] = (), timeout_s: float = 600.0
) -> list[Kill]:
    """Kill operations everywhere, in one process of their own.

    Args:
        operations: each "module:function"; a function "module:state_of_function" may say what is compared.
        folder: for all directories.
        every: each how many-th point of a changed directory is tried.
        paths: put before `sys.path`.

    Raises:
        RuntimeError: the process fails; with what it printed.
    """
    arguments = [*operations, "--every", str(every), "--folder", str(folder), "--json", *map(str, ("--paths", *paths))]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.faults_kill", *arguments],
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return [Kill(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def kills_of(name: str, operation: Operation, state: State, folder: Path, every: int) -> list[Kill]:
    """Every kill of one operation; see the module."""
    folder.mkdir(parents=True)
    _import_what_it_imports(operation, folder / "imports" / "made")
    whole = _Run(operation, folder / "whole" / "made")
    calls = [json.loads(line) for line in whole.counted().splitlines()]
    expected = whole.state(state)
    kills = []
    for number, (point, call) in enumerate(calls):
        if number % every and number != len(calls) - 1:
            continue
        run = _Run(operation, folder / f"killed-{point}" / "made")
        run.killed_at(point)
        problem = run.finished() or _difference(expected, run.state(state))
        kills.append(Kill(name, point, call, problem))
        if not problem:
            shutil.rmtree(run.directory.parent)
    run = _Run(operation, folder / "often" / "made")
    for point in range(0, 100 * len(calls), max(every, len(calls) // 20)):
        if not run.killed_at(point):
            break
    problem = run.finished() or _difference(expected, run.state(state))
    return [*kills, Kill(name, -1, "again and again", problem)]


def _import_what_it_imports(operation: Operation, directory: Path) -> None:
    """Import once, here, what every fork would import anew."""

    def run() -> str:
        operation(directory)
        return "\n".join(sys.modules)

    directory.parent.mkdir()
    _, said = _forked(run)
    for name in said.splitlines():
        with suppress(Exception):  # What went wrong shows in the next run.
            importlib.import_module(name)


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

        status, said = _forked(run)
        if status != 0:
            raise RuntimeError(f"undisturbed, it ends with {status}: {said}")
        return said

    def killed_at(self, point: int) -> bool:
        """Kill it before a call; False if it ended before, as threads make the number of calls differ by a few."""

        def stop(number: int, call: str) -> None:
            if number == point:
                os.kill(os.getpid(), signal.SIGKILL)

        def run() -> str:
            _watch(self.directory.parent, stop)
            self.operation(self.directory)
            return ""

        return _forked(run)[0] == -signal.SIGKILL

    def finished(self) -> str:
        """Run it to its end; what went wrong."""

        def run() -> str:
            self.operation(self.directory)
            return ""

        return _forked(run)[1]

    def state(self, state: State) -> dict[str, str]:
        """SHA-256 of each thing to compare, or what went wrong; taken in a process of its own, too."""

        def run() -> str:
            return json.dumps(
                {name: hashlib.sha256(content).hexdigest() for name, content in state(self.directory).items()}
            )

        status, said = _forked(run)
        return json.loads(said) if status == 0 else {said.strip().splitlines()[-1]: ""}


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
    found: set[object] = set()
    for path in folder.rglob("*"):
        try:
            facts = path.lstat()
        except FileNotFoundError:
            continue
        kind = None if path.is_dir() else (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        found.add((str(path), kind))
    return found


def _forked(function: Callable[[], str]) -> tuple[int, str]:
    """The exit status of a fork that calls a function, minus the signal that ended it; what it answered or raised."""
    receiving, sending = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            said, status = function(), 0
        except BaseException:
            said, status = traceback.format_exc(), 1
        sys.setprofile(None)
        view = memoryview(said.encode("utf-8", "backslashreplace"))
        while view:
            view = view[os.write(sending, view) :]
        os._exit(status)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        said = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def _difference(expected: dict[str, str], present: dict[str, str]) -> str:
    lacking, more = sorted(expected.keys() - present.keys()), sorted(present.keys() - expected.keys())
    other = [name for name in sorted(expected.keys() & present.keys()) if expected[name] != present[name]]
    facts = {"lacks": lacking, "has more": more, "differs in": other}
    return "; ".join(f"{word} {', '.join(names[:3])}" for word, names in facts.items() if names)


def _named(name: str) -> tuple[Operation, State]:
    module, _, function = name.partition(":")
    if not function:
        module, function = "experiments.benchmarks.kill_operations", name
    found = importlib.import_module(module)
    return getattr(found, function), getattr(found, f"state_of_{function}", tree)


def main() -> int:
    """Run the operations that are named, or all, and print a table; 1 if one was not resumed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("operations", nargs="*", help="names, or module:function; default: all")
    parser.add_argument("--every", type=int, default=1, help="each how many-th point is tried")
    parser.add_argument("--folder", type=Path, help="for the directories; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="print a line for each kill")
    parser.add_argument("--paths", nargs="*", default=[], help="put before sys.path")
    given = parser.parse_args()
    sys.path[:0] = given.paths
    # What a killed process wrote is kept by the system: only a power failure needs the disk.
    os.fsync = os.fdatasync = lambda fd: None
    names = given.operations or list(importlib.import_module("experiments.benchmarks.kill_operations").NAMES)
    loaded = [(name.partition(":")[2] or name, *_named(name)) for name in names]
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, operation, state in loaded:
            kills += kills_of(name, operation, state, (given.folder or Path(temporary)) / name, given.every)
    if given.json:
        print("\n".join(json.dumps(asdict(kill)) for kill in kills))
        return 0
    for name, _, _ in loaded:
        of_one = [kill for kill in kills if kill.operation == name]
        print(f"{name:20} {len(of_one):5} kills, {sum(not kill.problem for kill in of_one):5} resumed equal")
    bad = [kill for kill in kills if kill.problem]
    for kill in bad:
        print(f"{kill.operation} killed before call {kill.point} ({kill.call}): {kill.problem}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
