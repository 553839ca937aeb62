"""Standard forms of molecules by RDKit's MolStandardize: without counter-ions, neutral, one tautomer; by choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

from data.parsing import Lost, each
from data.smiles import parse_smiles

#: What can be asked for, in the order in which it is done.
STEPS: Mapping[str, Callable[[Chem.Mol], Chem.Mol]] = {
    "largest_fragment": lambda molecule: rdMolStandardize.LargestFragmentChooser(preferOrganic=True).choose(molecule),
    "neutral": lambda molecule: rdMolStandardize.Uncharger().uncharge(molecule),
    "tautomer": lambda molecule: rdMolStandardize.TautomerEnumerator().Canonicalize(molecule),
}


def check_steps(steps: Sequence[str]) -> None:
    """Refuse a step that there is not.

    Raises:
        ValueError: names it and those that there are.
    """
    strange = [step for step in steps if step not in STEPS]
    if strange:
        raise ValueError(f"standardise names {strange[0]!r}; there are {', '.join(STEPS)}")


def standard_smiles(smiles: Sequence[str], steps: Sequence[str]) -> list[str | Lost]:
    """Canonical SMILES of the standard forms, made in a process that may die (`data.parsing`).

    Args:
        smiles: of the molecules.
        steps: see `STEPS`.

    Returns:
        For each: the form; "" for a molecule that is its own, and for what cannot be read; `Lost` where the process
        died of it.
    """
    return each(partial(standard_form, steps=tuple(steps)), smiles)


def standard_form(text: str, steps: Sequence[str]) -> str:
    """What `standard_smiles` says of one molecule, made where this is called."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(text)
        if molecule is None or not molecule.GetNumAtoms():
            return ""
        form = str(Chem.MolToSmiles(apply_steps(molecule, steps)))
        return "" if form == Chem.MolToSmiles(molecule) else form


def apply_steps(molecule: Chem.Mol, steps: Sequence[str]) -> Chem.Mol:
    """The molecule after the steps that are asked for, in the order of `STEPS`."""
    with rdBase.BlockLogs():
        for name, step in STEPS.items():
            if name in steps:
                molecule = step(molecule)
    return molecule
