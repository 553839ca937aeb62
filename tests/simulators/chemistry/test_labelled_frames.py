"""Frames with labels as a simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from simulator_contract import assert_promises

from data.errors import InputError
from data.formats.rows import Row
from data.molecules.writing import write_extxyz
from data.rejects import RejectLog
from data.spec import SimulationError
from data.structures.frame_names import FrameKeys
from experiments.campaigns.frame_requests import FrameRequests
from simulators.chemistry.labelled_frames import LabelledFrames
from simulators.chemistry.variables import Geometry

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four frames of water, the second without forces, the last equal to the first."""
    rows = []
    for k, shift in enumerate((0.0, 0.01, 0.02, 0.0)):
        properties: dict[str, float | np.ndarray] = {"energy": -2000.0 - k, "forces": WATER * (k + 1)}
        if k == 1:
            del properties["forces"]
        rows.append(Row(k + 1, None, np.array([8, 1, 1]), WATER + np.array([0.0, 0.0, shift]), properties))
    write_extxyz(tmp_path / "water.xyz", rows)
    return tmp_path / "water.xyz"


def test_it_keeps_the_contract_of_a_simulator(path: Path) -> None:
    good = Geometry(np.array([8, 1, 1], np.int32), WATER).dataset()
    moved = good.assign(positions=good.positions + 1e-3)
    simulator = LabelledFrames(str(path), cost_s=100.0)
    assert_promises(simulator, LabelledFrames(str(path), ("energy",)), good, moved)
    assert simulator.declared_cost_s == 100.0
    assert LabelledFrames(str(path)).fingerprint == simulator.fingerprint
    assert simulator.provenance["frames"] == {"used": 4, "left_out": 0, "repeated": 1}


def test_the_frames_of_the_file_have_its_labels(path: Path, tmp_path: Path) -> None:
    simulator = LabelledFrames(str(path))
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        requests = list(FrameRequests(path, simulator, FrameKeys(), None).counted(rejects))
    assert float(simulator.simulate(requests[2])["energy"]) == -2002.0
    assert simulator.simulate(requests[2])["forces"].values == pytest.approx(3 * WATER)
    assert float(simulator.simulate(requests[3])["energy"]) == -2000.0  # the first of two equal frames
    with pytest.raises(SimulationError, match=r"frame 2 of water\.xyz has no forces"):
        simulator.simulate(requests[1])
    assert float(LabelledFrames(str(path), ("energy",)).simulate(requests[1])["energy"]) == -2001.0
    for name, value in (("charge", 2), ("cell", np.eye(3) * 9)):
        geometry = Geometry(np.array([8, 1, 1], np.int32), WATER, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(SimulationError, match="not in water"):
            simulator.simulate(geometry.dataset())


def test_settings_that_make_no_sense_are_refused(path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        LabelledFrames("absent.xyz")
    with pytest.raises(InputError, match="cannot be computed"):
        LabelledFrames(str(path), ("gap",))
    with pytest.raises(InputError, match="finite number of 0 or more"):
        LabelledFrames(str(path), cost_s=-1.0)
