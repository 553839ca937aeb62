"""What a training from the weights of a potential refuses, and the frames that it replays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from small_potential import WATER, potential, scattered

from data.errors import InputError
from surrogates.potentials.fit import FineTuning
from surrogates.potentials.tuning import TuneConfig, fine_tuning, refuse_unlearned_elements


def test_elements_that_the_weights_have_not_learned_are_named() -> None:
    tuning, frames = FineTuning(potential()), scattered(3, 4, fewest=4)
    refuse_unlearned_elements(TuneConfig(), tuning, frames, "a.xyz")
    fluorides = replace(frames, numbers=np.where(frames.numbers == 8, 9, frames.numbers).astype(np.int32))
    with pytest.raises(InputError, match=r"a\.xyz.* F, .* learned H, C, O alone.*tune\.new_elements=true"):
        refuse_unlearned_elements(TuneConfig(), tuning, fluorides, "a.xyz")
    refuse_unlearned_elements(TuneConfig(new_elements=True), tuning, fluorides, "a.xyz")
    refuse_unlearned_elements(TuneConfig(), None, fluorides, "a.xyz")


def test_some_of_many_frames_are_replayed_and_the_same_ones_again(tmp_path: Path) -> None:
    potential().save(tmp_path / "surrogate")
    waters = [Atoms("OHH", WATER * (1 + 0.01 * i), info={"energy": -1.0 * i}) for i in range(8)]
    write(tmp_path / "old.xyz", waters, format="extxyz")
    replay = {"main": str(tmp_path / "old.xyz")}

    def energies(frames: int | None) -> list[float]:
        tuning = fine_tuning(TuneConfig(str(tmp_path), replay=replay, replay_frames=frames), None)
        assert tuning is not None
        assert tuning.replay is not None
        return tuning.replay.energy.tolist()

    assert energies(None) == energies(20) == [-1.0 * i for i in range(8)]
    some = energies(3)
    assert len(set(some)) == 3
    assert set(some) < set(energies(None))
    assert energies(3) == some
    with pytest.raises(ValueError, match="replay_frames must be 1 or more"):
        TuneConfig(replay_frames=0)
