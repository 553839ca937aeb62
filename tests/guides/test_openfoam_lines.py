"""The lines of the guide to fluids that run OpenFOAM, or read what it wrote, on the smallest meshes."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
from guide_lines import GuideRun, guide_lines

from simulators.fluids.openfoam.cases import CASES
from simulators.fluids.openfoam.programs import environment, run

NUMBERS = "data.parts=[4,2,9,1]"
#: The step on a mesh of 80 cells.
STEP = {"viscosity": 0.01, "cells_before": 4, "cells_behind": 8, "cells_across": 4}
SIZES = {
    "runs/mycase.zarr": ["sampling.count=6"],
    "runs/cells": ["data.parts=[3,1,0,2]"],
    "runs/drop": [NUMBERS],
    "runs/best": ["recheck.top=1", "recheck.random=1"],
    "runs/mycase.zarr#2": [
        "sampling.count=2", "simulator.case.constants.cells=8", "simulator.case.grid.y=[0.0,1.0,8]",
    ],
}  # fmt: skip
#: Lines that run OpenFOAM, or read what it wrote.
WITH_OPENFOAM = ("runs/mycase.zarr", "runs/cells", "runs/finished.zarr", "runs/drop.zarr", "runs/drop", "runs/best")


def filled(case: str, numbers: dict[str, float], folder: Path) -> None:
    """A packaged case as a case of one's own, with numbers in the place of its constants."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CASES / case, folder)
    for path in (p for p in folder.rglob("*") if p.is_file()):
        text = path.read_text()
        path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda m: f"{numbers.get(m[1], m[0])}", text))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("simpleFoam") is None, reason="OpenFOAM is not installed: `make openfoam`")
def test_the_lines_on_openfoam_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(0.5 + 0.06 * i, 0.3 + 0.3 * (7 * i % 16) / 16) for i in range(16)]
    designs = pd.DataFrame(rows, columns=["velocity", "step"])
    designs.to_csv("designs.csv", index=False)
    designs.assign(velocity=designs["velocity"] + 0.01).to_csv("many.csv", index=False)

    def finish_cases() -> None:
        """Two cases that have run, and the table of their parameters."""
        env = environment(tmp_path / "home")
        for name, (velocity, step) in zip("ab", rows[4:6], strict=True):
            case = tmp_path / "myruns" / name
            filled("step", {**STEP, "velocity": velocity, "step": step}, case)
            for program in ("blockMesh", "simpleFoam"):
                run((program,), case, env, time.monotonic() + 600, 600)
        designs[4:6].assign(case=["a", "b"]).to_csv("myruns.csv", index=False)

    filled("step", STEP, tmp_path / "mycase")
    before = {
        "runs/finished.zarr": finish_cases,
        "runs/mycase.zarr#2": lambda: filled("channel", {}, tmp_path / "mycase"),
    }
    guide = GuideRun(tmp_path, SIZES, before)
    for line in guide_lines("docs/guides/cfd.md"):
        if line.name in WITH_OPENFOAM:
            guide.run(line)
    assert {name.partition("#")[0] for name in guide.names} == set(WITH_OPENFOAM)
    checked = pd.read_csv("runs/best/recheck.csv")
    assert (checked["status"] == "ok").all()
    assert set(checked["group"]) == {"top", "random"}
