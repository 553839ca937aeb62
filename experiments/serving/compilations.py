"""Counts the programs that XLA compiles in this process, whoever asks for them."""

from __future__ import annotations

import threading

import jax

#: The event that JAX reports for each compilation.
EVENT = "/jax/core/compile/backend_compile_duration"


class CompilationCounter:
    """Counts compilations from its making on; a process makes few of them, because JAX calls each for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Compilations so far.
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == EVENT:
            with self._lock:
                self.count += 1
