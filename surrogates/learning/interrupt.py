"""Delays Ctrl-C to the end of a step, when the state that a checkpoint holds is consistent."""

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
    """A context in which Ctrl-C sets `asked` instead of raising; a second Ctrl-C raises at once.

    SIGTERM and SIGUSR1 are treated alike where the command stops at them (`experiments.cli`). An exception in the
    middle of a step would come when the old state is donated and the new one is not yet complete. Only the main thread
    receives signals; in another thread this does nothing.

    Args:
        agreed: whether several processes agree on where they stop (`surrogates.learning.stop_vote`). Without that this
            does nothing where there are several, because the others would wait for the one that stopped.
    """

    def __init__(self, *, agreed: bool = False) -> None:
        self.asked = False
        self._agreed = agreed
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and (self._agreed or jax.process_count() == 1):
            for number in SIGNALS:
                present = signal.getsignal(number)
                # Signals that end the process without Python, or are ignored, are left alone, and so is another handler
                # of Ctrl-C.
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
