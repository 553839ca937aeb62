"""Broken files are read in a process of their own, which may crash, hang or take too much memory; the next goes on."""

from __future__ import annotations

import json
import logging
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from data.processes import probe

#: Memory above what the process has when a file is opened, bytes, and processor time, seconds, that reading it may
#: take.
MOST_MEMORY, MOST_SECONDS = 1 << 30, 15.0
#: Wall time after which a reader that burns no processor time is taken for hung, seconds; long, because the machine may
#: be busy with other work.
MOST_WAITED = 300.0


class Subject(Protocol):
    """What is broken again and again."""

    def make(self, number: int) -> str:
        """Break it in a way that the number stands for; what was done."""

    def outcome(self) -> tuple[str, str]:
        """What its reader makes of it, in a word, and what was said."""


class ProcessReading(NamedTuple):
    """What became of one broken file.

    Attributes:
        number: of the way in which it was broken.
        how: what was done.
        outcome: in a word: what `Subject.outcome` answers, or memory, hang or crash.
        said: by the reader.
        peak: memory that it took above that of the process, bytes.
        seconds: of processor time that it took; of a hang, those that were waited.
    """

    number: int
    how: str
    outcome: str
    said: str
    peak: int
    seconds: float


def subject(kind: str, name: str, folder: Path, seed: int) -> Subject:
    """What is to be broken.

    Args:
        kind: file or flip.
        name: of one of `foreign.READERS` or `stored_files.STORED`, or of `own_files.kinds`.
        folder: empty.
        seed: of all.
    """
    if kind == "flip":
        from benchmarks.faults.flips import Flipper
        from benchmarks.faults.own_files import kinds

        return Flipper({kind.name: kind for kind in kinds()}[name], folder, seed)
    from benchmarks.faults.broken_files import Breaker
    from benchmarks.faults.foreign import READERS
    from benchmarks.faults.stored_files import STORED

    breaker = Breaker({**READERS, **STORED}[name], folder, seed)
    for path in breaker.valid:
        breaker.reader.read(path)
    return breaker


def read_in_a_process(kind: str, name: str, count: int, *, seed: int = 0, start: int = 0) -> Iterator[ProcessReading]:
    """Read so many broken files in a process that may die, hang or take too much memory, and go on behind each.

    Args:
        kind: see `subject`.
        name: see `subject`.
        count: of broken files.
        seed: of all.
        start: number of the first.

    Raises:
        RuntimeError: one that is whole cannot be read.
    """
    at, stop = start, start + count
    while at < stop:
        for one in _until_it_dies(kind, name, seed, at, stop):
            yield one
            at = one.number + 1


def _until_it_dies(kind: str, name: str, seed: int, start: int, stop: int) -> Iterator[ProcessReading]:
    command = [sys.executable, "-m", "benchmarks.faults.processes", kind, name, str(seed)]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*command, str(start), str(stop), folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env={**os.environ, "TMPDIR": folder},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        at, how, said, began = start - 1, "", b"", time.perf_counter()
        try:
            while True:
                ready, _, _ = select.select([process.stdout, process.stderr], [], [], MOST_WAITED)
                if process.stderr in ready:
                    said = (said + (os.read(process.stderr.fileno(), 1 << 16) or b""))[-4096:]
                    if process.stdout not in ready and process.poll() is None:
                        continue
                if not ready:
                    yield ProcessReading(at, how, "hang", "", 0, time.perf_counter() - began)
                    return
                line = process.stdout.readline()
                if not line:
                    process.wait()
                    last = said.decode("utf-8", "replace").strip()
                    if at >= start and how:
                        yield ProcessReading(at, how, "crash", f"status {process.returncode}: {last[-300:]}", 0, 0.0)
                    elif at < stop - 1:
                        raise RuntimeError(f"{name} cannot be tried: {last}")
                    return
                event = json.loads(line)
                if len(event) == 2:
                    (at, how), began = event, time.perf_counter()
                else:
                    yield ProcessReading(*event)
                    how = ""
        finally:
            process.kill()
            process.communicate()


def _child(kind: str, name: str, seed: int, start: int, stop: int, folder: Path) -> None:
    """Say before and behind each broken file what it is and what became of it, as lines of JSON."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    # Only a power failure needs the disk.
    os.fsync = os.fdatasync = lambda fd: None
    # A file that is refused because its library does not end is refused sooner here, to tell it from a hang.
    probe.PATIENCE = MOST_SECONDS / 2
    broken = subject(kind, name, folder / "files", seed)
    for number in range(start, stop):
        how = broken.make(number)
        out.write(json.dumps([number, how]) + "\n")
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + MOST_MEMORY, resource.RLIM_INFINITY))
        began = time.process_time()
        outcome, said = broken.outcome()
        seconds = time.process_time() - began
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        peak = max(0, _status("VmHWM") - before)
        if peak > MOST_MEMORY // 4:
            outcome = "memory"
        elif seconds > MOST_SECONDS:
            outcome = "hang"
        out.write(json.dumps([number, how, outcome, said[:1000], peak, seconds]) + "\n")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), Path(sys.argv[6]))
