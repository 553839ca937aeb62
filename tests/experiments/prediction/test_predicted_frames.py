"""`understudy predict` on frames: every geometry has its answer or a reason, and keeps its entries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from predicting import predicted_by
from saved_files import unpack
from small_potential import WATER

from data.structures.structures import Structures
from experiments.prediction import frames
from surrogates.saved import load_surrogate

RNG = np.random.default_rng(0)
POSITIONS = [WATER + 0.02 * RNG.normal(size=(3, 3)) for _ in range(5)]


@pytest.fixture(scope="module")
def saved(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The directory of the saved potential of water."""
    return once("saved-potentials", lambda place: unpack("surrogates/potentials", place))


def molecules() -> list[Atoms]:
    """Water with labels and a name, and a molecule of an element that the potential does not know."""
    waters = [Atoms("OHH", p, info={"name": f"w{i}"}) for i, p in enumerate(POSITIONS)]
    for i, atoms in enumerate(waters):
        atoms.calc = SinglePointCalculator(atoms, energy=-2066.0 - i, forces=0.1 * RNG.normal(size=(3, 3)))
    return [*waters[:2], Atoms("HF", [[0, 0, 0], [0, 0, 0.92]], info={"name": "fluoride"}), *waters[2:]]


def test_frames_keep_their_entries_and_get_the_answers_of_the_potential(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "CHUNK_FRAMES", 3)
    potential: Any = load_surrogate(saved)
    expected = potential.predict_structures(Structures.from_arrays([np.array([8, 1, 1])] * 5, POSITIONS))
    ase.io.write(tmp_path / "in.extxyz", molecules())
    ase.io.write(tmp_path / "in.traj", molecules())
    broken = (tmp_path / "in.extxyz").read_text() + "3\n\nO 0 0 0\nH 0 0 x\nH 0 1 0\n"
    (tmp_path / "in.extxyz").write_text(broken)
    for source, target in (("extxyz", "extxyz"), ("traj", "traj"), ("traj", "xyz")):
        out = tmp_path / f"{source}.out.{target}"
        run_dir = predicted_by(saved, tmp_path / f"in.{source}", out)
        answers = ase.io.read(out, index=":", format="traj" if target == "traj" else "extxyz")
        assert [atoms.info["name"] for atoms in answers] == ["w0", "w1", "fluoride", "w2", "w3", "w4"]
        fluoride = answers.pop(2)
        assert "unknown element F" in fluoride.info["reason"]
        assert fluoride.calc is None
        np.testing.assert_allclose([a.get_potential_energy() for a in answers], expected.energy, rtol=1e-9)
        np.testing.assert_allclose(
            np.concatenate([a.get_forces() for a in answers]), expected.forces, rtol=1e-5, atol=1e-7
        )
        assert [a.info["energy_true"] for a in answers] == [-2066.0, -2067.0, -2068.0, -2069.0, -2070.0]
        assert {**answers[0].arrays, **answers[0].info}["forces_true"].shape == (3, 3)
        assert all(a.info["energy_low"] <= a.get_potential_energy() <= a.info["energy_high"] for a in answers)
    metrics = json.loads((tmp_path / "extxyz.out.extxyz.run" / "metrics.json").read_text())
    assert metrics["predict/frames"] == 7
    assert metrics["predict/rejected"] == 2
    error = expected.energy - np.array([-2066.0, -2067.0, -2068.0, -2069.0, -2070.0])
    assert metrics["predict/energy/mae_ev"] == pytest.approx(np.abs(error).mean())
    assert metrics["predict/forces/pairs"] == 45
    assert "Predicted against true forces" in (run_dir / "report.html").read_text()


def test_a_run_that_was_stopped_does_not_ask_again(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "CHUNK_FRAMES", 2)
    ase.io.write(tmp_path / "in.extxyz", molecules())
    truly, asked = frames._answers, []

    def stopping(surrogate: Any, rows: Any, path: Path) -> Any:
        asked.append(rows[0].line)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return truly(surrogate, rows, path)

    monkeypatch.setattr(frames, "_answers", stopping)
    with pytest.raises(KeyboardInterrupt):
        predicted_by(saved, tmp_path / "in.extxyz", tmp_path / "out.extxyz")
    assert not (tmp_path / "out.extxyz").exists()
    predicted_by(saved, tmp_path / "in.extxyz", tmp_path / "out.extxyz")
    assert asked == [1, 11, 11, 20]
    assert len(ase.io.read(tmp_path / "out.extxyz", index=":")) == 6
