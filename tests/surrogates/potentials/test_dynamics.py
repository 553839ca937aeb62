"""Dynamics in batches: conservation, temperature, reversibility, agreement with ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from small_potential import SMALL, WATER, potential, scattered

from data.structures.structures import Structures
from surrogates.potentials.calculator import PotentialCalculator
from surrogates.potentials.dynamics.dynamics import Dynamics, DynamicsConfig, Snapshot, thermal_velocities
from surrogates.potentials.dynamics.relax import RelaxConfig, Relaxer


def frames(dynamics: Dynamics, table: Structures, velocities: np.ndarray | None = None) -> list[Snapshot]:
    return list(dynamics(table, velocities))


@pytest.mark.parametrize("architecture", list(SMALL))
def test_nve_conserves_energy_momentum_and_angular_momentum(architecture: str) -> None:
    surrogate = potential(SMALL[architecture])
    start = Relaxer(surrogate, RelaxConfig(fmax=0.05, buckets=1))(scattered(4, 6)).structures
    for timestep in (0.5, 0.25):
        config = DynamicsConfig(steps=400, timestep_fs=timestep, temperature_kelvin=300, record_every=20, buckets=1)
        snapshots = frames(Dynamics(surrogate, config), start)
        total = np.array([f.structures.energy + f.kinetic for f in snapshots])
        # Drift against the 3 N - 6 degrees of freedom's thermal energy of 0.16 eV at least.
        assert np.abs(total - total[0]).max() < 4e-3 * (timestep / 0.5) ** 2 + 1e-3
        assert np.ptp([f.kinetic for f in snapshots], axis=0).max() > 0.02, "energy is exchanged"
    momentum = angular = 0.0
    for frame in (snapshots[0], snapshots[-1]):
        mass = Atoms(start.numbers).get_masses()[:, None]
        p = mass * frame.velocities
        for first, last in zip(start.atom_start[:-1], start.atom_start[1:], strict=True):
            momentum = max(momentum, float(np.abs(p[first:last].sum(axis=0)).max()))
            x = frame.structures.positions[first:last]
            angular = max(angular, float(np.abs(np.cross(x - x.mean(axis=0), p[first:last]).sum(axis=0)).max()))
    assert momentum < 1e-4
    assert angular < 1e-3


def test_nve_is_velocity_verlet_as_ase_has_it() -> None:
    surrogate = potential()
    table = Structures.from_arrays([np.array([8, 1, 1])], [WATER])
    velocities = thermal_velocities(table, 500.0, 1)
    atoms = Atoms([8, 1, 1], WATER, calculator=PotentialCalculator(surrogate))
    atoms.set_velocities(velocities / units.fs)
    VelocityVerlet(atoms, timestep=0.5 * units.fs).run(40)
    snapshots = frames(Dynamics(surrogate, DynamicsConfig(steps=40, record_every=40, buckets=1)), table, velocities)
    np.testing.assert_allclose(snapshots[-1].structures.positions, atoms.positions, atol=5e-5)
    np.testing.assert_allclose(snapshots[-1].velocities, atoms.get_velocities() * units.fs, atol=5e-5)
    assert snapshots[-1].kinetic[0] == pytest.approx(atoms.get_kinetic_energy(), abs=1e-4)


def test_thermal_velocities_have_the_temperature_and_no_drift_or_rotation() -> None:
    copies = 400
    table = Structures.from_arrays([np.array([8, 1, 1])] * copies, [WATER] * copies)
    v = thermal_velocities(table, 300.0, 0) / units.fs
    mass = Atoms([8, 1, 1]).get_masses()
    kinetic = 0.5 * (mass[None, :] * (v.reshape(copies, 3, 3) ** 2).sum(-1)).sum(axis=1)
    # Three degrees of freedom: mean 3/2 kT, standard deviation of the mean kT sqrt(3/2) / 20.
    kt = units.kB * 300.0
    assert kinetic.mean() == pytest.approx(1.5 * kt, abs=4 * kt * np.sqrt(1.5 / copies))
    p = mass[None, :, None] * v.reshape(copies, 3, 3)
    centred = WATER - (mass[:, None] * WATER).sum(axis=0) / mass.sum()
    assert np.abs(p.sum(axis=1)).max() < 1e-10
    assert np.abs(np.cross(centred, p).sum(axis=1)).max() < 1e-10
    alone = Structures.from_arrays([np.array([8]), np.array([1, 1])], [np.zeros((1, 3)), WATER[:2]])
    assert np.isfinite(thermal_velocities(alone, 300.0, 0)).all()
    np.testing.assert_allclose(thermal_velocities(alone, 300.0, 0)[0], 0.0, atol=1e-12)


def test_langevin_reaches_the_temperature_of_its_bath_from_rest() -> None:
    surrogate = potential(SMALL["painn"], scale=0.2)
    copies = 40
    table = Structures.from_arrays([np.array([8, 1, 1])] * copies, [WATER] * copies)
    config = DynamicsConfig(
        steps=600, timestep_fs=0.5, temperature_kelvin=400.0, friction_per_fs=0.05, record_every=20, buckets=1
    )
    snapshots = frames(Dynamics(surrogate, config), table, np.zeros((3 * copies, 3)))
    steps = sorted({f.step for f in snapshots})
    kinetic = np.array([np.concatenate([f.kinetic for f in snapshots if f.step == s]) for s in steps])
    late = kinetic[len(kinetic) // 2 :]
    # Nine degrees of freedom; about 8 independent moments of 40 molecules: a standard error of 2.6%.
    assert late.mean() == pytest.approx(4.5 * units.kB * 400.0, rel=0.1)
    assert kinetic[0].max() == 0.0


def test_a_path_does_not_depend_on_company_or_on_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate = potential(SMALL["painn"])
    table = scattered(3, 6, seed=2)
    config = DynamicsConfig(steps=20, friction_per_fs=0.02, record_every=20, buckets=1, seed=5)
    velocities = thermal_velocities(table, 300.0, 0)
    together = frames(Dynamics(surrogate, config), table, velocities)[-1]
    often = DynamicsConfig(steps=20, friction_per_fs=0.02, record_every=5, buckets=1, seed=5)
    finer = frames(Dynamics(surrogate, often), table, velocities)
    assert [f.step for f in finer] == [0, 5, 10, 15, 20]
    np.testing.assert_allclose(finer[-1].structures.positions, together.structures.positions, atol=1e-5)
    monkeypatch.setattr("surrogates.potentials.dynamics.dynamics.pairs_budget", lambda: 1)
    single = [f for f in frames(Dynamics(surrogate, config), table, velocities) if f.step == 20]
    assert [f.rows.tolist() for f in single] == [[0], [1], [2]]
    alone = np.concatenate([f.structures.positions for f in single])
    np.testing.assert_allclose(alone, together.structures.positions, atol=1e-5)


def test_neighbour_lists_are_made_anew_before_a_pair_is_missed() -> None:
    surrogate = potential()
    far = 40.0 + 20.0 * np.stack([np.arange(40), np.zeros(40), np.zeros(40)], axis=1)
    small = Structures.from_arrays([np.array([8, 1, 1])], [WATER])
    large = Structures.from_arrays([np.concatenate([[8, 1, 1], np.ones(40)])], [np.concatenate([WATER, far])])
    # Fast hydrogens leave and a spectator stays: 0.05 Angstrom/fs over 60 fs is three times the margin.
    v = np.array([[0.0, 0, 0], [0, 0.05, 0.0], [0.0, -0.05, 0.0]])
    config = DynamicsConfig(steps=120, record_every=60, buckets=1)
    dense = frames(Dynamics(surrogate, config), small, v)[-1]
    listed = frames(Dynamics(surrogate, config), large, np.concatenate([v, np.zeros((40, 3))]))[-1]
    assert np.abs(dense.structures.positions - WATER).max() > 1.5
    np.testing.assert_allclose(listed.structures.positions[:3], dense.structures.positions, atol=1e-3)


def test_a_molecule_that_breaks_stops_and_the_others_go_on() -> None:
    surrogate = potential()
    weights = surrogate.model.networks.body.embedding.embedding
    weights[...] = weights[...].at[:, 8].set(np.nan)
    table = Structures.from_arrays([np.array([8, 1, 1]), np.array([1, 1, 6])], [WATER, WATER])
    snapshots = frames(Dynamics(surrogate, DynamicsConfig(steps=10, record_every=5, buckets=1)), table)
    assert snapshots[-1].alive.tolist() == [False, True]
    assert np.isfinite(snapshots[-1].structures.positions).all()


@pytest.mark.parametrize("change", [{"steps": 15}, {"timestep_fs": 0.0}, {"temperature_kelvin": -1.0}])
def test_senseless_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)).split("_")[0]):
        DynamicsConfig(**change)  # type: ignore[arg-type]
