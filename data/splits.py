"""Parts of a data set: random, by Bemis-Murcko scaffold, by size. A molecule is never in two parts.

Rows of the same molecule (`data.identity`) stay together, so that no test molecule was trained on under another
SMILES, as another isotopologue or with numbered atoms. Scaffolds: Bemis and Murcko, J. Med. Chem. 1996, 39, 2887.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from rdkit import Chem, rdBase
from rdkit.Chem.Scaffolds import MurckoScaffold

from data.errors import InputError
from data.files import write_json
from data.identity import molecule_keys
from data.json_files import read_plain, reading
from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lost, each

Parts = Mapping[str, float | int]


@dataclass(frozen=True)
class Split:
    """Row indices by name of part, disjoint, in the order of the parts.

    Attributes:
        parts: name -> rows.
    """

    parts: Mapping[str, Int[np.ndarray, " row"]]

    @staticmethod
    def of(parts: Mapping[str, Sequence[int] | Int[np.ndarray, " row"]]) -> Split:
        """A split from rows that were chosen elsewhere.

        Raises:
            ValueError: a row is in two parts, or below 0.
        """
        arrays = {name: np.asarray(rows, np.int64) for name, rows in parts.items()}
        together = np.concatenate(list(arrays.values())) if arrays else np.zeros(0, np.int64)
        if (together < 0).any():
            raise ValueError("a row is below 0")
        if len(np.unique(together)) < len(together):
            raise ValueError("a row is in two parts")
        return Split(arrays)

    def __getitem__(self, name: str) -> Int[np.ndarray, " row"]:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def save(self, path: Path) -> None:
        """Write JSON, atomically."""
        write_json(path, {name: rows.tolist() for name, rows in self.parts.items()}, indent=None)

    @staticmethod
    def load(path: Path) -> Split:
        """What `save` wrote.

        Raises:
            CorruptStoreError: the file is not one.
        """
        rows = read_plain(path, dict[str, list[int]], remedy="Make it again")
        with reading(path, remedy="Make it again"):
            return Split.of(rows)


def canonical(smiles: Sequence[str]) -> list[str]:
    """Canonical SMILES; a row that RDKit cannot read stands for itself."""
    forms = each(canonical_form, smiles)
    return [text if isinstance(form, Lost) else form for text, form in zip(smiles, forms, strict=True)]


def canonical_form(text: str) -> str:
    """The canonical form of one SMILES, computed in the calling process."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(text)
        return text if molecule is None else str(Chem.MolToSmiles(molecule))


def scaffold(smiles: str) -> str:
    """SMILES of the Bemis-Murcko scaffold without stereo; empty for a molecule without rings."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(smiles)
        return "" if molecule is None else MurckoScaffold.MurckoScaffoldSmiles(mol=molecule, includeChirality=False)


def heavy_atoms(smiles: str) -> int:
    """Atoms other than hydrogen; 0 for what RDKit cannot read."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(smiles)
        return 0 if molecule is None else int(molecule.GetNumHeavyAtoms())


def counts(parts: Parts, total: int) -> dict[str, int]:
    """Rows of each part; fractions (floats up to 1) of the total and counts may be mixed.

    Fractions that sum to 1 use every row: what rounding leaves over goes to the first part.

    Raises:
        InputError: they are negative, or ask for more rows than there are.
    """
    if any(value < 0 for value in parts.values()):
        raise InputError(f"parts must not be negative, got {dict(parts)}", where="data.parts")
    sizes = {n: int(v * total + 1e-9) if isinstance(v, float) and v <= 1 else int(v) for n, v in parts.items()}
    fractions = [v for v in parts.values() if isinstance(v, float) and v <= 1]
    if len(fractions) == len(parts) and abs(sum(fractions) - 1) < 1e-9:
        first = next(iter(sizes))
        sizes[first] += total - sum(sizes.values())
    if sum(sizes.values()) > total:
        raise InputError(f"{sum(sizes.values())} rows are asked for, {total} are there", where="data.parts")
    return sizes


def random_split(smiles: Sequence[str], parts: Parts, *, seed: int = 0) -> Split:
    """Split molecules at random.

    Args:
        smiles: one a row; rows of the same molecule stay together.
        parts: name -> fraction of the rows, or count.
        seed: seed of the order.
    """
    return split_by_key(molecule_keys(smiles), parts, seed=seed)


def split_by_key(keys: Sequence[str], parts: Parts, *, seed: int = 0) -> Split:
    """Split rows at random, with those of the same key in one part.

    Args:
        keys: one a row.
        parts: name -> fraction of the rows, or count.
        seed: seed of the order.
    """
    groups = _group_rows(keys)
    order = np.random.default_rng(seed).permutation(len(groups))
    return _fill([groups[i] for i in order], parts, len(keys))


def scaffold_split(smiles: Sequence[str], parts: Parts, *, seed: int = 0) -> Split:
    """Split by scaffold: the parts share none.

    Common scaffolds fill the parts in their order, the first one first (as in MoleculeNet, Wu et al. 2018);
    the seed decides among scaffolds of the same size. Acyclic molecules, which have no scaffold, go one by one.
    """
    names = molecule_keys(smiles)
    # A molecule whose scaffold no process could find is a scaffold of its own.
    rings = ["" if isinstance(skeleton, Lost) else skeleton for skeleton in each(scaffold, names)]
    keys = [ring or f"acyclic {name}" for ring, name in zip(rings, names, strict=True)]
    groups = _group_rows(keys)
    shuffle = np.random.default_rng(seed).permutation(len(groups))
    ordered = sorted((groups[i] for i in shuffle), key=len, reverse=True)
    return _fill(ordered, parts, len(smiles))


def size_split(smiles: Sequence[str], parts: Parts, *, seed: int = 0) -> Split:
    """Split by number of heavy atoms, the smallest molecules first: the last part tests extrapolation."""
    groups = _group_rows(molecule_keys(smiles))
    sizes = [0 if isinstance(n, Lost) else n for n in each(heavy_atoms, [smiles[rows[0]] for rows in groups])]
    shuffle = np.random.default_rng(seed).permutation(len(groups))
    ordered = sorted(shuffle.tolist(), key=lambda i: sizes[i])
    return _fill([groups[i] for i in ordered], parts, len(smiles))


def _group_rows(keys: Sequence[str]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _fill(groups: Sequence[Sequence[int]], parts: Parts, total: int) -> Split:
    """Groups into parts, each filled before the next; one that does not fit goes to the next with room."""
    sizes = counts(parts, total)
    members: dict[str, list[int]] = {name: [] for name in sizes}
    for group in groups:
        for name, size in sizes.items():
            if len(members[name]) + len(group) <= size:
                members[name].extend(group)
                break
        else:
            # Where a group fits nowhere whole, the part with the most room takes it, so that no row is lost.
            roomiest = max(sizes, key=lambda n: sizes[n] - len(members[n]))
            if sizes[roomiest] - len(members[roomiest]) > 0:
                members[roomiest].extend(group)
    return Split.of({name: np.sort(np.array(rows, np.int64)) for name, rows in members.items()})
