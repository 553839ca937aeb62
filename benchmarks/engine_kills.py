"""Kills -9 of everything that a campaign on a Dask cluster runs on, at random moments, and what becomes of its records.

A scheduler, nannies with their workers, and the command of the campaign are processes of this machine. What ended is
started again, as a batch system or a user would. Called by `python -m benchmarks.scaling --only kills`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import xarray as xr

from data.errors import InputError
from data.processes.descendants import descendants, kill
from data.spec import input_hash
from data.store.records import RecordStore
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.dask_engine import QUIET
from simulators.campaigns.spool import SUFFIX, read_spool
from simulators.testing import Misbehaving, request

KINDS = ("worker", "nanny", "scheduler", "driver")
#: Processor time of a request, s, and what the next request takes longer, by which they differ.
COST_S, STEP_S = 0.02, 1e-5
#: Exit status of a campaign that ended in an orderly way and goes on when it is run again.
RESUMABLE = 2
#: Interval of looking, s.
LOOK_S = 0.05
STORE = "labels.zarr"


@dataclass(frozen=True)
class KillTally:
    """What became of a campaign whose processes were killed.

    Attributes:
        kind: what was killed.
        tried: number of kills.
        records: number of records in the end.
        lost: finished answers, in the store or beside it when a kill came, that had to be computed again.
        duplicated: records of a request that had one.
        again: requests that were computed more than once, each time counted.
        wasted: processor time of these, core-s.
        resumed: how often the command of the campaign had to be run again.
    """

    kind: str
    tried: int
    records: int
    lost: int
    duplicated: int
    again: int
    wasted: float
    resumed: int


@dataclass
class Cluster:
    """Processes of a scheduler, of nannies with a worker each, and of a campaign, which are started again.

    Attributes:
        folder: folder of the store.
        size: number of requests.
        workers: number of nannies.
        starts: how often each kind of process was started.
    """

    folder: Path
    size: int
    workers: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)

    @property
    def scheduler_file(self) -> Path:
        """File in which the scheduler writes its address."""
        return self.folder / "scheduler.json"

    def tend(self) -> bool:
        """Start what has ended; returns whether the campaign has finished."""
        if self._ended("scheduler"):
            # Whoever reads the file of the scheduler before would wait for a process that is gone.
            self.scheduler_file.unlink(missing_ok=True)
            self._start("scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
            for nanny in self._nannies():
                self._end(nanny)
        for nanny in self._nannies():
            if self._ended(nanny):
                options = ("--nanny", "--nthreads", "1", "--memory-limit", "0", "--local-directory", str(self.folder))
                self._start(nanny, "distributed.cli.dask_worker", *options)
        driver = self.processes.get("driver")
        if driver is not None and driver.poll() == 0:
            return True
        if self._ended("driver") and self.scheduler_file.exists():
            if driver is not None and driver.returncode not in (RESUMABLE, -signal.SIGKILL):
                raise RuntimeError(f"the campaign ended with {driver.returncode}")
            self._start("driver", "benchmarks.engine_kills", str(self.folder), str(self.size))
        return False

    def victim(self, kind: str, chosen: random.Random) -> int | None:
        """Id of a living process of a kind; None if there is none at the moment."""
        names = self._nannies() if kind in ("worker", "nanny") else [kind]
        living = [self.processes[name].pid for name in names if not self._ended(name)]
        if kind == "worker":
            living = [pid for nanny in living for pid in sorted(workers_of(nanny))]
        return chosen.choice(living) if living else None

    def end(self) -> None:
        """Kill everything."""
        for name in list(self.processes):
            self._end(name)

    def _nannies(self) -> list[str]:
        return [f"nanny {number}" for number in range(self.workers)]

    def _ended(self, name: str) -> bool:
        return name not in self.processes or self.processes[name].poll() is not None

    def _end(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            below = descendants(process.pid)
            process.kill()
            process.wait()
            kill(below)

    def _start(self, name: str, module: str, *arguments: str) -> None:
        dask = module.startswith("distributed")
        more = ("--scheduler-file", str(self.scheduler_file), "--no-dashboard") if dask else ()
        with open(self.folder / f"{name.replace(' ', '-')}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, *more],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.starts[name.split()[0]] += 1


def kills(folder: Path, kinds: Sequence[str], *, size: int, times: int, workers: int = 2, seed: int = 0) -> KillTally:
    """Run a campaign on a cluster of which processes are killed at random moments.

    Args:
        folder: folder for the store, made if absent.
        kinds: which of `KINDS` are killed, in turn.
        size: number of requests.
        times: number of kills.
        workers: number of workers.
        seed: of the moments, as numbers of computed requests, and of the choice of the process.
    """
    chosen = random.Random(f"{seed} {kinds}")
    moments = sorted(chosen.sample(range(1, max(times + 1, int(0.9 * size))), times))
    folder.mkdir(parents=True, exist_ok=True)
    texts = _texts(size)
    finished: dict[str, int] = {}
    killed = 0
    with _cluster(folder, size, workers) as cluster:
        while not cluster.tend():
            if killed < times and sum(_calls(folder).values()) >= moments[killed]:
                time.sleep(chosen.uniform(0.0, 2 * COST_S))
                pid = cluster.victim(kinds[killed % len(kinds)], chosen)
                if pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
                        # Whatever is finished now must never be computed again.
                        present = {texts[key] for key in _finished(folder)}
                        counts = _calls(folder)
                        finished |= {text: counts[text] for text in present if text not in finished}
            time.sleep(LOOK_S)
        resumed = cluster.starts["driver"] - 1
    calls = _calls(folder)
    with RecordStore.open(folder / STORE) as store:
        keys, status = store.keys(), store.column("status")
        right = store.column("y") == store.column("x") ** 2
    expected = set(texts)
    if set(keys) != expected or not (status == "ok").all() or not right.all():
        raise RuntimeError(f"{len(expected - set(keys))} of {size} requests have no record, or a wrong one")
    again = sum(calls.values()) - len(expected)
    lost = sum(calls[text] > count for text, count in finished.items())
    return KillTally(
        " ".join(kinds), killed, len(keys), lost, len(keys) - len(set(keys)), again, again * COST_S, resumed
    )


@contextmanager
def _cluster(folder: Path, size: int, workers: int) -> Iterator[Cluster]:
    cluster = Cluster(folder, size, workers)
    try:
        yield cluster
    finally:
        cluster.end()


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    names = {key: f"DASK_{key.upper().replace('.', '__').replace('-', '_')}" for key in QUIET}
    return {**os.environ, "PYTHONPATH": paths, **{names[key]: str(value) for key, value in QUIET.items()}}


def _requests(size: int) -> Iterator[xr.Dataset]:
    return (request(round(COST_S + number * STEP_S, 6), "burn") for number in range(size))


def _texts(size: int) -> dict[str, str]:
    """Key of each request -> how the simulator writes it to its list of calls."""
    return {input_hash(one): f"{float(one['x']):g}" for one in _requests(size)}


def _calls(folder: Path) -> Counter[str]:
    """How often each request was begun."""
    with suppress(FileNotFoundError):
        return Counter(line.split()[0] for line in (folder / "calls").read_text().splitlines())
    return Counter()


def _finished(folder: Path) -> set[str]:
    """Keys of the answers that are in the store, or beside it."""
    keys: set[str] = set()
    for path in (folder / f"{STORE}.inbox").glob(f"*{SUFFIX}"):
        keys.update(one.job.key for one in read_spool(path)[0])
    if (folder / STORE / "store.json").exists():
        with RecordStore.open(folder / STORE) as store:
            keys.update(store.keys())
    return keys


def workers_of(nanny: int) -> set[int]:
    """Ids of the living worker processes of a nanny, beside which it has one that counts semaphores."""
    pids = set()
    with suppress(psutil.Error):
        for child in psutil.Process(nanny).children():
            # One that is ending has no command any more.
            with suppress(psutil.Error):
                if any("spawn_main" in part for part in child.cmdline()):
                    pids.add(child.pid)
    return pids


def _drive() -> int:
    """The campaign itself; returns the exit status of the command."""
    folder, size = Path(sys.argv[1]), int(sys.argv[2])
    config = CampaignConfig(engine="dask", scheduler_file=str(folder / "scheduler.json"))
    try:
        run_campaign(Misbehaving(str(folder)), _requests(size), folder / STORE, config, progress=False)
    except InputError as error:
        print(error, file=sys.stderr)
        return RESUMABLE
    return 0


if __name__ == "__main__":
    sys.exit(_drive())
