"""How a process that trains asks for memory."""

from __future__ import annotations

import ctypes

#: Parameters of glibc's mallopt(3), and what they are set to: freed memory is kept, and large blocks come from it too.
SETTINGS = {-1: 2**31 - 1, -2: 64 * 2**20, -4: 0, -8: 1}  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX


def keep_freed_memory() -> bool:
    """Let the C library hand out freed memory again; call it before JAX is imported.

    A compiled training step on a CPU allocates its temporary arrays anew at each call. Above 32 MiB glibc maps them
    from the system and gives them back, and touching fresh pages then takes up to as long as the arithmetic; see
    docs/decisions.md.

    Returns:
        Whether the C library took it; those other than glibc have no such settings, and are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [mallopt(parameter, value) == 1 for parameter, value in SETTINGS.items()]
    return all(taken)
