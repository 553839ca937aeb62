"""Finished answers on their way to the one writer: frames, and the files of an inbox in which a worker collects them.

A frame is facts as JSON and arrays as bytes with a checksum (`simulators.workers.channel`). A task of an engine
appends each answer to a file of its own at once, so that a kill of its process loses none, and waits for the disk
before it says that the file is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from data.files import sync_directory
from simulators.campaigns.slot import Job
from simulators.workers import channel
from simulators.workers.worker import WorkerAnswer

#: File in an inbox with the text that the campaign wrote, by which a worker knows that it sees the same folder.
TOKEN = ".token"
SUFFIX = ".frames"


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
    def unpack(content: bytes) -> Iterator[Finished]:
        """The requests of frames that stand one after the other.

        Raises:
            GarbledError: one is cut short or damaged; it is raised after those before it.
        """
        for payload in channel.payloads_of(content):
            facts, arrays = channel.unpack(payload)
            try:
                inputs = {name[3:]: value for name, value in arrays.items() if name.startswith("in/")}
                values = {name[4:]: value for name, value in arrays.items() if name.startswith("out/")}
                job = Job(str(facts["key"]), inputs, **facts["job"])
                answer = WorkerAnswer(values=values, **facts["answer"], **facts["times"])
                yield Finished(job, answer, str(facts["fingerprint"]))
            except (KeyError, TypeError) as error:
                raise channel.GarbledError(f"it cannot be read: {error}") from error


def read_spool(path: Path) -> tuple[list[Finished], str]:
    """The answers in a file of an inbox, and what is wrong with the rest of it; "" if nothing is."""
    answers: list[Finished] = []
    try:
        for finished in Finished.unpack(path.read_bytes()):
            answers.append(finished)
    except (OSError, channel.GarbledError) as error:
        return answers, str(error)
    return answers, ""


def spools_of(inbox: Path, task: str) -> list[Path]:
    """Files of one task, whose name is repeated when an engine runs it again."""
    return sorted(inbox.glob(f"{task}-*{SUFFIX}"))


class Spool:
    """The file into which a task writes its answers, made with the first of them.

    Args:
        inbox: folder of the file.
        task: name of the task.
    """

    def __init__(self, inbox: Path, task: str) -> None:
        # Its name is new, so that two workers that run the same task do not write one file.
        self._path = inbox / f"{task}-{uuid4().hex}{SUFFIX}"
        self._handle: int | None = None

    def add(self, frame: bytes) -> None:
        """Append a frame; from now on a kill of this process does not lose it."""
        if self._handle is None:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(self._handle, rest) :]

    def close(self) -> str | None:
        """Wait until the file is on the disk; returns its name, or None if there was no frame."""
        if self._handle is None:
            return None
        handle, self._handle = self._handle, None
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_directory(self._path.parent)
        return self._path.name
