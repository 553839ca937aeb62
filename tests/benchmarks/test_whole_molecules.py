"""Bonds that break in a dynamics, and the drift of a total energy."""

from __future__ import annotations

import numpy as np
import pytest
from small_potential import WATER, morse

from benchmarks.whole_molecules import FirstBonds, FreeRun, free_run
from data.structures.structures import Structures


def frames_of(*positions: np.ndarray) -> Structures:
    """Frames of water."""
    return Structures.from_arrays([np.array([8, 1, 1])] * len(positions), list(positions))


def test_a_bond_is_broken_where_it_is_longer_than_its_first_length_allows() -> None:
    bonds = FirstBonds.of(frames_of(WATER, WATER, WATER))
    assert [len(lengths) for lengths in bonds.lengths] == [2, 2, 2]
    stretched, torn, lost = WATER.copy(), WATER.copy(), WATER.copy()
    stretched[1] = WATER[0] + 1.5 * (WATER[1] - WATER[0])
    torn[1] = WATER[0] + 1.7 * (WATER[1] - WATER[0])
    lost[2] = np.nan
    np.testing.assert_array_equal(bonds.broken(frames_of(stretched, torn, lost), np.arange(3)), [False, True, True])
    np.testing.assert_array_equal(bonds.broken(frames_of(lost, stretched), np.array([2, 0])), [True, False])


def test_a_drift_is_the_slope_of_the_energy_while_a_trajectory_is_whole() -> None:
    times = np.linspace(0, 2, 21)
    ripple = 1e-4 * np.cos(40 * np.pi * times / 2)
    energy = np.stack([-5 + 3e-3 * times + ripple, -4 - 1e-3 * times, np.full(21, 7.0)], axis=1)
    energy[11:, 1] = 1e6
    whole = np.ones((21, 3), bool)
    whole[11:, 1] = False
    whole[2:, 2] = False
    free = FreeRun(times, energy, np.full((21, 3), 500.0), whole, 1.0)
    np.testing.assert_allclose(free.drifts(), [3.0, -1.0, np.nan], atol=0.05)
    assert free.scatter()[1] == pytest.approx(1e3 * energy[:11, 1].std())


def test_a_cold_molecule_stays_whole_at_a_constant_energy_and_a_hot_one_falls_apart() -> None:
    triangle = 1.4 * np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.75**0.5, 0.0]])
    start = Structures.from_arrays([np.full(3, 6)] * 2, [triangle, 1.01 * triangle])
    cold = free_run(morse(), start, 0.05, kelvin=100.0, timestep_fs=0.1, record_every=50)
    assert cold.picoseconds[-1] == pytest.approx(0.05)
    assert cold.energy.shape == (11, 2)
    assert cold.whole.all()
    assert cold.scatter().max() < 0.5
    hot = free_run(morse(), start, 0.05, kelvin=60000.0, timestep_fs=0.1, record_every=50)
    assert hot.whole[0].all()
    assert not hot.whole[-1].any()
    assert hot.core_seconds > 0
