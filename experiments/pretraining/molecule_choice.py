"""Draws the molecules of a pre-training from a table, and holds some of them out whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from rdkit import Chem, rdBase

from data.errors import InputError
from data.molecules.files import read
from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lost, each

#: The parts, and the least share of the molecules that each but the first has.
PARTS = {"train": 0.0, "valid": 0.05, "test": 0.05}
#: Molecules that are looked at in one go.
BLOCK = 512


@dataclass(frozen=True)
class MoleculeChoice:
    """Which molecules of a table are learned from.

    Attributes:
        count: number of molecules of all parts.
        elements: symbols of the elements that may occur.
        most_atoms: largest number of atoms, hydrogens included.
        without: SMILES of molecules that no part may hold, in any stereochemistry.
        seed: seed of the order in which molecules are drawn.

    Raises:
        ValueError: there are fewer than 3 molecules or 2 atoms, no elements, or an unknown one.
    """

    count: int = 2000
    elements: tuple[str, ...] = ("H", "C", "N", "O", "F", "P", "S", "Cl")
    most_atoms: int = 40
    without: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("elements", "without"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.count < len(PARTS) or self.most_atoms < 2 or self.seed < 0:
            raise ValueError(f"count must be {len(PARTS)} or more, most_atoms 2 or more, seed 0 or more; got {self}")
        if not self.elements or (unknown := [name for name in self.elements if name not in atomic_numbers]):
            raise ValueError(f"elements must be symbols such as C, got {unknown or self.elements}")


@dataclass(frozen=True)
class ChosenMolecules:
    """Molecules by part, and why others were left out.

    Attributes:
        parts: SMILES of each of `PARTS`; no molecule is in two of them.
        left_out: number of rows that were looked at and not taken, by reason.
    """

    parts: dict[str, list[str]]
    left_out: dict[str, int]


def choose_molecules(path: Path, column: str, choice: MoleculeChoice) -> ChosenMolecules:
    """Neutral molecules with closed shells and one fragment, in an order that the seed decides.

    Stereoisomers count as one molecule, so that held-out ones are of another graph.

    Args:
        path: .smi, .csv, .tsv, .sdf or .parquet, as `data.molecules.files.read` takes.
        column: column that holds SMILES.
        choice: see `MoleculeChoice`.

    Raises:
        InputError: the file cannot be read, has fewer such molecules, or a SMILES of `without` cannot be read.
    """
    rows = [row.smiles for row in read(path, smiles_column=column, validate=False) if row.smiles is not None]
    seen = set()
    for text in choice.without:
        refused = _graph(text)
        if refused is None:
            raise InputError(f"{text!r} cannot be read", where="--without", remedy="Give a valid SMILES")
        seen.add(refused[0])
    chosen: dict[str, list[str]] = {}
    left_out: Counter[str] = Counter()
    order = np.random.default_rng(choice.seed).permutation(len(rows))
    for start in range(0, len(order), BLOCK):
        block = [rows[row] for row in order[start : start + BLOCK]]
        for text, graph in zip(block, each(_graph, block), strict=True):
            reason = _refusal(graph, choice, seen)
            if reason is not None:
                left_out[reason] += 1
                continue
            assert graph is not None
            assert not isinstance(graph, Lost)
            seen.add(graph[0])
            chosen[text] = graph[1]
            if len(chosen) == choice.count:
                return ChosenMolecules(_parted(chosen, str(path)), dict(left_out))
    raise InputError(
        f"has {len(chosen):,} molecules that can be learned from, and {choice.count:,} are asked for; left out: "
        + (", ".join(f"{count:,} ({reason})" for reason, count in left_out.most_common()) or "none"),
        where=str(path),
        remedy=f"Give --count {len(chosen)} or a larger table",
    )


def _graph(text: str) -> tuple[str, list[str], int, int, int] | None:
    """Canonical SMILES without stereochemistry, elements, atoms, charge and unpaired electrons; None if unreadable."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(text)
        if molecule is None or not molecule.GetNumAtoms():
            return None
        whole = Chem.AddHs(molecule)
        elements = sorted({atom.GetSymbol() for atom in whole.GetAtoms()})
        radicals = sum(atom.GetNumRadicalElectrons() for atom in whole.GetAtoms())
        flat = Chem.MolToSmiles(molecule, isomericSmiles=False)
        return flat, elements, whole.GetNumAtoms(), Chem.GetFormalCharge(molecule), radicals


def _refusal(
    graph: tuple[str, list[str], int, int, int] | Lost | None, choice: MoleculeChoice, seen: set[str]
) -> str | None:
    """Why a molecule is not taken; None if it is."""
    if graph is None or isinstance(graph, Lost):
        return "unreadable"
    flat, elements, atoms, charge, radicals = graph
    other = [name for name in elements if name not in choice.elements]
    checks = {
        f"other elements: {', '.join(other)}": bool(other),
        f"more than {choice.most_atoms} atoms": atoms > choice.most_atoms,
        "one atom": atoms < 2,
        "several fragments": "." in flat,
        "charged": charge != 0,
        "unpaired electrons": radicals > 0,
        "a molecule of --without, or one that was taken already": flat in seen,
    }
    return next((reason for reason, refused in checks.items() if refused), None)


def _parted(chosen: Mapping[str, Sequence[str]], where: str) -> dict[str, list[str]]:
    """The molecules by part, from their elements. Those held out have no element that the first part lacks.

    Raises:
        InputError: too few molecules can be held out.
    """
    remaining = Counter(element for elements in chosen.values() for element in elements)
    parts: dict[str, list[str]] = {}
    for name, share in list(PARTS.items())[1:]:
        parts[name], size = [], max(1, round(share * len(chosen)))
        for text, elements in chosen.items():
            if len(parts[name]) == size:
                break
            taken = any(text in part for part in parts.values())
            if not taken and all(remaining[element] > 1 for element in elements):
                remaining.subtract(elements)
                parts[name].append(text)
        if not parts[name]:
            raise InputError(
                "each molecule has an element that no other one has", where=where, remedy="Give a larger table"
            )
    held_out = {text for part in parts.values() for text in part}
    return {"train": [text for text in chosen if text not in held_out], **parts}
