"""PySCF computes with kernels for this processor, and nothing else is told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.chemistry.blas import NEEDED, VARIABLE, flags

LIST_KERNELS = """
import json, os
import simulators.chemistry.pyscf
from threadpoolctl import threadpool_info
architectures = {i["filepath"]: i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"}
kernels = [v for k, v in architectures.items() if "pyscf" in k]
print(json.dumps([kernels, os.environ.get("OPENBLAS_CORETYPE")]))
"""


def kernels_with(**more: str) -> tuple[list[str], str | None]:
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", LIST_KERNELS], env=environment | more, check=True, capture_output=True, text=True
    )
    kernels, variable = json.loads(done.stdout)
    return kernels, variable


@pytest.mark.skipif(not flags() >= NEEDED, reason="this processor has no AVX2")
def test_its_kernels_are_those_for_avx2_and_children_are_told_nothing() -> None:
    assert kernels_with() == (["Haswell"], None)


def test_a_choice_of_the_user_is_kept() -> None:
    assert kernels_with(**{VARIABLE: "Nehalem"}) == (["Nehalem"], "Nehalem")


def test_flags_are_read_from_the_first_processor(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert flags(file) == {"fpu", "avx2", "fma"}
    assert flags(tmp_path / "absent") == set()
