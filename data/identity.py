"""Keys that decide whether two samples are the same, for splits, rankings, re-checks and training sets.

Electronic properties do not depend on atom maps, which are mere names of atoms, nor on isotopes. Energies and forces of
a frame do not depend on its orientation, nor on the order of its atoms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rdkit import Chem, rdBase

from data.grouping import one_key
from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lost, each
from data.structures.structures import Structures

#: Resolution of the moments that identify a frame, Angstrom.
SAME_FRAME = 1e-5


def molecule_keys(smiles: Sequence[str]) -> list[str]:
    """Canonical SMILES without atom maps and isotopes; a row that RDKit cannot read stands for itself.

    They are made in a process that may die (`data.processes.parsing`).
    """
    keys = each(molecule_key, smiles)
    return [text if isinstance(key, Lost) else key for text, key in zip(smiles, keys, strict=True)]


def frame_keys(frames: Structures) -> list[str]:
    """A key for each frame, which rotation, translation, reflection and reordering of its atoms do not change.

    The key is made of charge, elements and a few moments of the positions, rounded to `SAME_FRAME`, and of the lengths
    and angles of a periodic cell. A crystal that is described by another cell has another key.
    """
    of, starts, numbers = frames.molecule, frames.atom_start[:-1], frames.numbers.astype(np.float64)

    def sum_by_frame(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=0) if len(starts) else values[:0]

    centre = sum_by_frame(frames.positions) / frames.sizes[:, None]
    away = frames.positions - centre[of]
    squared = (away**2).sum(axis=1)
    mass = sum_by_frame(numbers)
    spread = sum_by_frame(numbers[:, None, None] * away[:, :, None] * away[:, None, :]) / mass[:, None, None]
    lengths = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0.0))
    plain = np.sqrt(sum_by_frame(squared) / frames.sizes)
    far = (sum_by_frame(numbers * squared**2) / mass) ** 0.25
    cell = frames.lattice @ frames.lattice.transpose(0, 2, 1)
    measured = np.concatenate([lengths, plain[:, None], far[:, None], cell.reshape(-1, 9)], axis=1)
    rounded = np.round(measured / SAME_FRAME).astype(np.int64)
    rows = np.concatenate([frames.charge.astype(np.int64)[:, None], rounded], axis=1)
    return [
        one_key(np.sort(frames.numbers[a:b]), row)
        for a, b, row in zip(starts, frames.atom_start[1:], rows, strict=True)
    ]


def molecule_key(text: str) -> str:
    """The key of `molecule_keys` for one molecule, made in this process."""
    with rdBase.BlockLogs():
        return _plain(text)


def _plain(text: str) -> str:
    molecule = parse_smiles(text)
    if molecule is None:
        return text
    # Most molecules have neither, and are done after one pass over their atoms.
    marked = [atom for atom in molecule.GetAtoms() if atom.GetAtomMapNum() or atom.GetIsotope()]
    if not marked:
        return str(Chem.MolToSmiles(molecule))
    for atom in marked:
        atom.SetAtomMapNum(0)
        atom.SetIsotope(0)
    # Deuterium was an atom of the graph and is a hydrogen now; a centre that isotopes alone made chiral is none. Read
    # again, because the order of the atoms that the labels decided shows in the marks of stereochemistry.
    plain = Chem.RemoveHs(molecule)
    Chem.AssignStereochemistry(plain, cleanIt=True, force=True)
    return str(Chem.CanonSmiles(Chem.MolToSmiles(plain)))
