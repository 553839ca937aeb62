"""One request in a killable worker, as a plain function that any engine of processes can run anywhere.

The function is the seam between campaigns and engines: whatever runs it (Dask, a `concurrent.futures.Executor`, a batch
system) needs to know nothing of limits, retries or processes that misbehave. It keeps one killable worker for each
thread that calls it, so that the simulator is loaded once.

An answer is a frame: facts as JSON and arrays as bytes with a checksum (`simulators.workers.channel`). It is written to
an inbox beside the store, if that folder is shared with the campaign, and is on its disk before the function returns.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from data.errors import InputError
from data.files import write_bytes
from data.spec import SimulationError
from simulators.campaigns.config import CampaignConfig
from simulators.campaigns.crew import Crew
from simulators.campaigns.slot import Job
from simulators.workers import channel
from simulators.workers.worker import WorkerAnswer

#: File in an inbox with the text that the campaign wrote, by which a worker knows that it sees the same folder.
TOKEN = ".token"
SUFFIX = ".frame"


@dataclass(frozen=True)
class Limits:
    """What a worker of an engine needs to know of a campaign.

    Attributes:
        threads, timeout_s, memory_mb, scratch_mb, retries: see `simulators.campaigns.config.CampaignConfig`.
        inbox: folder for finished frames; None: frames are returned.
        token: text of the file `TOKEN` in it.
    """

    threads: int = 1
    timeout_s: float | None = 3600.0
    memory_mb: int | None = 4000
    scratch_mb: int | None = 20_000
    retries: int = 1
    inbox: str | None = None
    token: str = ""

    @staticmethod
    def of(config: CampaignConfig, inbox: Path | None = None, token: str = "") -> Limits:
        """The limits of a campaign."""
        names = ("threads", "timeout_s", "memory_mb", "scratch_mb", "retries")
        where = None if inbox is None else str(inbox.resolve())
        return Limits(**{name: getattr(config, name) for name in names}, inbox=where, token=token)

    def config(self) -> CampaignConfig:
        """The settings of a campaign with one worker."""
        return CampaignConfig(1, self.threads, self.timeout_s, self.memory_mb, self.scratch_mb, self.retries)


@dataclass(frozen=True)
class Delivery:
    """What `guarded` returns: small facts, and the frame or the name of its file.

    Attributes:
        key: key of the request.
        file: name of the file in the inbox; None: the frame is here.
        frame: the frame; empty if it is in a file.
        refused: why no request can be answered by this simulator on this worker; "" if it can.
        kind: kind of that refusal: "missing_component", or "unloadable".
    """

    key: str
    file: str | None = None
    frame: bytes = b""
    refused: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Finished:
    """A finished request, as a frame holds it."""

    job: Job
    answer: WorkerAnswer
    fingerprint: str

    def pack(self) -> bytes:
        """The frame."""
        job, answer = self.job, self.answer
        facts = {
            "fingerprint": self.fingerprint,
            "key": job.key,
            "job": {"attempts": job.attempts, "seconds": job.seconds, "core_seconds": job.core_seconds},
            "answer": {"status": answer.status, "message": answer.message, "log": answer.log},
            "times": {"seconds": answer.seconds, "core_seconds": answer.core_seconds},
        }
        arrays = {f"in/{name}": value for name, value in job.values.items()}
        arrays |= {f"out/{name}": value for name, value in answer.values.items()}
        return b"".join(channel.frame(channel.pack(facts, arrays)))

    @staticmethod
    def unpack(content: bytes) -> Finished:
        """The inverse of `pack`.

        Raises:
            GarbledError: the bytes are not a whole frame.
        """
        facts, arrays = channel.unpack(channel.payload_of(content))
        try:
            given = {name[3:]: value for name, value in arrays.items() if name.startswith("in/")}
            values = {name[4:]: value for name, value in arrays.items() if name.startswith("out/")}
            job = Job(str(facts["key"]), given, **facts["job"])
            answer = WorkerAnswer(values=values, **facts["answer"], **facts["times"])
            return Finished(job, answer, str(facts["fingerprint"]))
        except (KeyError, TypeError) as error:
            raise channel.GarbledError(f"it cannot be read: {error}") from error


class _Own(threading.local):
    """The killable worker of each thread: which simulator and limits it has, and the crew of one."""

    identity: tuple[str, Limits] | None = None
    crew: Crew | None = None


_OWN = _Own()


def guarded(pickled: bytes, fingerprint: str, key: str, values: Mapping[str, Any], limits: Limits) -> Delivery:
    """Answer one request in a killable worker.

    Args:
        pickled: the pickled simulator.
        fingerprint: fingerprint of the simulator.
        key: key of the request.
        values: values of the request by name.
        limits: limits of time, memory and disk, and where the answer goes.
    """
    finished: list[tuple[Job, WorkerAnswer]] = []
    crew = _crew(pickled, limits)
    crew.record = lambda job, answer: finished.append((job, answer))
    try:
        busy = crew.feed(iter([Job(key, dict(values))]))
        while busy and not finished:
            crew.collect()
    except (SimulationError, InputError) as error:
        close_own_worker()
        kind = error.kind if isinstance(error, SimulationError) else "unloadable"
        message = error.message if isinstance(error, SimulationError) else error.problem
        return Delivery(key, refused=str(message), kind=kind)
    except BaseException:
        close_own_worker()
        raise
    frame = Finished(*finished[0], fingerprint).pack()
    if limits.inbox is None or not _shared(Path(limits.inbox), limits.token):
        return Delivery(key, frame=frame)
    # Its name is new, so that two workers that answer the same request do not write one file.
    name = f"{key}-{uuid4().hex}{SUFFIX}"
    write_bytes(Path(limits.inbox) / name, frame)
    return Delivery(key, file=name)


def close_own_worker() -> None:
    """End the killable worker of this thread, if it has one."""
    crew, _OWN.crew, _OWN.identity = _OWN.crew, None, None
    if crew is not None:
        crew.kill()


def _crew(pickled: bytes, limits: Limits) -> Crew:
    identity = (hashlib.sha256(pickled).hexdigest(), limits)
    if _OWN.crew is None or identity != _OWN.identity:
        close_own_worker()
        _OWN.crew, _OWN.identity = Crew(pickled, limits.config(), lambda job, answer: None), identity
    return _OWN.crew


def _shared(inbox: Path, token: str) -> bool:
    try:
        return (inbox / TOKEN).read_text(encoding="ascii") == token
    except (OSError, UnicodeDecodeError):
        return False
