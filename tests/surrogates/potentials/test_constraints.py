"""The calculator recomputes when charge or spin change, and batches keep fixed coordinates as ASE does."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.optimize import BFGS
from small_potential import Morse, morse, potential

from data.spec import SimulationError
from data.structures.batches import System
from data.structures.structures import Structures
from surrogates.potentials.calculator import PotentialCalculator
from surrogates.potentials.dynamics.dynamics import Dynamics, DynamicsConfig, thermal_velocities
from surrogates.potentials.dynamics.relax import RelaxConfig, Relaxer
from surrogates.potentials.energy import EnergyAndForces, differentiate
from surrogates.potentials.surrogate import PotentialSurrogate

BENT = np.array([[0.0, 0.0, 0.0], [0.0, 1.1, 0.9], [0.2, -1.3, 0.8], [1.4, 0.1, -0.6]])
CARBONS = np.full(4, 6)


class Charged(Morse):
    """`Morse`, plus 1 eV per unit charge for each atom."""

    def __call__(self, system: System) -> EnergyAndForces:
        def atomic(moved: System) -> jax.Array:
            return jnp.where(moved.numbers > 0, moved.charge[:, None], 0.0) + 0.0 * moved.positions.sum(axis=-1)

        return jax.tree.map(lambda leaf: leaf[None], differentiate(atomic, system))


def charged() -> PotentialSurrogate:
    facts = potential().facts.with_head(charges=(-1, 0, 1))
    return PotentialSurrogate(Charged(), facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["charge", "total_charge"])
def test_another_charge_is_another_question(name: str) -> None:
    atoms = Atoms(CARBONS, BENT, calculator=PotentialCalculator(charged()))
    neutral = atoms.get_potential_energy()
    for charge in (1, -1, 0):
        atoms.info[name] = charge
        assert atoms.get_potential_energy() == pytest.approx(neutral + 4 * charge, abs=1e-3)
    atoms.info.clear()
    atoms.set_initial_charges([0.5, 0.5, 0, 0])
    assert atoms.get_potential_energy() == pytest.approx(neutral + 4, abs=1e-3)


@pytest.mark.parametrize("info", [{"charge": 0.5}, {"charge": 1, "total_charge": 0}, {"ion_charge": 1}])
def test_a_charge_that_is_not_certain_is_refused(info: dict[str, float]) -> None:
    atoms = Atoms(CARBONS, BENT, calculator=PotentialCalculator(charged()))
    atoms.info |= info
    with pytest.raises(SimulationError, match="charge"):
        atoms.get_potential_energy()


def table(*fixed: np.ndarray) -> Structures:
    return Structures.from_arrays([CARBONS] * len(fixed), [BENT] * len(fixed), fixed=list(fixed))


ATOM = np.array([[True] * 3, [False] * 3, [False] * 3, [False] * 3])
COORDINATES = np.array([[True] * 3, [False, True, False], [False] * 3, [False, False, True]])
FREE = np.zeros((4, 3), bool)


def test_relaxation_holds_what_is_fixed_and_ends_where_ase_ends() -> None:
    relaxed = Relaxer(morse(), RelaxConfig(fmax=1e-3, max_steps=2000, buckets=1))(table(ATOM, COORDINATES, FREE))
    assert relaxed.converged.all()
    ends = relaxed.structures.positions.reshape(3, 4, 3)
    constraints = ([FixAtoms([0])], [FixAtoms([0]), FixCartesian(1, (0, 1, 0)), FixCartesian(3, (0, 0, 1))])
    for end, mask, fixed in zip(ends, (ATOM, COORDINATES), constraints, strict=False):
        np.testing.assert_array_equal(end[mask], BENT[mask])
        atoms = Atoms(CARBONS, end, calculator=PotentialCalculator(morse()), constraint=fixed)
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 2e-3
        start = Atoms(CARBONS, BENT, calculator=PotentialCalculator(morse()), constraint=fixed)
        BFGS(start, logfile=None).run(fmax=1e-3, steps=500)
        assert atoms.get_potential_energy() == pytest.approx(start.get_potential_energy(), abs=1e-3)
    assert np.abs(ends[2][0] - BENT[0]).max() > 0.01


@pytest.mark.parametrize("friction", [0.0, 0.05])
def test_dynamics_holds_what_is_fixed(friction: float) -> None:
    config = DynamicsConfig(
        steps=20, record_every=20, friction_per_fs=friction, temperature_kelvin=600, timestep_fs=0.25, buckets=1
    )
    start = table(COORDINATES, FREE)
    *_, last = Dynamics(morse(), config)(start)
    ends = last.structures.positions.reshape(2, 4, 3)
    np.testing.assert_array_equal(ends[0][COORDINATES], BENT[COORDINATES])
    assert (np.abs(ends[0] - BENT)[~COORDINATES] > 1e-4).all()
    velocities = thermal_velocities(start, 600, 0)[:4]
    assert (velocities[COORDINATES] == 0).all()
    assert (velocities[~COORDINATES] != 0).all()


def test_other_constraints_are_refused_in_batches() -> None:
    bound = replace(table(FREE), constrained=np.array([True]))
    with pytest.raises(SimulationError, match="constraints other than fixed"):
        Relaxer(morse(), RelaxConfig())(bound)
    with pytest.raises(SimulationError, match="constraints other than fixed"):
        next(Dynamics(morse(), DynamicsConfig(steps=10, record_every=10))(bound))
