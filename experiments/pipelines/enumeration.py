"""A library of candidate molecules, enumerated: ring systems of up to 8 atoms and what can hang on them.

Scaffolds are carbocycles with some atoms replaced by N and O and some bonds made double; substituents are
acyclic groups. Since every molecule has one ring system, two different decorations of scaffolds that no
symmetry maps onto each other are two different molecules; canonical SMILES check that all the same.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from rdkit import Chem, rdBase

from data.errors import InputError
from data.formats.rows import atomic_text
from data.processes.descendants import end_with_parent
from data.terminal import progress_bar

#: Number of heavy atoms of the largest molecule.
MOST_ATOMS = 9
#: Carbon skeletons: single rings, fused, bridged and spiro pairs.
SKELETONS = (
    *("C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1", "C1CCCCCC1"),
    *("C1CC2CC12", "C1CC2CC2C1", "C1CC2CCC12", "C1CCC2CC2C1", "C1CC2CCC2C1", "C1CC2CCCC2C1", "C1CCC2CCC2C1"),
    *("C1C2CC1C2", "C1CC2CC1C2", "C1CC2CCC1C2", "C1CC2CC(C1)C2", "C1CC2CCC1CC2", "C1CC2CCC(C1)C2"),
    *("C1CC12CC2", "C1CC12CCC2", "C1CC12CCCC2", "C1CCC12CCC2", "C1CCC12CCCC2", "C1CC12CCCCC2"),
)
#: Bridged pairs too tight for a double bond.
TIGHT = ("C1C2CC1C2", "C1CC2CC1C2", "C1CC2CC(C1)C2")
#: Groups by number of heavy atoms, as SMILES that begin at the atom of attachment.
GROUPS: dict[int, tuple[str, ...]] = {
    1: ("C", "N", "O", "F", "Cl"),
    2: ("CC", "C=C", "C#C", "C#N", "C=O", "CO", "CN", "CF", "CCl", "OC", "NC"),
    3: (
        *("CCC", "C(C)C", "CC=C", "C=CC", "CC#C", "C#CC", "CC#N", "CCO", "CCN", "CCF", "COC", "CNC", "C(F)F"),
        *("C(C)=O", "C(=O)O", "C(N)=O", "C(C)=C", "C(C)O", "CC=O", "OCC", "OC=O", "NCC", "NC=O", "N(C)C", "C=NO"),
    ),
    4: (
        *("CCCC", "CC(C)C", "C(C)(C)C", "C(F)(F)F", "CC(F)F", "C(=O)CC", "CC(C)=O", "C(=O)OC", "C(=O)NC"),
        *("CC(=O)O", "CC(N)=O", "OC(C)=O", "NC(C)=O", "OC(F)F", "NC(N)=O", "N(C)C=O", "CCC#N", "CC#CC", "C#CCO"),
        *("CCOC", "COCC", "CCCO", "CCCN", "CCCF", "CN(C)C", "C=CC#N", "C=CC=O", "OCC#N", "OC(N)=O", "OCCO"),
    ),
}
#: Groups that replace two hydrogens of one carbon, by number of heavy atoms.
PAIRS: dict[int, tuple[str, ...]] = {1: ("=O",), 2: ("(F)F", "(C)C", "(C)O", "(C)F", "=NO")}
_ATOM = re.compile(r"(\[[^\]]+\]|[A-Z][a-z]?|[a-z])([0-9%]*)")


@dataclass(frozen=True)
class EnumeratedLibrary:
    """A library that `write_library` wrote.

    Attributes:
        path: file of the library.
        written: number of molecules in it.
        enumerated: number of molecules that the rules enumerate.
        seconds: wall time, s.
    """

    path: Path
    written: int
    enumerated: int
    seconds: float


@dataclass(frozen=True)
class Scaffold:
    """A ring system, divided at the sites that can carry groups.

    Attributes:
        pieces: SMILES between the sites; one more than there are sites.
        texts: SMILES of each choice, for each site; choice 0 is hydrogen.
        sizes: number of heavy atoms that each choice adds, for each site.
        room: largest number of heavy atoms that may be added in all.
        symmetries: permutations of the sites that map the scaffold onto itself, without the identity.
    """

    pieces: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    room: int
    symmetries: tuple[tuple[int, ...], ...]

    def decorations(self) -> UInt8[np.ndarray, "molecule site"]:
        """All combinations of choices within `room`, one for each set of symmetry-equivalent combinations."""
        rows = np.zeros((1, 0), np.uint8)
        used = np.zeros(1, np.int64)
        for sizes in self.sizes:
            added = np.array(sizes)
            total = used[:, None] + added[None, :]
            row, choice = np.nonzero(total <= self.room)
            rows = np.concatenate([rows[row], choice[:, None].astype(np.uint8)], axis=1)
            used = total[row, choice]
        keep = np.ones(len(rows), bool)
        code = _codes(rows)
        for permutation in self.symmetries:
            keep &= code <= _codes(rows[:, permutation])
        return rows[keep]

    def smiles(self, choices: Sequence[int]) -> str:
        """SMILES of the molecule with these choices."""
        parts = [self.pieces[0]]
        for texts, choice, piece in zip(self.texts, choices, self.pieces[1:], strict=True):
            parts += (texts[choice], piece)
        return "".join(parts)


def _codes(rows: UInt8[np.ndarray, "molecule site"]) -> Int[np.ndarray, " molecule"]:
    # At most 8 sites of fewer than 128 choices fit 56 bits.
    codes = np.zeros(len(rows), np.int64)
    for column in rows.T:
        codes = codes * 128 + column
    return codes


@functools.cache
def scaffolds() -> tuple[Scaffold, ...]:
    """All ring systems, in a fixed order."""
    systems: dict[str, None] = {}
    for skeleton in SKELETONS:
        doubles = 0 if skeleton in TIGHT else 3
        for smiles in sorted(set(_variants(Chem.MolFromSmiles(skeleton), doubles))):
            systems[smiles] = None
    return tuple(_cut(smiles) for smiles in systems)


def _variants(skeleton: Chem.Mol, doubles: int) -> Iterator[str]:
    """Canonical SMILES of a carbon skeleton with heteroatoms and at most `doubles` double bonds."""
    atoms, degrees = range(skeleton.GetNumAtoms()), [a.GetDegree() for a in skeleton.GetAtoms()]
    rings = skeleton.GetRingInfo()
    bonds = [
        (b.GetBeginAtomIdx(), b.GetEndAtomIdx())
        for b in skeleton.GetBonds()
        if rings.MinBondRingSize(b.GetIdx()) >= 5 and degrees[b.GetBeginAtomIdx()] == degrees[b.GetEndAtomIdx()] == 2
    ]
    for elements in itertools.product("CNO", repeat=len(degrees)):
        hetero = [i for i in atoms if elements[i] != "C"]
        if len(hetero) > 3 or any(degrees[i] + (elements[i] == "O") > 3 for i in hetero):
            continue
        if _too_rich(skeleton, elements):
            continue
        for count in range(doubles + 1):
            for double in itertools.combinations(bonds, count):
                ends = [i for bond in double for i in bond]
                if len(set(ends)) < len(ends) or any(elements[i] == "O" for i in ends):
                    continue
                smiles = _built(skeleton, elements, double)
                if smiles is not None:
                    yield smiles


def _too_rich(skeleton: Chem.Mol, elements: Sequence[str]) -> bool:
    """Whether heteroatoms are adjacent in a way that is rare in stable molecules."""
    pairs = [
        {elements[b.GetBeginAtomIdx()], elements[b.GetEndAtomIdx()]}
        for b in skeleton.GetBonds()
        if elements[b.GetBeginAtomIdx()] != "C" and elements[b.GetEndAtomIdx()] != "C"
    ]
    small = min(len(r) for r in skeleton.GetRingInfo().AtomRings()) < 5
    return {"O"} in pairs or len(pairs) > 1 or (small and bool(pairs))


def _built(skeleton: Chem.Mol, elements: Sequence[str], double: Sequence[tuple[int, int]]) -> str | None:
    molecule = Chem.RWMol(skeleton)
    for atom, element in zip(molecule.GetAtoms(), elements, strict=True):
        atom.SetAtomicNum({"C": 6, "N": 7, "O": 8}[element])
    for a, b in double:
        molecule.GetBondBetweenAtoms(a, b).SetBondType(Chem.BondType.DOUBLE)
    try:
        Chem.SanitizeMol(molecule)
    except (Chem.AtomValenceException, Chem.KekulizeException):
        return None
    return Chem.MolToSmiles(molecule)


def _cut(smiles: str) -> Scaffold:
    molecule = Chem.MolFromSmiles(smiles)
    atoms = list(molecule.GetAtoms())
    room = MOST_ATOMS - len(atoms)
    pieces, texts, sizes, sites = [""], [], [], []
    end = 0
    # The molecule was parsed from this SMILES, so its atoms are written in the order of their indices.
    for atom, match in zip(atoms, _ATOM.finditer(smiles), strict=True):
        pieces[-1] += smiles[end : match.start()]
        end = match.end()
        hydrogens, symbol, closures = atom.GetTotalNumHs(), match[1], match[2]
        bare = "n" if symbol == "[nH]" else symbol
        options = [(symbol + closures, 0)]
        if hydrogens and atom.GetSymbol() in "CN":
            for size, groups in GROUPS.items():
                if size <= room:
                    named = [g for g in groups if atom.GetSymbol() == "C" or g[0] == "C"]
                    options += [(f"{bare}{closures}({g})", size) for g in named]
        if hydrogens >= 2 and atom.GetSymbol() == "C":
            for size, groups in PAIRS.items():
                if size <= room:
                    options += [(f"{bare}{closures}{_paired(g)}", size) for g in groups]
        if len(options) == 1:
            pieces[-1] += options[0][0]
            continue
        texts.append(tuple(text for text, _ in options))
        sizes.append(tuple(size for _, size in options))
        sites.append(atom.GetIdx())
        pieces.append("")
    pieces[-1] += smiles[end:]
    place = {atom: k for k, atom in enumerate(sites)}
    permutations = {
        tuple(place[match[atom]] for atom in sites)
        for match in molecule.GetSubstructMatches(molecule, uniquify=False, maxMatches=200)
        if all(match[atom] in place for atom in sites)
    }
    return Scaffold(
        tuple(pieces), tuple(texts), tuple(sizes), room, tuple(sorted(permutations - {tuple(range(len(sites)))}))
    )


def _paired(group: str) -> str:
    """A pair of groups, or one group with a double bond, as branches of a SMILES."""
    return (
        f"({group})" if group.startswith("=") else f"{group[: group.index(')') + 1]}({group[group.index(')') + 1 :]})"
    )


def _finish(texts: list[str]) -> list[str]:
    """Canonical SMILES of the molecules that RDKit accepts."""
    parse, write = Chem.MolFromSmiles, Chem.MolToSmiles
    with rdBase.BlockLogs():
        molecules = map(parse, texts)
        return [write(m) for m in molecules if m is not None]


def write_library(
    path: Path, size: int, *, workers: int = 2, seed: int = 0, progress: bool = True, chunk: int = 8192
) -> EnumeratedLibrary:
    """Write distinct, valid molecules of at most `MOST_ATOMS` heavy atoms, as canonical SMILES in random order.

    The same size and seed give the same file, whatever the number of workers.

    Args:
        path: .csv or .csv.gz file with the column smiles; written atomically.
        size: number of molecules.
        workers: number of processes.
        seed: seed of the choice among all enumerated molecules, and of their order.
        progress: whether to show a progress bar.
        chunk: number of molecules that a process handles at a time.

    Raises:
        InputError: the rules enumerate fewer molecules.
    """
    start = time.perf_counter()
    systems = scaffolds()
    decorations = [scaffold.decorations() for scaffold in systems]
    # The first decoration of each scaffold is the bare ring, which is a molecule too.
    ends = np.cumsum([0, *map(len, decorations)])
    total = int(ends[-1])
    if size > total:
        raise InputError(f"{size:,} molecules are asked for, the rules give {total:,}", where="library.size")
    order = np.random.default_rng(seed).permutation(total)

    def texts() -> Iterator[list[str]]:
        for first in range(0, total, chunk):
            rows = order[first : first + chunk]
            which = np.searchsorted(ends, rows, side="right") - 1
            yield [
                systems[k].smiles(decorations[k][row - ends[k]].tolist())
                for k, row in zip(which.tolist(), rows.tolist(), strict=True)
            ]

    seen: set[str] = set()
    # A spawned process starts clean: a forked one would inherit the threads of JAX in a broken state.
    with (
        ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)
        ) as pool,
        progress_bar("writing the library", size, show=progress) as bar,
        atomic_text(path) as file,
    ):
        file.write("smiles\n")
        for batch in _ordered(pool, texts(), 2 * workers):
            fresh = [s for s in dict.fromkeys(batch) if s not in seen][: size - len(seen)]
            seen.update(fresh)
            file.writelines(f"{s}\n" for s in fresh)
            bar.update(len(seen))
            if len(seen) == size:
                break
    if len(seen) < size:
        raise InputError(f"{size:,} molecules are asked for, {len(seen):,} are distinct", where="library.size")
    return EnumeratedLibrary(path, len(seen), total, time.perf_counter() - start)


def refuse_other_size(path: Path, size: int) -> None:
    """Refuse a library that `write_library` wrote with another size than the requested one.

    Raises:
        InputError: the sizes differ.
    """
    with gzip.open(path, "rb") as file:
        rows = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) - 1
    if rows != size:
        raise InputError(
            f"the library here holds {rows:,} molecules, {size:,} are asked for",
            where=str(path),
            remedy="Give library.size as before, or another run.dir",
        )


def _ordered(pool: ProcessPoolExecutor, chunks: Iterator[list[str]], ahead: int) -> Iterator[list[str]]:
    waiting = [pool.submit(_finish, c) for c in itertools.islice(chunks, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(_finish, c) for c in itertools.islice(chunks, 1)]
