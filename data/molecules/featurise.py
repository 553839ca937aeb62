"""Turns SMILES into compact molecular graphs: a few bytes for each atom and bond, many molecules in one table.

RDKit parses and sanitises. Its result is read with four calls for each molecule, whatever its size, because one Python
call for each atom would cost more than the parsing. Atoms are read once for each distinct atom invariant of a batch
(Rogers & Hahn 2010, https://doi.org/10.1021/ci100050t: element, degree, hydrogens, charge, isotope, ring membership),
bonds from the bond-order matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from rdkit import Chem, rdBase
from rdkit.Chem.rdMolDescriptors import GetConnectivityInvariants

from data.molecules.graph_tables import (
    ATOM_COLUMNS,
    BOND_COLUMNS,
    BOND_ORDERS,
    CHARGE_ZERO,
    MAX_ATOMS,
    MAX_BONDS,
    GraphTable,
    empty_table,
    row_starts,
)
from data.molecules.smiles import parse_smiles, text_refusal
from data.processes import row_watch

#: Molecules that are held as RDKit objects at a time.
CHUNK = 4096
#: Pairs of atoms of one molecule, over all molecules that are held at a time: 16 bytes each.
CHUNK_PAIRS = 1 << 23


_CHIRALITY = {"R": 1, "S": 2}
_STEREO = {"STEREOE": 1, "STEREOZ": 2}


def encode(smiles: Sequence[str], rows: Sequence[int] | None = None) -> tuple[GraphTable, list[tuple[int, str]]]:
    """Parse and featurise SMILES; those that RDKit refuses are returned with the reason, not raised.

    The graph does not depend on how a SMILES is written, except for the order of its atoms. SMILES that come from
    somewhere else go through `data.molecules.foreign.encode`, which does this in a process that may die.

    Args:
        smiles: one molecule each; may have several fragments.
        rows: number under which `row_watch` reports each; None for its index in `smiles`.

    Returns:
        The molecules that can be read, with `source_index` into `smiles`; and (index, reason) of the others.
    """
    tables: list[GraphTable] = []
    rejects: list[tuple[int, str]] = []
    first = 0
    while first < len(smiles) or not tables:
        table, bad, first = _encode_chunk(smiles, first, rows)
        tables.append(table)
        rejects += bad
    return (tables[0] if len(tables) == 1 else GraphTable.concat(tables)), rejects


def _encode_chunk(
    smiles: Sequence[str], first: int, rows: Sequence[int] | None
) -> tuple[GraphTable, list[tuple[int, str]], int]:
    """Some molecules from `first` on, those that are refused, and where the next chunk begins."""
    molecules: list[Chem.Mol] = []
    index: list[int] = []
    rejects: list[tuple[int, str]] = []
    orders: list[Float[np.ndarray, "n n"]] = []
    invariants: list[Sequence[int]] = []
    rings: list[tuple[tuple[int, ...], ...]] = []
    stereo: list[int] = []
    bond_counts: list[int] = []
    matrix = Chem.GetAdjacencyMatrix
    room, i = CHUNK_PAIRS, first
    with rdBase.BlockLogs():
        while i < len(smiles) and len(molecules) < CHUNK and room > 0:
            row_watch.begin(i if rows is None else rows[i])
            text, i = smiles[i], i + 1
            molecule = parse_smiles(text) if isinstance(text, str) else None
            if molecule is None or not 0 < molecule.GetNumAtoms() <= MAX_ATOMS or "*" in text:
                rejects.append((i - 1, reject_reason(text)))
                continue
            count = molecule.GetNumBonds()
            if count > MAX_BONDS:
                rejects.append((i - 1, f"{count} bonds; at most {MAX_BONDS} are supported"))
                continue
            invariants.append(GetConnectivityInvariants(molecule))
            rings.append(molecule.GetRingInfo().AtomRings())
            if "@" in text or "/" in text or "\\" in text:
                stereo.append(len(molecules))
            orders.append(matrix(molecule, True))
            room -= len(orders[-1]) ** 2
            bond_counts.append(count)
            molecules.append(molecule)
            index.append(i - 1)
    row_watch.begin()
    if not molecules:
        return empty_table(), rejects, i
    return _table(molecules, index, bond_counts, orders, invariants, rings, stereo), rejects, i


def _table(
    molecules: list[Chem.Mol],
    index: list[int],
    bond_counts: list[int],
    orders: list[Float[np.ndarray, "n n"]],
    invariants: list[Sequence[int]],
    rings: list[tuple[tuple[int, ...], ...]],
    stereo: list[int],
) -> GraphTable:
    counts = np.fromiter(map(len, orders), np.int64, len(orders))
    start, square = row_starts(counts), row_starts(counts * counts)
    flat, where, owner = _bonded_pairs(orders, square)
    # Dative bonds count on one side only and bonds of order zero on neither: read those molecules again.
    lacking = np.flatnonzero(np.bincount(owner, minlength=len(counts)) != 2 * np.asarray(bond_counts))
    if len(lacking):
        for row in lacking.tolist():
            orders[row] = _all_bonds(molecules[row], orders[row])
        flat, where, owner = _bonded_pairs(orders, square)

    # Each bond once, i < j, in the order of the matrix.
    i, j = np.divmod(where - square[owner], counts[owner])
    upper = i < j
    where, owner, i, j = where[upper], owner[upper], i[upper], j[upper]
    bonds = np.zeros((len(where), len(BOND_COLUMNS)), np.uint8)
    bonds[:, 0] = _order_code(flat[where])
    bonds[:, 1] = _smallest_rings(rings, counts, square, where)

    atoms = np.empty((start[-1], len(ATOM_COLUMNS)), np.uint8)
    ends = np.concatenate([start[owner] + i, start[owner] + j])
    atoms[:, 6] = np.bincount(ends, minlength=start[-1])
    atoms[:, :4] = _read_atoms(molecules, start, invariants, atoms[:, 6])
    both = np.concatenate([bonds, bonds])
    ring = np.full(start[-1], 255, np.uint8)
    np.minimum.at(ring, ends, np.where(both[:, 1] == 0, 255, both[:, 1]).astype(np.uint8))
    atoms[:, 4] = np.bincount(ends[both[:, 0] == 4], minlength=start[-1]) > 0
    atoms[:, 5] = np.where(ring == 255, 0, ring)
    atoms[:, 7] = np.bincount(ends[both[:, 1] > 0], minlength=start[-1])
    unsaturated = np.bincount(ends[both[:, 0] > 1], minlength=start[-1]) > 0
    half = len(where)
    bonds[:, 3] = unsaturated[ends[:half]] & unsaturated[ends[half:]]
    bond_start = row_starts(np.asarray(bond_counts))
    pairs = np.stack([i, j], axis=1).astype(np.uint8)
    for row in stereo:
        _read_stereo(
            molecules[row],
            atoms[start[row] : start[row + 1]],
            bonds[bond_start[row] : bond_start[row + 1]],
            pairs[bond_start[row] : bond_start[row + 1]],
        )
    return GraphTable(start, bond_start, atoms, bonds, pairs, np.asarray(index, np.int64))


def _order_code(orders: Float[np.ndarray, " bond"]) -> UInt8[np.ndarray, " bond"]:
    codes = np.zeros(9, np.uint8)
    for code, order in enumerate(BOND_ORDERS):
        codes[int(2 * order)] = code
    return codes[np.clip(2 * orders, 0, 8).astype(np.int64)]


def _read_atoms(
    molecules: list[Chem.Mol],
    start: Int[np.ndarray, " molecule_plus_one"],
    invariants: list[Sequence[int]],
    degree: UInt8[np.ndarray, " atom"],
) -> UInt8[np.ndarray, "atom 4"]:
    """Element, hydrogens and charge of every atom, asked of RDKit once for each distinct invariant and degree.

    The invariant does not distinguish a hydrogen that is an atom of the graph from an implicit one; the degree does.
    """
    flat = np.fromiter(chain.from_iterable(invariants), np.int64, start[-1]) * 256 + degree
    _, example, kind = np.unique(flat, return_index=True, return_inverse=True)
    owner = np.searchsorted(start, example, side="right") - 1
    read = np.zeros((len(example), 4), np.uint8)
    for row, (molecule, atom) in enumerate(zip(owner.tolist(), (example - start[owner]).tolist(), strict=True)):
        rdkit_atom = molecules[molecule].GetAtomWithIdx(atom)
        read[row, :3] = (
            rdkit_atom.GetAtomicNum(),
            rdkit_atom.GetTotalNumHs(),
            rdkit_atom.GetFormalCharge() + CHARGE_ZERO,
        )
    return read[kind]


def _smallest_rings(
    rings: list[tuple[tuple[int, ...], ...]],
    counts: Int[np.ndarray, " molecule"],
    square: Int[np.ndarray, " molecule_plus_one"],
    where: Int[np.ndarray, " bond"],
) -> UInt8[np.ndarray, " bond"]:
    """Size of the smallest ring through each bond (at most 254), 0 for none.

    It is the same for every smallest set of rings of a molecule: the shortest ring through a bond is a
    sum of rings of the set that are no longer than it, and one of those goes through the bond.
    """
    per_molecule = np.fromiter(map(len, rings), np.int64, len(rings))
    all_rings = list(chain.from_iterable(rings))
    if not all_rings:
        return np.zeros(len(where), np.uint8)
    sizes = np.fromiter(map(len, all_rings), np.int64, len(all_rings))
    start = row_starts(sizes)
    a = np.fromiter(chain.from_iterable(all_rings), np.int64, start[-1])
    following = np.arange(1, start[-1] + 1)
    following[start[1:] - 1] = start[:-1]
    b = a[following]
    owner = np.repeat(np.repeat(np.arange(len(rings)), per_molecule), sizes)
    place = square[owner] + np.minimum(a, b) * counts[owner] + np.maximum(a, b)
    smallest = np.full(square[-1], 255, np.uint8)
    # Larger rings first, so that the smaller overwrite them.
    size = np.minimum(np.repeat(sizes, sizes), 254)
    order = np.argsort(-size, kind="stable")
    smallest[place[order]] = size[order]
    ring = smallest[where]
    return np.where(ring == 255, 0, ring).astype(np.uint8)


def _read_stereo(
    molecule: Chem.Mol,
    atoms: UInt8[np.ndarray, "atom 8"],
    bonds: UInt8[np.ndarray, "bond 4"],
    pairs: UInt8[np.ndarray, "bond 2"],
) -> None:
    """CIP labels, which unlike RDKit's chiral tags do not depend on the order of the neighbours."""
    for atom in molecule.GetAtoms():
        if atom.HasProp("_CIPCode"):
            atoms[atom.GetIdx(), 3] = _CHIRALITY.get(atom.GetProp("_CIPCode"), 0)
    for bond in molecule.GetBonds():
        code = _STEREO.get(str(bond.GetStereo()), 0)
        if code:
            ends = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            bonds[(pairs == ends).all(axis=1), 2] = code


def _bonded_pairs(
    orders: list[Float[np.ndarray, "n n"]], square: Int[np.ndarray, " molecule_plus_one"]
) -> tuple[Float[np.ndarray, " pair"], Int[np.ndarray, " bonded"], Int[np.ndarray, " bonded"]]:
    """All matrices end to end, where they are not zero, and the molecule of each such place."""
    flat = np.concatenate([order.ravel() for order in orders])
    where = np.flatnonzero(flat)
    return flat, where, np.searchsorted(square, where, side="right") - 1


def _all_bonds(molecule: Chem.Mol, order: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The bond-order matrix with -1 for bonds that count as zero on either side."""
    order = order.copy()
    for bond in molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if not order[i, j] or not order[j, i]:
            order[i, j] = order[j, i] = -1.0
    return order


def reject_reason(text: object) -> str:
    """Why `encode` refuses a SMILES, in one line for people."""
    if not isinstance(text, str):
        return f"not text but {type(text).__name__}"
    if not text.strip():
        return "empty"
    if refusal := text_refusal(text):
        return refusal
    parameters: Any = Chem.SmilesParserParams()
    parameters.sanitize = False
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text, parameters)
        if molecule is None:
            return "not a SMILES: syntax error"
        problems = Chem.DetectChemistryProblems(molecule)
    if problems:
        return str(problems[0].Message()).strip().replace("\n", " ")
    count = molecule.GetNumAtoms()
    if not count:
        return "no atoms"
    if count > MAX_ATOMS:
        return f"{count} atoms; at most {MAX_ATOMS} are supported"
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        return "has a dummy atom (*), which is no element"
    return "RDKit cannot sanitise it"
