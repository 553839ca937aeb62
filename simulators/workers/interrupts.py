"""Reliable handling of Ctrl-C."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """Raises KeyboardInterrupt again if Python dropped it, which happens inside destructors and callbacks."""

    def __init__(self) -> None:
        self.seen = False
        self.before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal arrived and its exception was dropped."""
        if self.seen:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: object) -> None:
        self.seen = True
        raise KeyboardInterrupt
