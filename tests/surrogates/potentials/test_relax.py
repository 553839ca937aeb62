"""Relaxation in batches against ASE's optimisers on the same potential, and the status of each molecule."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.optimize import FIRE, LBFGS
from small_potential import SMALL, WATER, Morse, morse, potential, scattered

from data.structures.structures import Structures
from surrogates.potentials.calculator import PotentialCalculator
from surrogates.potentials.dynamics.relax import RelaxConfig, Relaxer
from surrogates.potentials.surrogate import PotentialSurrogate


@pytest.mark.parametrize("optimiser", ["lbfgs", "fire"])
def test_each_molecule_ends_where_ase_ends(optimiser: str) -> None:
    surrogate = morse()
    table = scattered(6, 6)
    relaxed = Relaxer(surrogate, RelaxConfig(fmax=1e-3, optimiser=optimiser, max_steps=1000, buckets=1))(table)
    assert relaxed.converged.all()
    same = 0
    for m in range(len(table)):
        atoms = slice(*table.atom_start[m : m + 2])
        calculator = PotentialCalculator(surrogate)
        # From our final positions, ASE takes no step and computes the same energy.
        ase = Atoms(table.numbers[atoms], relaxed.structures.positions[atoms], calculator=calculator)
        assert ase.get_potential_energy() == pytest.approx(relaxed.structures.energy[m], abs=1e-4)
        assert np.linalg.norm(ase.get_forces(), axis=1).max() < 1.1e-3
        # From the same start ASE reaches the same minimum, unless the paths separate at a ridge.
        ase = Atoms(table.numbers[atoms], table.positions[atoms], calculator=calculator)
        (LBFGS if optimiser == "lbfgs" else FIRE)(ase, logfile=None).run(fmax=1e-3, steps=1000)
        same += abs(ase.get_potential_energy() - relaxed.structures.energy[m]) < 1e-4
    assert same >= 5


def test_two_atoms_end_at_the_minimum_of_their_curve() -> None:
    # The envelope shifts the bottom of the well; the truth comes from a fine grid of the same formula.
    r = np.linspace(1.2, 1.6, 400_001)
    x = r / Morse.cutoff
    curve = ((1 - np.exp(-Morse.stiffness * (r - Morse.length))) ** 2 - 1) * (1 - 28 * x**6 + 48 * x**7 - 21 * x**8)
    start = Structures.from_arrays([np.array([1, 1])], [np.array([[0, 0, 0], [0.3, 1.5, 0.9]])])
    relaxed = Relaxer(morse(), RelaxConfig(fmax=1e-4))(start)
    length = np.linalg.norm(relaxed.structures.positions[1] - relaxed.structures.positions[0])
    assert length == pytest.approx(r[curve.argmin()], abs=1e-4)
    assert relaxed.structures.energy[0] == pytest.approx(curve.min() + 2 * -13.0, abs=1e-5)


def test_the_steps_of_fire_are_those_of_ase() -> None:
    surrogate = morse()
    table = scattered(1, 6, seed=7)
    for steps in (1, 4, 15):
        # After `steps` moves ASE has evaluated the forces steps + 1 times, and we count evaluations.
        ours = Relaxer(surrogate, RelaxConfig(fmax=1e-9, optimiser="fire", max_steps=steps + 1, buckets=1))(table)
        atoms = Atoms(table.numbers, table.positions, calculator=PotentialCalculator(surrogate))
        FIRE(atoms, logfile=None).run(fmax=1e-9, steps=steps)
        np.testing.assert_allclose(ours.structures.positions, atoms.positions, atol=1e-4)
        assert ours.status == ("out_of_steps",)


@pytest.mark.parametrize("architecture", list(SMALL))
def test_forces_of_a_relaxed_molecule_are_below_the_threshold(architecture: str) -> None:
    surrogate = potential(SMALL[architecture])
    relaxed = Relaxer(surrogate, RelaxConfig(fmax=0.02, max_steps=1500, buckets=2))(scattered(6, 6))
    assert relaxed.converged.sum() >= 4
    again = surrogate.predict_structures(relaxed.structures)
    for m in np.flatnonzero(relaxed.converged):
        atoms = slice(*relaxed.structures.atom_start[m : m + 2])
        assert np.linalg.norm(again.forces[atoms], axis=1).max() < 0.021
        assert again.energy[m] == pytest.approx(relaxed.structures.energy[m], abs=1e-3)


def test_slots_of_finished_molecules_go_to_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surrogates.potentials.dynamics.relax.pairs_budget", lambda: 4 * 36)
    table = scattered(24, 6, seed=1)
    relaxer = Relaxer(morse(), RelaxConfig(fmax=5e-3, max_steps=400, buckets=1))
    together = relaxer(table)
    assert relaxer.compilations == 1
    assert together.converged.mean() > 0.9
    # Four slots that wait for the slowest molecule would compute far more steps than the molecules needed.
    slowest = sum(together.steps[i : i + 4].max() * 4 for i in range(0, 24, 4))
    assert together.computed < slowest
    assert together.steps.sum() / together.computed > 0.75


def test_neighbour_lists_relax_as_all_pairs_do() -> None:
    surrogate = morse()
    table = scattered(2, 10, seed=3)
    padded = Structures.from_arrays(
        [np.concatenate([z, np.full(40, 1)]) for z in np.split(table.numbers, [int(table.sizes[0])])],
        [
            np.concatenate([x, 50.0 + 20.0 * np.stack([np.arange(40), np.zeros(40), np.zeros(40)], axis=1)])
            for x in np.split(table.positions, [int(table.sizes[0])])
        ],
    )
    config = RelaxConfig(fmax=1e-3, max_steps=1000, buckets=1)
    dense, listed = Relaxer(surrogate, config)(table), Relaxer(surrogate, config)(padded)
    assert listed.converged.all()
    moved = np.linalg.norm(dense.structures.positions - table.positions, axis=1).max()
    assert moved > 0.5, "far enough that lists were made anew"
    far = 40 * surrogate.facts.references.isolated[0]
    np.testing.assert_allclose(listed.structures.energy - far, dense.structures.energy, atol=5e-3)


def test_a_molecule_that_breaks_is_named_and_the_others_go_on() -> None:
    surrogate = potential()
    weights = surrogate.model.networks.body.embedding.embedding
    weights[...] = weights[...].at[:, 8].set(np.nan)
    only = Structures.from_arrays([np.array([8, 1, 1]), np.array([1, 1])], [WATER, WATER[:2] + 1.0])
    relaxed = Relaxer(PotentialSurrogate(surrogate.model, surrogate.facts), RelaxConfig(fmax=0.01, buckets=1))(only)
    assert relaxed.status == ("broken", "converged")
    assert np.isnan(relaxed.structures.energy[0])
    np.testing.assert_allclose(relaxed.structures.positions[:3], WATER, atol=1e-6)


@pytest.mark.parametrize("change", [{"fmax": 0.0}, {"optimiser": "newton"}, {"max_steps": 0}])
def test_senseless_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        RelaxConfig(**change)  # type: ignore[arg-type]
