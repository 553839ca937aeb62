"""Frames of malonaldehyde along its proton transfer, labelled by GFN2-xTB.

Nine tenths of the pool are thermal, with the proton at one oxygen, and one tenth is a scan: dynamics that a harmonic
bias holds at evenly spaced values of the transfer coordinate, the difference of the two O-H distances. The test frames
come from another such scan.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from jaxtyping import Int

if TYPE_CHECKING:
    from data.structures.structures import Structures

#: Regions of the transfer coordinate, Angstrom.
STEPS = ((-1.0, -0.6), (-0.6, -0.2), (-0.2, 0.2), (0.2, 0.6), (0.6, 1.0))
TEMPERATURE_KELVIN, TIMESTEP_FS, FRICTION_PER_FS = 300.0, 0.5, 0.02
#: Force constant of the bias, eV/Angstrom^2.
BIAS = 20.0


class Biased(Calculator):
    """Another calculator with a harmonic bias on the difference of two distances."""

    implemented_properties = ("energy", "forces")

    def __init__(self, calculator: Calculator, atoms: tuple[int, int, int], centre: float) -> None:
        super().__init__()
        self.calculator, self.atoms_of_transfer, self.centre = calculator, atoms, centre

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = tuple(all_changes)
    ) -> None:
        """Energy (eV) and forces (eV/Angstrom) with the bias."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        donor, proton, acceptor = self.atoms_of_transfer
        x = self.atoms.positions
        first, second = x[proton] - x[donor], x[proton] - x[acceptor]
        near, far = np.linalg.norm(first), np.linalg.norm(second)
        pull = BIAS * (near - far - self.centre)
        forces = np.array(self.calculator.get_forces(self.atoms))
        forces[proton] -= pull * (first / near - second / far)
        forces[donor] += pull * first / near
        forces[acceptor] -= pull * second / far
        energy = self.calculator.get_potential_energy(self.atoms)
        self.results = {"energy": energy + 0.5 * pull**2 / BIAS, "forces": forces}


def enol(seed: int) -> tuple[Atoms, tuple[int, int, int]]:
    """Relaxed malonaldehyde with its hydrogen bond closed, and the indices of donor, proton and acceptor."""
    from ase.optimize import BFGS

    from simulators.chemistry.conformers import ConformerConfig, embed

    geometry = embed("O/C=C\\C=O", ConformerConfig(n_conformers=8, seed=seed)).geometry
    atoms = Atoms(geometry.numbers, geometry.positions, calculator=xtb())
    oxygens = np.flatnonzero(geometry.numbers == 8)
    hydrogens = np.flatnonzero(geometry.numbers == 1)
    far = atoms.get_all_distances()[np.ix_(oxygens, hydrogens)]
    donor, acceptor = oxygens[far.min(axis=1).argsort()]
    proton = int(hydrogens[atoms.get_all_distances()[donor, hydrogens].argmin()])
    # The bias closes the ring where the embedded conformer is open.
    atoms.calc = Biased(xtb(), (int(donor), proton, int(acceptor)), -0.6)
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=400)
    return atoms, (int(donor), proton, int(acceptor))


def xtb() -> Calculator:
    """GFN2-xTB."""
    from tblite.ase import TBLite

    return TBLite(method="GFN2-xTB", verbosity=0)


def trajectory(atoms: Atoms, frames: int, every: int, seed: int) -> list[np.ndarray]:
    """Positions of a Langevin trajectory, without its first 250 steps."""
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE_KELVIN, rng=rng)
    dynamics = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=TEMPERATURE_KELVIN,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(250)
    positions = []
    for _ in range(frames):
        dynamics.run(every)
        positions.append(atoms.positions.copy())
    return positions


def scan(atoms: Atoms, transfer: tuple[int, int, int], frames: int, seed: int) -> list[np.ndarray]:
    """Positions of as many frames in each region of the transfer coordinate."""
    positions: list[np.ndarray] = []
    for number, (low, high) in enumerate(STEPS):
        atoms.calc = Biased(xtb(), transfer, 0.5 * (low + high))
        positions += trajectory(atoms, frames, 20, seed + number)
    return positions


def labelled_frames(
    folder: Path, thermal: int = 720, scanned: int = 16, test: int = 40
) -> tuple[Structures, Structures, Int[np.ndarray, " T"]]:
    """Pool, test frames and the region of each test frame; computed once and kept in `folder`.

    Args:
        folder: keeps the frames.
        thermal: thermal frames of the pool.
        scanned: frames of the pool in each region.
        test: test frames of each region.
    """
    from data.structures.structures import Structures
    from experiments.active.results import write_frames
    from surrogates.potentials.structure_reading import read_structures

    files = folder / "pool.xyz", folder / "test.xyz"
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        atoms, transfer = enol(0)
        atoms.calc = xtb()
        pool = trajectory(atoms, thermal, 20, 1) + scan(atoms.copy(), transfer, scanned, 100)
        single = Atoms(atoms.numbers, calculator=xtb())
        for file, positions in zip(files, (pool, scan(atoms.copy(), transfer, test, 10)), strict=True):
            energies, forces = [], []
            for x in positions:
                single.positions = x
                energies.append(float(single.get_potential_energy()))
                forces.append(single.get_forces().copy())
            write_frames(Structures.from_arrays([atoms.numbers] * len(positions), positions, energies, forces), file)
    tables = [read_structures(file, None) for file in files]
    return tables[0], tables[1], np.repeat(np.arange(len(STEPS)), test)
