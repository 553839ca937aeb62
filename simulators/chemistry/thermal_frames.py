"""Geometries of molecules in thermal motion: conformers of a SMILES, each moved by Langevin dynamics of a force field.

A force field costs microseconds a step, where a simulator costs milliseconds or more, so that geometries with bent and
stretched bonds and turned torsions cost little beside their labels. Its energies are not used. RDKit's ETKDGv3 embeds
the conformers, MMFF94 or else UFF relaxes and moves them (see `conformers` for the sources), and the equations of
motion are integrated by BAOAB (Leimkuhler and Matthews 2013, doi:10.1093/amrx/abs010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from ase.data import atomic_masses
from ase.units import fs, kB, kcal, mol
from jaxtyping import Float
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from data.molecules.featurise import reject_reason
from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lane, Lost, RowLimits, each
from data.spec import SimulationError
from simulators.chemistry.variables import Geometry

#: Energy unit of RDKit's force fields, eV.
KCAL = kcal / mol
#: Limit of processor time for the geometries of one molecule, s.
MOLECULE_SECONDS = 120.0
#: Iterations of the relaxation before the dynamics; a geometry near a minimum is enough.
RELAXATION = 200


@dataclass(frozen=True)
class ThermalConfig:
    """How geometries of a molecule are drawn.

    Attributes:
        frames: number of geometries, each the end of a trajectory from a conformer of its own.
        temperatures_kelvin: temperatures, one of which is drawn for each trajectory.
        steps: steps of a trajectory.
        timestep_fs: length of a step.
        friction_per_fs: friction of the Langevin equation.
        seed: seed of conformers, temperatures and motion, together with the SMILES.

    Raises:
        ValueError: a count, temperature, step or friction is not above 0, or the seed is below 0.
    """

    frames: int = 4
    temperatures_kelvin: tuple[float, ...] = (300.0, 600.0, 1000.0)
    steps: int = 200
    timestep_fs: float = 1.0
    friction_per_fs: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures_kelvin", tuple(self.temperatures_kelvin))
        positive = (self.frames, self.steps, self.timestep_fs, self.friction_per_fs, *self.temperatures_kelvin)
        if not self.temperatures_kelvin or not all(0 < value < np.inf for value in positive):
            raise ValueError(f"counts, temperatures, steps and friction must be above 0 and finite, got {self}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


def thermal_frames(smiles: str, config: ThermalConfig) -> list[Geometry]:
    """Geometries of a molecule in thermal motion; the same SMILES and settings give the same ones.

    Raises:
        SimulationError: `invalid_input` if the SMILES cannot be read or no force field knows its atoms;
            `not_converged` if no geometry can be embedded, or a trajectory left the numbers that are finite.
    """
    with rdBase.BlockLogs():
        molecule = parse_smiles(smiles)
        if molecule is None or not molecule.GetNumAtoms() or "*" in smiles:
            raise SimulationError("invalid_input", f"{smiles!r}: {reject_reason(smiles)}")
        charge = Chem.GetFormalCharge(molecule)
        spin = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        # The canonical order of atoms gives equal molecules equal geometries.
        canonical = Chem.MolToSmiles(molecule)
        molecule = Chem.AddHs(Chem.MolFromSmiles(canonical))
        random = np.random.default_rng([config.seed, *canonical.encode()])
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed = int(random.integers(1, 1 << 30))
        conformers = list(rdDistGeom.EmbedMultipleConfs(molecule, config.frames, parameters))
        if not conformers:
            raise SimulationError("not_converged", f"{smiles!r}: ETKDGv3 finds no geometry for it")
        numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.int32)
        geometries = []
        for frame in range(config.frames):
            field = _force_field(molecule, conformers[frame % len(conformers)], smiles)
            field.Initialize()
            field.Minimize(maxIts=RELAXATION)
            temperature = float(random.choice(config.temperatures_kelvin))
            positions = _trajectory(field, atomic_masses[numbers], temperature, config, random)
            if not np.isfinite(positions).all():
                raise SimulationError("not_converged", f"{smiles!r}: its dynamics left the finite numbers")
            geometries.append(Geometry(numbers, positions, charge, spin))
        return geometries


def thermal_frames_foreign(smiles: Sequence[str], config: ThermalConfig) -> list[list[Geometry] | str]:
    """The geometries of `thermal_frames` for each molecule, or the reason why there are none.

    They are made in a process that a crash or a hang of RDKit may end (`data.processes.parsing`).
    """
    lane = Lane(RowLimits(MOLECULE_SECONDS), modules=(__name__,))
    try:
        answers = each(partial(_frames_or_reason, config=config), smiles, lane=lane)
    finally:
        lane.stop()
    return [answer.reason if isinstance(answer, Lost) else answer for answer in answers]


def _frames_or_reason(smiles: str, config: ThermalConfig) -> list[Geometry] | str:
    try:
        return thermal_frames(smiles, config)
    except SimulationError as error:
        return error.message


def _force_field(molecule: Chem.Mol, conformer: int, smiles: str) -> Any:
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
        return rdForceFieldHelpers.MMFFGetMoleculeForceField(molecule, properties, confId=conformer)
    if rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        return rdForceFieldHelpers.UFFGetMoleculeForceField(molecule, confId=conformer)
    raise SimulationError("invalid_input", f"{smiles!r}: neither MMFF94 nor UFF has parameters for its atoms")


def _trajectory(
    field: Any,
    masses: Float[np.ndarray, " atom"],
    temperature_kelvin: float,
    config: ThermalConfig,
    random: np.random.Generator,
) -> Float[np.ndarray, "atom 3"]:
    """Positions (Angstrom) at the end of a trajectory from the positions of the force field."""

    def acceleration(x: np.ndarray) -> np.ndarray:
        # A force field keeps the distances of the first positions that it was asked for until it is initialised.
        field.Initialize()
        return -KCAL * np.asarray(field.CalcGrad(x.ravel().tolist())).reshape(-1, 3) / mass

    mass, step = masses[:, None], config.timestep_fs * fs
    spread = np.sqrt(kB * temperature_kelvin / mass)
    kept = np.exp(-config.friction_per_fs * config.timestep_fs)
    x = np.asarray(field.Positions(), np.float64).reshape(-1, 3)
    v = spread * random.normal(size=x.shape)
    a = acceleration(x)
    for _ in range(config.steps):
        v = v + 0.5 * step * a
        x = x + 0.5 * step * v
        v = kept * v + np.sqrt(1.0 - kept**2) * spread * random.normal(size=x.shape)
        x = x + 0.5 * step * v
        a = acceleration(x)
        v = v + 0.5 * step * a
    return x
