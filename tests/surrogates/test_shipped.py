"""The potential that is part of the package: how it is named, what its card says, and geometries against experiment."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from data.errors import InputError
from data.structures.structures import Structures
from simulators.chemistry.conformers import ConformerConfig, embed
from surrogates.potentials.dynamics.relax import RelaxConfig, Relaxer
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.saved import surrogate_directory
from surrogates.shipped import is_shipped

#: SMILES -> pattern of a bond, and its measured length, Angstrom (NIST CCCBDB, experimental geometries).
BONDS = {
    "c1ccccc1": ("c:c", 1.397),
    "CO": ("CO", 1.425),
    "C=O": ("C=O", 1.205),
    "CC#N": ("C#N", 1.157),
    "CSC": ("CS", 1.807),
}


def test_it_is_named_by_a_word_that_is_no_path() -> None:
    assert is_shipped("shipped:organic")
    assert not is_shipped("runs/organic")
    assert not is_shipped(None)
    with pytest.raises(InputError, match=r"tune.surrogate: 'shipped:metals' is not part .*shipped:organic"):
        surrogate_directory("shipped:metals", "tune.surrogate")


def test_its_geometries_are_those_of_experiments() -> None:
    potential = PotentialSurrogate.load(surrogate_directory("shipped:organic", "surrogate"))
    start = [embed(smiles, ConformerConfig(seed=1)).geometry for smiles in BONDS]
    molecules = Structures.from_arrays([one.numbers for one in start], [one.positions for one in start])
    relaxed = Relaxer(potential, RelaxConfig(fmax=0.02, buckets=1))(molecules)
    assert relaxed.converged.all()
    for k, (smiles, (pattern, length)) in enumerate(BONDS.items()):
        # Geometries have the order of atoms of the canonical SMILES, hydrogens last.
        molecule = Chem.AddHs(Chem.MolFromSmiles(Chem.CanonSmiles(smiles)))
        atoms = molecule.GetSubstructMatches(Chem.MolFromSmarts(pattern))[0]
        first, second = relaxed.structures.positions[molecules.atom_start[k] :][list(atoms)]
        assert np.linalg.norm(first - second) == pytest.approx(length, abs=0.03), (smiles, pattern)
