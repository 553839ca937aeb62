"""Freed memory that is kept: pages that were touched once are not touched for the first time again."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, sys
from experiments.application.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
libc, size = ctypes.CDLL(None), 100 * 2**20
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_large_blocks_are_handed_out_again() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    faults = {}
    for how in ("kept", "plain"):
        line = [sys.executable, "-c", SCRIPT, how]
        faults[how] = int(subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout)
    assert faults["kept"] < 10
    # At least one for each page of two megabytes, where those are used.
    assert faults["plain"] >= 40
