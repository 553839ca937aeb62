"""A cascade as an ASE calculator: answers of xTB's two methods, a relaxation, and no dynamics."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.units import fs

from data.errors import InputError
from data.spec import SimulationError
from data.structures.structures import Structures
from simulators.chemistry.ase_calculator import ASECalculator
from surrogates.cascade.answer_cascade import AnswerCascade
from surrogates.cascade.cascade_calculator import CascadeCalculator
from surrogates.cascade.cascade_card import CascadeCard, Promised, RungCard, Tolerance
from surrogates.cascade.risk import ErrorModel
from understudy import dynamics

OUTPUTS = ("energy", "forces")
LADDER = [
    ASECalculator("ase.calculators.lj.LennardJones", {"sigma": sigma, "epsilon": 0.01, "rc": 12.0}, outputs=OUTPUTS)
    for sigma in (3.40, 3.41, 3.42)
]


def ladder() -> AnswerCascade:
    """Three Lennard-Jones potentials, of which the second is judged by its distance from the first."""
    errors = (ErrorModel(9.0, 0.0, 1.0), ErrorModel(0.0, 1.0, 0.5), None)
    rungs = tuple(
        RungCard(f"lj{k}", {}, rung.fingerprint, rung.name, 1.0, errors=errors[k]) for k, rung in enumerate(LADDER)
    )
    tolerance = Tolerance({"energy": 0.001, "forces": 0.005}, {"energy": "eV", "forces": "eV/Angstrom"})
    return AnswerCascade(LADDER, CascadeCard(rungs, tolerance, Promised(0.1, None, 0.3, 10, 20, 0, 0, "", 0)))


def argon(distance: float) -> Atoms:
    return Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.0, distance]])


def test_easy_and_hard_geometries_get_the_energies_of_different_rungs() -> None:
    for distance, rung in ((6.0, 1), (3.3, 2)):
        atoms = argon(distance)
        atoms.calc = CascadeCalculator(ladder())
        ratio, cut = (((3.40, 3.41, 3.42)[rung] / r) ** 6 for r in (distance, 12.0))
        exact = 0.04 * (ratio**2 - ratio - cut**2 + cut)  # the energy is 0 at the cutoff
        assert atoms.get_potential_energy() == pytest.approx(exact, abs=1e-9)
        assert atoms.get_forces().sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
        assert atoms.calc.results["rung"] == rung
        assert (atoms.calc.results["energy_low"] == atoms.calc.results["energy"]) == (rung == 2)
        atoms.info["charge"] = 1
        with pytest.raises(SimulationError, match="charge"):
            atoms.get_potential_energy()


def test_a_relaxation_ends_in_the_minimum_and_dynamics_is_refused() -> None:
    atoms = argon(3.7)
    atoms.calc = CascadeCalculator(ladder())
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=100)
    assert atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6) * 3.41, abs=0.03)
    with pytest.raises(SimulationError, match="two steps of dynamics"):
        VelocityVerlet(atoms, timestep=fs).run(2)
    with pytest.raises(InputError, match="change its rung between two steps"):
        dynamics(ladder(), Structures.from_arrays([atoms.numbers], [atoms.positions]), "out.zarr")  # type: ignore[arg-type]
