"""Geometries of molecules with several fragments, such as salts and solvates.

Distance geometry would embed all fragments about the same point. Here each fragment is embedded alone and placed beside
the previous ones, in contact by their van der Waals radii (Alvarez, Dalton Trans. 2013, 42, 8617, as RDKit tabulates
them), on the side where the formal charges attract most. A force field with interactions between fragments then relaxes
the geometry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from rdkit.Geometry import Point3D

from data.spec import SimulationError

#: Atoms closer than this fraction of the sum of their covalent radii count as overlapping; the shortest triple bonds,
#: in nitrogen and carbon monoxide, have fractions of 0.77 and 0.79.
CLOSEST = 0.7
#: Number of directions in which a fragment is tried beside the others.
DIRECTIONS = 50


def embed_apart(molecule: Chem.Mol, count: int, parameters: rdDistGeom.EmbedParameters, smiles: str) -> list[int]:
    """Add conformers in which the fragments touch and do not overlap; returns their ids.

    Args:
        molecule: molecule of two or more fragments with hydrogens, to which the conformers are added.
        count: number of conformers.
        parameters: parameters of the embedding of each fragment.
        smiles: SMILES, for errors.

    Raises:
        SimulationError: `not_converged` if a fragment has no geometry.
    """
    rows = [np.array(r) for r in Chem.GetMolFrags(molecule)]
    parts = list(Chem.GetMolFrags(molecule, asMols=True))
    # The largest fragment is placed first, and the others around it.
    order = sorted(range(len(parts)), key=lambda i: -len(rows[i]))
    coordinates = [_embedded(part, count, parameters, smiles) for part in parts]
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRvdw(atom.GetAtomicNum()) for atom in molecule.GetAtoms()])
    charges = np.array([atom.GetFormalCharge() for atom in molecule.GetAtoms()], float)
    molecule.RemoveAllConformers()
    numbers = []
    for k in range(count):
        positions = np.zeros((molecule.GetNumAtoms(), 3))
        placed = np.zeros(0, int)
        for i in order:
            shape = coordinates[i][k % len(coordinates[i])]
            positions[rows[i]] = shape - shape.mean(axis=0)
            if len(placed):
                turn = np.random.default_rng([parameters.randomSeed, k, i])
                positions[rows[i]] += _place(positions, placed, rows[i], radii, charges, turn if k else None)
            placed = np.concatenate([placed, rows[i]])
        conformer = Chem.Conformer(molecule.GetNumAtoms())
        for atom, place in enumerate(positions.tolist()):
            conformer.SetAtomPosition(atom, Point3D(*place))
        numbers.append(int(molecule.AddConformer(conformer, assignId=True)))
    return numbers


def refuse_contacts(numbers: Int[np.ndarray, " atom"], positions: Float[np.ndarray, "atom 3"], smiles: str) -> None:
    """Refuse a geometry with overlapping atoms.

    Raises:
        SimulationError: `not_converged`; names the closest pair.
    """
    if len(numbers) < 2:
        return
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(int(z)) for z in numbers])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    share = distance / (radii[:, None] + radii[None])
    share[np.diag_indices(len(numbers))] = np.inf
    first, second = np.unravel_index(int(np.argmin(share)), share.shape)
    if share[first, second] < CLOSEST:
        symbols = [table.GetElementSymbol(int(numbers[i])) for i in (first, second)]
        raise SimulationError(
            "not_converged",
            f"{smiles!r}: atoms {first} ({symbols[0]}) and {second} ({symbols[1]}) of its geometry are "
            f"{distance[first, second]:.2f} Angstrom apart, {share[first, second]:.2f} of their covalent radii",
        )


def _embedded(
    part: Chem.Mol, count: int, parameters: rdDistGeom.EmbedParameters, smiles: str
) -> list[Float[np.ndarray, "atom 3"]]:
    if part.GetNumAtoms() == 1:
        return [np.zeros((1, 3))]
    numbers = list(rdDistGeom.EmbedMultipleConfs(part, count, parameters))
    if not numbers:
        name = Chem.MolToSmiles(Chem.RemoveHs(part))
        raise SimulationError("not_converged", f"{smiles!r}: ETKDGv3 finds no geometry for its part {name}")
    return [np.asarray(part.GetConformer(n).GetPositions(), np.float64) for n in numbers]


def _place(
    positions: Float[np.ndarray, "atom 3"],
    placed: Int[np.ndarray, " fixed"],
    rows: Int[np.ndarray, " moved"],
    radii: Float[np.ndarray, " atom"],
    charges: Float[np.ndarray, " atom"],
    turn: np.random.Generator | None,
) -> Float[np.ndarray, " 3"]:
    """The shift that places a fragment beside the others, in the direction of lowest Coulomb energy or a random one."""
    centre = positions[placed].mean(axis=0)
    best, least = np.zeros(3), np.inf
    for direction in _sphere(DIRECTIONS) if turn is None else [_random_direction(turn)]:
        shift = centre + direction * _contact(
            positions[placed] - centre, positions[rows], direction, radii[placed], radii[rows]
        )
        away = np.linalg.norm(positions[placed][:, None] - (positions[rows] + shift)[None], axis=-1)
        energy = float((charges[placed][:, None] * charges[rows][None] / away).sum())
        if energy < least - 1e-12:
            best, least = shift, energy
    return best


def _contact(
    fixed: Float[np.ndarray, "fixed 3"],
    moved: Float[np.ndarray, "moved 3"],
    direction: Float[np.ndarray, " 3"],
    radii_fixed: Float[np.ndarray, " fixed"],
    radii_moved: Float[np.ndarray, " moved"],
) -> float:
    """Shortest distance along a direction at which no two van der Waals spheres of the fragments overlap, Angstrom."""
    between = moved[None] - fixed[:, None]
    along = between @ direction
    across = (between**2).sum(-1) - along**2
    reach = (radii_fixed[:, None] + radii_moved[None]) ** 2 - across
    # |between + t direction| = r has its larger root at -along + sqrt(r^2 - across).
    return float(np.max(np.where(reach > 0, -along + np.sqrt(np.maximum(reach, 0)), 0.0)))


def _sphere(count: int) -> Sequence[Float[np.ndarray, " 3"]]:
    """Unit vectors spread evenly over the sphere by the golden angle."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    width = np.sqrt(1 - height**2)
    return list(np.stack([width * np.cos(angle), width * np.sin(angle), height], axis=1))


def _random_direction(turn: np.random.Generator) -> Float[np.ndarray, " 3"]:
    vector = turn.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))
