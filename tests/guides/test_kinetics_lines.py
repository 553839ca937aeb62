"""The lines of the guide to kinetics, on few reactors with real Cantera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from guide_lines import GuideRun, guide_lines

SIZES = {
    "runs/ignition.zarr": ["sampling.count=24", "simulator.points=4"],
    "runs/ignition": ["data.parts=[9,3,9,3]"],
}


@pytest.mark.slow
def test_the_lines_on_kinetics_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cantera", reason="Cantera is not installed: the extra kinetics")
    monkeypatch.chdir(tmp_path)
    guide = GuideRun(tmp_path, SIZES)
    for line in guide_lines("docs/guides/kinetics.md"):
        guide.run(line)
    assert guide.names == ["runs/ignition.zarr", "runs/ignition"]
    metrics = pd.read_json("runs/ignition/metrics.json", typ="series")
    assert np.isfinite(metrics["test/temperature/coverage_90"])
