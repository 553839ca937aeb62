"""Matrix kernels for PySCF: its wheel brings an OpenBLAS of 2018, which does not know later processors.

On one that it does not know it falls back to kernels for SSE3 (those for AMD's Barcelona of 2007), which take half
as long again for a DFT calculation. Any processor with AVX2 and FMA runs the kernels made for Intel's Haswell. Import
this before PySCF; a choice made in OPENBLAS_CORETYPE is kept.
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
    """What the processor can do, as Linux names it; nothing where the file is absent."""
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
    # For PySCF alone: the newer libraries of NumPy and SciPy choose better by themselves, here and in children.
    os.environ[VARIABLE] = "Haswell"
    try:
        import_module(LIBRARY)
    finally:
        del os.environ[VARIABLE]


load()
