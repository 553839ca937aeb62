"""Ctrl-C between two steps, where everything that a checkpoint holds is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax


class BrokenOff(KeyboardInterrupt):
    """Ctrl-C, raised between two steps."""


class Interrupt:
    """While it is entered, Ctrl-C is noted in `asked` instead of raised; a second one is raised at once.

    An exception in the midst of a step would find the old state given away and the new one not there yet. Only the
    main thread hears signals; entered in another one, this does nothing. Nor does it among several processes, which
    would wait for the one that stopped: they go on from their last regular checkpoint.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            self._before = signal.getsignal(signal.SIGINT)
            # A handler that someone else has set, or none at all, is left alone.
            if self._before is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._note)
            else:
                self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
