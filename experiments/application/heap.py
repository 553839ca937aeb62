"""Settings of the memory allocator for processes that train."""

from __future__ import annotations

import ctypes

#: Parameters of glibc's mallopt(3) and their values, with which freed memory is kept and reused for large blocks too.
SETTINGS = {-1: 2**31 - 1, -2: 64 * 2**20, -4: 0, -8: 1}  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX


def keep_freed_memory() -> bool:
    """Let the C library reuse freed memory instead of returning it to the system; call this before JAX is imported.

    A compiled training step on a CPU allocates its temporary arrays anew at each call. Above 32 MiB glibc maps them
    from the system and gives them back, and touching fresh pages then takes up to as long as the arithmetic; see
    docs/decisions.md.

    Returns:
        Whether the C library accepted the settings; libraries other than glibc have none, and are not changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [mallopt(parameter, value) == 1 for parameter, value in SETTINGS.items()]
    return all(taken)
