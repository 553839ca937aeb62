"""Faults made on purpose, at a size that is chosen, and one table of what became of them.

python -m benchmarks.faults [--kills N] [--flips N] [--mutations N] [--seed S] [--only NAME ...]
    [--workers N] [--json FILE] [--list]

Kills are of everything that makes a directory, between any two calls that change a file, and of commands at random
moments; flips are of single bits in every kind of file that is written and read again; mutations are of files that
others wrote, and of our own JSON with checksums that are right. Exit status 1 tells of a traceback, another result
without a word, a hang or a crash. The same seed makes the same faults, but for the moments of random kills, which
depend on how long a command takes.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.faults.commands import COMMANDS
from benchmarks.faults.foreign import READERS
from benchmarks.faults.forking import kill_everywhere
from benchmarks.faults.kill_operations import NAMES
from benchmarks.faults.own_files import kinds
from benchmarks.faults.processes import read_in_a_process
from benchmarks.faults.stored_files import STORED
from benchmarks.faults.trials import FaultTrial, table
from data.files import write_json
from data.terminal import progress_bar

#: Words of readers for what the table counts.
COUNTED = {"answer": "equal", "unnamed": "traceback", "lines": "traceback", "memory": "crash"}
#: What takes ten times as long to read, because a library is tried in a process first or a network is built and asked:
#: there are fewer of them.
SLOW = re.compile("^(states|forecasts|fields)|_card$|^weights_note$")
#: Share of all kills that are at random moments of commands.
RANDOM = 0.2


@dataclass(frozen=True)
class FaultPart:
    """What is tried of one thing.

    Attributes:
        kind: kills, flips or mutations.
        name: of the thing.
        of: kill or command; flip; file.
        count: of the faults.
    """

    kind: str
    name: str
    of: str
    count: int

    def trials(self, seed: int) -> Generator[FaultTrial, None, None]:
        """Each of the faults, and what became of it."""
        if self.kind == "kills":
            name = f"command/{self.name}" if self.of == "command" else self.name
            # One more is killed again and again.
            yield from kill_everywhere([name], most=self.count - (self.of == "kill"), seed=seed)
            return
        for one in read_in_a_process(self.of, self.name, self.count, seed=seed):
            outcome = COUNTED.get(one.outcome, one.outcome)
            yield FaultTrial(self.kind, self.name, f"{one.number}: {one.how}", outcome, one.said)


def parts(kills: int, flips: int, mutations: int, only: Sequence[str] = ()) -> list[FaultPart]:
    """Everything that is tried, with shares that add up to the numbers, or to a little more."""
    every = [("kills", name, "kill", 1 - RANDOM) for name in NAMES]
    every += [("kills", name, "command", RANDOM * len(NAMES) / len(COMMANDS)) for name in COMMANDS]
    every += [("flips", kind.name, "flip", 1.0) for kind in kinds()]
    every += [("mutations", name, "file", 0.2 if SLOW.search(name) else 1.0) for name in (*READERS, *STORED)]
    if only:
        every = [one for one in every if one[1] in only]
    totals = {"kills": kills, "flips": flips, "mutations": mutations}
    weights = {kind: sum(one[3] for one in every if one[0] == kind) for kind in totals}
    return [
        FaultPart(kind, name, of, -int(-totals[kind] * weight // weights[kind]))
        for kind, name, of, weight in every
        if totals[kind]
    ]


def run(asked: Sequence[FaultPart], seed: int, trials: list[FaultTrial], workers: int = 1) -> None:
    """Try everything, with a bar; what became of it is appended to `trials` as it comes.

    Args:
        asked: the parts.
        seed: of all.
        trials: is filled.
        workers: parts that are tried at the same time, each in a process of its own.
    """
    stopped = threading.Event()
    total = sum(part.count for part in asked)
    with progress_bar("", total) as bar, ThreadPoolExecutor(workers) as pool:

        def try_one(part: FaultPart) -> None:
            if stopped.is_set():
                return
            bar.update(label=f"{part.kind}: {part.name}")
            with closing(part.trials(seed)) as of_part:
                for trial in of_part:
                    trials.append(trial)
                    bar.advance()
                    if trial.bad:
                        bar.say(f"{trial.name}, {trial.outcome}: {trial.done}: {trial.said}")
                    if stopped.is_set():
                        return

        def try_part(part: FaultPart) -> None:
            try:
                try_one(part)
            except RuntimeError as error:
                # What is whole cannot be read, or an undisturbed run fails: nothing of it was tried.
                trials.append(FaultTrial(part.kind, part.name, "whole", "traceback", str(error)))

        try:
            for done in as_completed([pool.submit(try_part, part) for part in asked]):
                done.result()
        finally:
            stopped.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make faults, print what became of them; 1 if any of it may not be, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=220, help="kill -9 (%(default)s)")
    parser.add_argument("--flips", type=int, default=560, help="changed bits (%(default)s)")
    parser.add_argument("--mutations", type=int, default=20_500, help="broken files (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that try at the same time (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these alone; see --list")
    parser.add_argument("--json", type=Path, help="write every trial that may not be, and the counts, to this file")
    parser.add_argument("--list", action="store_true", help="print what would be tried, and stop")
    asked = parser.parse_args(arguments)
    chosen = parts(asked.kills, asked.flips, asked.mutations, asked.only)
    if unknown := set(asked.only) - {part.name for part in parts(1, 1, 1)}:
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; see --list")
    if asked.list:
        for part in chosen:
            print(f"{part.kind:10} {part.count:6,}  {part.name}")
        return 0
    trials: list[FaultTrial] = []
    stopped = False
    try:
        run(chosen, asked.seed, trials, asked.workers)
    except KeyboardInterrupt:
        stopped = True
    place = {(part.kind, part.name): number for number, part in enumerate(chosen)}
    trials.sort(key=lambda trial: place.get((trial.kind, trial.name.partition(" at any ")[0]), 0))
    counted = [(trial.kind, trial.name, trial.outcome) for trial in trials]
    title = f"Faults made on purpose, seed {asked.seed}{', stopped' if stopped else ''}"
    Console(width=None if sys.stdout.isatty() else 120).print(table(counted, title))
    bad = [trial for trial in trials if trial.bad]
    for trial in bad:
        print(f"{trial.name}, {trial.outcome}: {trial.done}: {trial.said}")
    if asked.json is not None:
        counts: dict[str, dict[str, int]] = {}
        for kind, name, outcome in counted:
            row = counts.setdefault(f"{kind}: {name}", {})
            row[outcome] = row.get(outcome, 0) + 1
        write_json(asked.json, {"seed": asked.seed, "counts": counts, "bad": [asdict(trial) for trial in bad]})
    return 130 if stopped else 1 if bad else 0


if __name__ == "__main__":
    # Also where a shell started it in the background, and has it ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
