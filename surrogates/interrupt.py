"""Ctrl-C between two steps, where everything that a checkpoint holds is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax


class BrokenOff(KeyboardInterrupt):
    """Ctrl-C, raised between two steps."""


#: Ctrl-C, and the signals by which a queue ends a job or announces its end.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupt:
    """While it is entered, Ctrl-C is noted in `asked` instead of raised; a second one is raised at once.

    So are SIGTERM and SIGUSR1 where the command stops at them (`experiments.cli`). An exception in the midst of a step
    would find the old state given away and the new one not there yet. Only the main thread hears signals; entered in
    another one, this does nothing. Nor does it among several processes, which would wait for the one that stopped: they
    resume from their last regular checkpoint.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            for number in SIGNALS:
                present = signal.getsignal(number)
                # What ends the process without Python, or is ignored, is left alone; so is somebody else's Ctrl-C.
                if present is signal.default_int_handler or (number != signal.SIGINT and callable(present)):
                    self._before[number] = present
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
