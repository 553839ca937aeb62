"""Kills of real commands at random moments, each followed by the same command that goes on from there.

A command runs once undisturbed. Then, in a fresh directory each time, it is killed at a random moment of the time that
took, as `kill -9` does it; the same command runs to its end, and has to leave what the undisturbed one left. At the end
no process of either may be there.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.commands import COMMANDS, inputs
from benchmarks.faults.forks import End, forked, outlived
from benchmarks.faults.kills import problem_of
from benchmarks.faults.trials import FaultTrial, State, difference

#: Modules that a command imports anew in its fork otherwise: that of the stage, and these.
IMPORTS = {
    "screen": ("surrogates.properties.surrogate",),
    "train": ("surrogates.properties.surrogate", "data.molecules.graphs"),
}


def import_for(name: str) -> None:
    """Import what a command needs, where that is installed."""
    from experiments.cli import STAGES

    for module in (STAGES[name].module, *IMPORTS.get(name, ())):
        importlib.import_module(module)


def kills_of_command(name: str, count: int, folder: Path, seed: int) -> Iterator[FaultTrial]:
    """Kill a command at so many moments.

    Args:
        name: of `COMMANDS`.
        count: of the kills.
        folder: empty or absent, for what is read and written.
        seed: of the moments.
    """
    input_folder, random_moment = folder / "inputs", random.Random(f"{seed}/{name}")
    input_folder.mkdir(parents=True)
    import_for(name)
    # What it imports and compiles is no business of this process, which has to stay without threads.
    _must(forked(lambda: inputs(input_folder)), "its inputs are written")
    whole = _ended(name, input_folder, folder / "whole")
    _must(whole, "undisturbed")
    expected = json.loads(_must(_state(name, folder / "whole"), "its result is read"))
    for number in range(count):
        out = folder / str(number)
        moment = random_moment.uniform(0.0, whole.seconds)
        killed = _ended(name, input_folder, out, kill_after_s=moment)
        at = f"killed after {moment:.3f} of {whole.seconds:.3f} s"
        if killed.status != -signal.SIGKILL:
            at = f"not killed: ended with {killed.status} before {moment:.3f} s"
        yield FaultTrial("kills", f"{name} at any moment", at, *_outcome(name, input_folder, out, expected))


def _ended(name: str, input_folder: Path, out: Path, kill_after_s: float | None = None) -> End:
    def run() -> str:
        from experiments.cli import main

        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = main(COMMANDS[name].arguments(input_folder, out))
        if status:
            raise SystemExit(f"status {status}: {said.getvalue()}")
        return str(os.getpid())

    return forked(run, kill_after_s=kill_after_s, limit_s=300.0, group=True)


def _state(name: str, out: Path) -> End:
    return forked(lambda: json.dumps(COMMANDS[name].state(out)))


def _outcome(name: str, input_folder: Path, out: Path, expected: State) -> tuple[str, str]:
    again = _ended(name, input_folder, out)
    if again.status:
        return problem_of(again)
    state = _state(name, out)
    if state.status:
        return "traceback", f"the result cannot be read: {state.said[-1500:]}"
    if outlived(int(again.said)):
        return "hang", "processes outlive the command"
    problem = difference(expected, json.loads(state.said))
    return ("silent", problem) if problem else ("equal", "")


def _must(end: End, what: str) -> str:
    if end.status:
        raise RuntimeError(f"{what}, it ends with {end.status}: {end.said}")
    return end.said
