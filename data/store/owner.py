"""Who writes to a store, where advisory locks may not reach: an owner file with an epoch and a heartbeat.

`flock` is node-local or absent on some mounts of NFS and Lustre. Beside it, a writer therefore makes the file
`owner-<epoch>.json` with O_EXCL, which a single process can do for each epoch, and touches it every few seconds.
Who wants to write finds the newest of these files. If its writer is alive, the store is refused; if it released the
store, or is believed dead, the next epoch is taken. A writer that finds a newer epoch than its own has been believed
dead, and stops before it changes anything.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from data.errors import InputError
from data.host import boot_id, host_name

_NAME = re.compile(r"owner-(\d{8})\.json")
#: Seconds between two signs of life, and age of the last one above which a writer on another machine is believed dead.
HEARTBEAT_S, DEAD_S = 5.0, 60.0
#: Seconds between two looks for a newer epoch while records are appended; folds look each time.
LOOK_S = 1.0


def is_owner_file(name: str) -> bool:
    """Whether a name is that of an owner file."""
    return _NAME.fullmatch(name) is not None


class Ownership:
    """The right to write to a store, until `release`.

    Args:
        directory: directory of the store.

    Raises:
        InputError: a writer on another machine has it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        while True:
            newest = _epochs(directory)[-1:]
            if newest:
                _refuse_living(directory, newest[0])
            self.epoch = (newest[0] if newest else 0) + 1
            facts = {"host": host_name(), "pid": os.getpid(), "boot": boot_id(), "released": False}
            try:
                handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                # Another process took this epoch meanwhile.
                continue
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(facts, file)
            break
        for epoch in newest:
            with suppress(OSError):
                _owner_file(directory, epoch).unlink()
        self._looked = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="owner of a store")
        self._thread.start()

    @property
    def _file(self) -> Path:
        return _owner_file(self._directory, self.epoch)

    def check(self, *, at_most_every_s: float = 0.0) -> None:
        """Make sure that no other process has taken the store over.

        Args:
            at_most_every_s: whether to trust a look that is not older than this, s.

        Raises:
            InputError: another process has; this one must not write any more.
        """
        now = time.monotonic()
        if now - self._looked < at_most_every_s:
            return
        self._looked = now
        newest = _epochs(self._directory)[-1:]
        if newest != [self.epoch]:
            raise InputError(
                "another process has taken the store over, because this one gave no sign of life",
                where=str(self._directory),
                remedy="Nothing that was recorded is lost; the other process goes on",
            )

    def release(self) -> None:
        """Give up the right, so that another machine need not wait until this process is believed dead."""
        self._over.set()
        self._thread.join()
        with suppress(OSError, InputError):
            self.check()
            self._file.write_text(json.dumps({"host": host_name(), "pid": os.getpid(), "released": True}))

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            # A file that another process removed is not made again.
            with suppress(OSError):
                os.utime(self._file)


def _owner_file(directory: Path, epoch: int) -> Path:
    return directory / f"owner-{epoch:08d}.json"


def _epochs(directory: Path) -> list[int]:
    """Epochs of the owner files, in order."""
    return sorted(int(match[1]) for name in os.listdir(directory) if (match := _NAME.fullmatch(name)))


def _refuse_living(directory: Path, epoch: int) -> None:
    """Refuse a store whose owner lives on another machine; this machine's are told by the lock, which is held already.

    Raises:
        InputError: it has released nothing, and gave a sign of life lately.
    """
    path = _owner_file(directory, epoch)
    try:
        facts = json.loads(path.read_text(encoding="utf-8") or "{}")
        # A file without content is of a process that was killed while it made it.
        if not isinstance(facts, dict) or facts.get("released") or facts.get("host") in (None, host_name()):
            return
        # By the clock of the file server, which need not agree with that of this machine.
        age = _now_there(directory) - path.stat().st_mtime
    except (OSError, ValueError):
        return
    if age < DEAD_S:
        raise InputError(
            f"process {facts.get('pid')} on {facts.get('host')} is writing there ({max(0.0, age):.0f} s ago)",
            where=str(directory),
            remedy=f"Wait for it or stop it; {DEAD_S:.0f} s after its last sign of life the store is free",
        )


def _now_there(directory: Path) -> float:
    """The time of the file system that holds a directory, s since 1970."""
    probe = directory / f".clock-{os.getpid()}-{threading.get_ident()}"
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
