"""Parses SMILES, after it has refused those that are dangerous for RDKit.

RDKit uses recursion and matrices of atoms by atoms: a chain of 30,000 atoms overflows its stack, a ring of 30,000
exceeds the memory. A limit on the length avoids both. In addition, SMILES from files are parsed in a process that may
die (`data.processes.parsing`).
"""

from __future__ import annotations

import re

from rdkit import Chem

#: Longest SMILES that is parsed, in characters: about 20 for each atom of the largest molecule that is supported.
MAX_CHARACTERS = 5_000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def text_refusal(text: str) -> str | None:
    """Why a text is not handed to the parser at all; None where it may be.

    RDKit ignores a NUL at either end, so that two texts would be one molecule.
    """
    if len(text) > MAX_CHARACTERS:
        return f"{len(text):,} characters; a SMILES has at most {MAX_CHARACTERS:,}"
    control = _CONTROL.search(text)
    if control is None:
        return None
    return "has a NUL byte" if control[0] == "\0" else f"has a control character ({control[0]!r})"


def parse_smiles(text: str) -> Chem.Mol | None:
    """The molecule of a SMILES; None for one that `text_refusal` or RDKit refuses."""
    if len(text) > MAX_CHARACTERS or _CONTROL.search(text):
        return None
    return Chem.MolFromSmiles(text)
