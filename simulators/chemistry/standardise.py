"""Optional standard forms of molecules by RDKit's MolStandardize: largest fragment, neutral form, tautomer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lost, each

#: Available steps, in the order in which they are applied.
STEPS: Mapping[str, Callable[[Chem.Mol], Chem.Mol]] = {
    "largest_fragment": lambda molecule: rdMolStandardize.LargestFragmentChooser(preferOrganic=True).choose(molecule),
    "neutral": lambda molecule: rdMolStandardize.Uncharger().uncharge(molecule),
    "tautomer": lambda molecule: rdMolStandardize.TautomerEnumerator().Canonicalize(molecule),
}


def check_steps(steps: Sequence[str]) -> None:
    """Refuse unknown steps.

    Raises:
        ValueError: names the step and the available ones.
    """
    strange = [step for step in steps if step not in STEPS]
    if strange:
        raise ValueError(f"standardise names {strange[0]!r}; there are {', '.join(STEPS)}")


def standard_smiles(smiles: Sequence[str], steps: Sequence[str]) -> list[str | Lost]:
    """Canonical SMILES of the standard forms, computed in another process, which may crash (`data.processes.parsing`).

    Args:
        smiles: SMILES of the molecules.
        steps: names of `STEPS`.

    Returns:
        For each molecule the SMILES of its standard form; "" if it is already standard or cannot be read; `Lost` if the
        process crashed on it.
    """
    return each(partial(standard_form, steps=tuple(steps)), smiles)


def standard_form(text: str, steps: Sequence[str]) -> str:
    """The result of `standard_smiles` for one molecule, computed in this process."""
    with rdBase.BlockLogs():
        molecule = parse_smiles(text)
        if molecule is None or not molecule.GetNumAtoms():
            return ""
        form = str(Chem.MolToSmiles(apply_steps(molecule, steps)))
        return "" if form == Chem.MolToSmiles(molecule) else form


def apply_steps(molecule: Chem.Mol, steps: Sequence[str]) -> Chem.Mol:
    """Apply the requested steps to a molecule, in the order of `STEPS`."""
    with rdBase.BlockLogs():
        for name, step in STEPS.items():
            if name in steps:
                molecule = step(molecule)
    return molecule
