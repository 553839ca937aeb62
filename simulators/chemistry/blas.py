"""Selects fast matrix kernels for PySCF, whose wheel has an OpenBLAS of 2018 that does not know later processors.

On an unknown processor it falls back to SSE3 kernels (those of AMD's Barcelona of 2007), with which a DFT calculation
takes 1.5 times as long. Any processor with AVX2 and FMA can run the kernels for Intel's Haswell. This module must be
imported before PySCF. A choice in OPENBLAS_CORETYPE is respected.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

VARIABLE = "OPENBLAS_CORETYPE"
NEEDED = {"avx2", "fma"}
LIBRARY = "pyscf.lib"


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Feature flags of the processor, as Linux names them; empty if the file does not exist."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())


def load() -> None:
    """Load PySCF's library with kernels for this processor, if it is not loaded yet."""
    if VARIABLE in os.environ or LIBRARY in sys.modules or not flags() >= NEEDED:
        import_module(LIBRARY)
        return
    # Only for PySCF: the newer libraries of NumPy and SciPy choose better kernels themselves, also in child processes.
    os.environ[VARIABLE] = "Haswell"
    try:
        import_module(LIBRARY)
    finally:
        del os.environ[VARIABLE]


load()
