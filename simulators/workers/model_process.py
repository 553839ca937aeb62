"""The parent's side of a model in another interpreter (`simulators.workers.model_server`).

The process runs below a guard (`simulators.workers.guard`), so that it ends with this one, and is started by the first
request. If it dies, its request fails with the reason, and the next one starts a new process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import simulators
from data.errors import InputError
from data.spec import SimulationError
from simulators.workers import channel
from simulators.workers.guarded_program import Guarded
from simulators.workers.programs import BOOT
from simulators.workers.scratch import Scratch

SERVER = Path(__file__).with_name("model_server.py")
#: Time within which a model has described itself, which loads no weights, s.
DESCRIBING_S = 120.0


@dataclass(frozen=True)
class ServedModel:
    """A model that another interpreter holds.

    Attributes:
        python: path of the interpreter.
        module: file with `describe` and `load`; see `simulators.workers.model_server`.
        settings: JSON with the settings of the model.
    """

    python: Path
    module: Path
    settings: str = "{}"


@cache
def describe(python: Path, module: Path) -> Mapping[str, Any]:
    """The facts that identify a model, from its interpreter; see `simulators.workers.model_server`.

    Raises:
        InputError: the interpreter cannot be run, or lacks the packages of the model.
    """
    try:
        ended = subprocess.run(
            [str(python), "-I", str(SERVER), str(module), "describe"],
            capture_output=True,
            text=True,
            timeout=DESCRIBING_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if ended.returncode == 0:
            return dict(json.loads(ended.stdout.splitlines()[-1]))
        problem = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
    except OSError as error:
        problem = f"it cannot be started: {error.strerror}"
    except subprocess.TimeoutExpired:
        problem = f"no answer after {DESCRIBING_S:.0f} s"
    except (ValueError, IndexError):
        problem = "its answer cannot be read"
    raise InputError(f"{module.stem}: {problem}", where=str(python))


class ModelProcess:
    """A process that holds a model and answers one request after another.

    Args:
        model: what it holds.
    """

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._lock = threading.Lock()
        self._guarded: Guarded | None = None
        self._end: socket.socket | None = None

    def ask(
        self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The model's answer to a request.

        Args:
            facts: JSON-serialisable facts of the request.
            arrays: arrays of numbers or strings.

        Returns:
            Facts and arrays of the answer.

        Raises:
            SimulationError: the model failed, could not be loaded, or its process died.
        """
        with self._lock:
            try:
                if self._end is None:
                    self._start()
                assert self._end is not None
                channel.send(self._end, channel.pack(facts, arrays))
                said, answer = channel.unpack(channel.receive(self._end))
            except (EOFError, OSError, channel.GarbledError) as error:
                raise SimulationError("crashed", self._bury(error)) from error
            except BaseException:
                # The answer to come would be taken for that of the next request.
                self._close()
                raise
        if "failed" in said:
            raise SimulationError(said["failed"]["kind"], said["failed"]["message"])
        return dict(said["answer"]), answer

    def descendants(self) -> list[int]:
        """Ids of the running processes of the model; none if it has not been started."""
        return [] if self._guarded is None else self._guarded.descendants()

    def close(self) -> None:
        """End the process; the next request starts a new one."""
        with self._lock:
            self._close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        descriptor = theirs.detach()
        root = Path(simulators.__file__).parent.parent
        command = [str(self.model.python), "-I", str(SERVER), str(self.model.module), "serve", str(descriptor)]
        self._end = ours
        self._guarded = Guarded(
            BOOT,
            [str(root), *command, self.model.settings],
            os.environ,
            isolated=True,
            scratch=Scratch.make(),
            handed=[descriptor],
        )
        said, _ = channel.unpack(channel.receive(ours))
        if "unloadable" in said:
            self._close()
            raise SimulationError("missing_component", f"{self.model.module.stem}: {said['unloadable']}")

    def _bury(self, error: Exception) -> str:
        """End the process; returns how it ended."""
        ended = self._guarded.end() if self._guarded is not None else None
        self._close()
        if ended is None:
            return f"{self.model.module.stem}: {error}"
        last = ended.said.splitlines()[-1:]
        return ": ".join([f"the process of {self.model.module.stem} ended by {ended.how}", *last])

    def _close(self) -> None:
        if self._end is not None:
            self._end.close()
        if self._guarded is not None:
            self._guarded.kill()
        self._end = self._guarded = None


_PROCESSES: dict[tuple[int, ServedModel], ModelProcess] = {}


def process_of(model: ServedModel) -> ModelProcess:
    """The process of a model, the same one for all who ask in this process, and another one after a fork."""
    key = (os.getpid(), model)
    if key not in _PROCESSES:
        _PROCESSES[key] = ModelProcess(model)
    return _PROCESSES[key]


def close_processes() -> None:
    """End the processes of all models, which otherwise end with this process."""
    for (pid, _), process in list(_PROCESSES.items()):
        if pid == os.getpid():
            process.close()
