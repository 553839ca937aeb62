"""Dynamics and relaxations on disk: the file holds the trajectory, and its energy is conserved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
from small_potential import Morse, morse, scattered

from data.errors import InputError
from data.structures.structures import Structures
from data.structures.trajectories import read_frames, read_trajectory
from surrogates.potentials.dynamics.dynamics import Dynamics, DynamicsConfig, Snapshot
from surrogates.potentials.dynamics.relax import RelaxConfig, Relaxer
from surrogates.potentials.dynamics.trajectory import run_dynamics, write_trajectory

#: All distances are those of the pair's minimum.
TRIANGLE = Morse.length * np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.75**0.5, 0.0]])
START = Structures.from_arrays([np.array([8, 1, 1]), np.array([6, 8, 1])], [TRIANGLE, TRIANGLE])


def test_energy_is_conserved_in_the_file_as_ase_and_xarray_read_it(tmp_path: Path) -> None:
    dynamics = Dynamics(morse(), DynamicsConfig(steps=200, record_every=20, temperature_kelvin=600, buckets=1))
    for name in ("nve.xyz", "nve.zarr"):
        assert run_dynamics(dynamics, START, tmp_path / name) == 2 * 11
    images = ase.io.read(tmp_path / "nve.xyz", ":")
    for molecule in range(2):
        frames = [atoms for atoms in images if atoms.info["molecule"] == molecule]
        total = np.array([atoms.get_potential_energy() + atoms.get_kinetic_energy() for atoms in frames])
        assert np.abs(total - total[0]).max() < 5e-3
        assert np.ptp([atoms.get_kinetic_energy() for atoms in frames]) > 0.02, "energy is exchanged"
        stored = read_trajectory(tmp_path / "nve.zarr", molecule)
        np.testing.assert_allclose(stored.energy + stored.kinetic_energy, total, atol=1e-6)
        np.testing.assert_array_equal(stored.time_fs, 10.0 * np.arange(11))
        assert frames[3].info["time_fs"] == 30.0


def test_a_run_that_was_stopped_goes_on_to_the_same_file(tmp_path: Path) -> None:
    dynamics = Dynamics(morse(), DynamicsConfig(steps=30, record_every=5, friction_per_fs=0.01, buckets=1))
    run_dynamics(dynamics, START, tmp_path / "whole.xyz")

    def stopped(snapshots: Iterator[Snapshot]) -> Iterator[Snapshot]:
        for now in snapshots:
            if now.step > 10:
                raise KeyboardInterrupt
            yield now

    with pytest.raises(KeyboardInterrupt):
        write_trajectory(
            stopped(dynamics(START)), tmp_path / "cut.xyz", timestep_fs=0.5, source=dynamics.potential.name
        )
    assert run_dynamics(dynamics, START, tmp_path / "cut.xyz", resume=True) == 2 * 4
    assert (tmp_path / "cut.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()
    warmer = Dynamics(dynamics.potential, DynamicsConfig(steps=30, record_every=5, temperature_kelvin=900, buckets=1))
    with pytest.raises(InputError, match="is not where this run has it"):
        run_dynamics(warmer, START, tmp_path / "cut.xyz", resume=True)


def test_a_relaxation_is_written_with_what_became_of_each(tmp_path: Path) -> None:
    relaxed = Relaxer(morse(), RelaxConfig(fmax=0.02, max_steps=12, buckets=1))(scattered(4, 6))
    assert write_trajectory(relaxed, tmp_path / "relaxed.zarr", source="morse") == 4
    frames = list(read_frames(tmp_path / "relaxed.zarr"))
    assert [f.status for f in frames] == ["ok" if s == "converged" else s for s in relaxed.status]
    assert "out_of_steps" in [f.status for f in frames]
    np.testing.assert_array_equal(np.concatenate([f.positions for f in frames]), relaxed.structures.positions)
    np.testing.assert_array_equal([f.energy for f in frames], relaxed.structures.energy)
