"""Frames of many molecules survive the death of the process that writes them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.pretraining import frame_library
from simulators.chemistry.thermal_frames import ThermalConfig

SMILES = ["C" * n for n in range(1, 7)]
CONFIG = ThermalConfig(2, (300.0,), 5)
CHILD = """
import sys, time
from pathlib import Path
from experiments.pretraining import frame_library
from simulators.chemistry.thermal_frames import ThermalConfig
frame_library.MOLECULES = 2
whole = frame_library.write_extxyz
def slow(path, rows):
    whole(path, rows)
    if path.name.endswith("00001.extxyz"):
        print("written", flush=True)
        time.sleep(600)
frame_library.write_extxyz = slow
frame_library.write_frames(["C" * n for n in range(1, 7)], ThermalConfig(2, (300.0,), 5), Path(sys.argv[1]), "train")
"""


def test_frames_written_before_a_kill_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_library, "MOLECULES", 2)
    with subprocess.Popen([sys.executable, "-c", CHILD, tmp_path / "killed"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGKILL)
    kept = tmp_path / "killed" / "train-00000.extxyz"
    before = kept.read_bytes()
    asked: list[list[str]] = []
    draw = frame_library.thermal_frames_foreign

    def counted(smiles: list[str], config: ThermalConfig) -> object:
        asked.append(list(smiles))
        return draw(smiles, config)

    monkeypatch.setattr(frame_library, "thermal_frames_foreign", counted)
    path, count = frame_library.write_frames(SMILES, CONFIG, tmp_path / "killed", "train")
    assert asked == [SMILES[4:]]
    assert count == 12
    assert path.read_bytes().startswith(before)
    whole, _ = frame_library.write_frames(SMILES, CONFIG, tmp_path / "whole", "train")
    assert whole.read_bytes() == path.read_bytes()
    assert [file.name for file in sorted((tmp_path / "killed").glob("train*"))] == ["train.extxyz", "train.json"]
