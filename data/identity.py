"""When two SMILES are the same molecule: one key for splits, rankings and re-checks.

Labels of electrons do not depend on atom maps, which are names that somebody gave to atoms, nor on isotopes.
"""

from __future__ import annotations

from collections.abc import Sequence

from rdkit import Chem, rdBase


def molecule_keys(smiles: Sequence[str]) -> list[str]:
    """Canonical SMILES without atom maps and isotopes; a row that RDKit cannot read stands for itself."""
    with rdBase.BlockLogs():
        return [_key(text) for text in smiles]


def _key(text: str) -> str:
    molecule = Chem.MolFromSmiles(text)
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
