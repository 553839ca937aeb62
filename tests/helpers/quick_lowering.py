"""While the tests run, programs of JAX share contexts of MLIR.

JAX makes a context for each program that it lowers, and loads all dialects into it: 4 of the 19 ms of processor time
that a small program takes to compile, and of the 10 ms to load it from a cache. The tests compile tens of thousands of
small programs. A context serves some hundreds of them here and is then replaced, since it keeps the constants of all
its programs.
"""

from __future__ import annotations

import threading
from typing import Any

from jax._src.interpreters import mlir

#: Programs that one context serves.
SERVED = 200

_make_context = mlir.make_ir_context
_of_thread = threading.local()


def install() -> None:
    """Share contexts from now on."""
    mlir.make_ir_context = _context


def _context() -> Any:
    # Of each thread its own: several may lower at a time.
    served = getattr(_of_thread, "served", SERVED)
    if served == SERVED:
        _of_thread.context, served = _make_context(), 0
    _of_thread.served = served + 1
    return _of_thread.context
