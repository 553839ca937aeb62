"""Requests in a killable worker, as a plain function that any engine of processes can run anywhere.

The function is the seam between campaigns and engines: whatever runs it (Dask, a `concurrent.futures.Executor`, a batch
system) needs to know nothing of limits, retries or processes that misbehave. It keeps one killable worker for each
thread that calls it, so that the simulator is loaded once.

Answers are frames (`simulators.campaigns.spool`). They are written to an inbox beside the store, if that folder is
shared with the campaign, each as soon as it is finished, and are on its disk before the function returns.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.spec import SimulationError
from simulators.campaigns.config import CampaignConfig
from simulators.campaigns.crew import Crew
from simulators.campaigns.slot import Job
from simulators.campaigns.spool import TOKEN, Finished, Spool, read_spool, spools_of
from simulators.workers.worker import WorkerAnswer


@dataclass(frozen=True)
class Limits:
    """What a worker of an engine needs to know of a campaign.

    Attributes:
        threads, timeout_s, memory_mb, scratch_mb, retries: see `simulators.campaigns.config.CampaignConfig`.
        inbox: folder for finished frames; None: frames are returned.
        token: text of the file `simulators.campaigns.spool.TOKEN` in it.
        together: see `simulators.campaigns.crew.Crew`.
    """

    threads: int = 1
    timeout_s: float | None = 3600.0
    memory_mb: int | None = 4000
    scratch_mb: int | None = 20_000
    retries: int = 1
    inbox: str | None = None
    token: str = ""
    together: bool = False

    @staticmethod
    def of(config: CampaignConfig, inbox: Path | None = None, token: str = "", *, together: bool = False) -> Limits:
        """The limits of a campaign."""
        names = ("threads", "timeout_s", "memory_mb", "scratch_mb", "retries")
        where = None if inbox is None else str(inbox.resolve())
        return Limits(**{name: getattr(config, name) for name in names}, inbox=where, token=token, together=together)

    def config(self) -> CampaignConfig:
        """The settings of a campaign with one worker."""
        return CampaignConfig(1, self.threads, self.timeout_s, self.memory_mb, self.scratch_mb, self.retries)


@dataclass(frozen=True)
class Delivery:
    """What `guarded` returns: small facts, and the frames or the names of their files.

    Attributes:
        files: names of files in the inbox.
        frames: frames of a worker that does not see the inbox, one after the other.
        seconds: wall time of the task, s.
        refused: why no request can be answered by this simulator on this worker; "" if it can.
        kind: kind of that refusal: "missing_component", or "unloadable".
    """

    files: tuple[str, ...] = ()
    frames: bytes = b""
    seconds: float = 0.0
    refused: str = ""
    kind: str = ""


class _Own(threading.local):
    """The killable worker of each thread: which simulator and limits it has, and the crew of one."""

    identity: tuple[str, Limits] | None = None
    crew: Crew | None = None


_OWN = _Own()


def guarded(
    pickled: bytes, fingerprint: str, task: str, requests: Sequence[tuple[str, Mapping[str, Any]]], limits: Limits
) -> Delivery:
    """Answer requests in a killable worker, one after the other or several together.

    Requests that an earlier attempt of the same task answered before its worker was lost are not computed again.

    Args:
        pickled: the pickled simulator.
        fingerprint: fingerprint of the simulator.
        task: name of the task, for the name of its file.
        requests: key and values by name of each request.
        limits: limits of time, memory and disk, and where the answers go.
    """
    began = time.perf_counter()
    inbox = _shared_inbox(limits)
    files: list[str] = []
    answered: set[str] = set()
    if inbox is not None:
        for path in spools_of(inbox, task):
            earlier, _ = read_spool(path)
            answered.update(finished.job.key for finished in earlier if finished.fingerprint == fingerprint)
            files.append(path.name)
    spool = None if inbox is None else Spool(inbox, task)
    frames: list[bytes] = []
    refused = kind = ""

    def record(job: Job, answer: WorkerAnswer) -> None:
        (frames.append if spool is None else spool.add)(Finished(job, answer, fingerprint).pack())

    crew = _crew(pickled, limits)
    crew.record = record
    jobs = iter([Job(key, dict(values)) for key, values in requests if key not in answered])
    try:
        while crew.feed(jobs):
            crew.collect()
    except (SimulationError, InputError) as error:
        close_own_worker()
        kind = error.kind if isinstance(error, SimulationError) else "unloadable"
        refused = str(error.message if isinstance(error, SimulationError) else error.problem)
    except BaseException:
        close_own_worker()
        raise
    finally:
        name = None if spool is None else spool.close()
    files += [] if name is None else [name]
    return Delivery(tuple(files), b"".join(frames), time.perf_counter() - began, refused, kind)


def close_own_worker() -> None:
    """End the killable worker of this thread, if it has one."""
    crew, _OWN.crew, _OWN.identity = _OWN.crew, None, None
    if crew is not None:
        crew.kill()


def _crew(pickled: bytes, limits: Limits) -> Crew:
    identity = (hashlib.sha256(pickled).hexdigest(), limits)
    if _OWN.crew is None or identity != _OWN.identity:
        close_own_worker()
        _OWN.crew, _OWN.identity = Crew(pickled, limits.config(), lambda job, answer: None, limits.together), identity
    return _OWN.crew


def _shared_inbox(limits: Limits) -> Path | None:
    """The inbox, if this worker sees the folder of the campaign."""
    if limits.inbox is None:
        return None
    try:
        text = (Path(limits.inbox) / TOKEN).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return Path(limits.inbox) if text == limits.token else None
