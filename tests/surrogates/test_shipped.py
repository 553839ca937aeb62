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

#: Lengths of a squeezed bond, over its length at the minimum; the last ones are nearer than any of training.
SQUEEZED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
#: A bond whose energy falls. Carbon atoms of triple bonds are as close, so that the network follows this one too.
FOLLOWED = ("CC#N", 0, 1)


def test_it_is_named_by_a_word_that_is_no_path() -> None:
    assert is_shipped("shipped:organic")
    assert not is_shipped("runs/organic")
    assert not is_shipped(None)
    with pytest.raises(InputError, match=r"tune.surrogate: 'shipped:metals' is not part .*shipped:organic"):
        surrogate_directory("shipped:metals", "tune.surrogate")


@pytest.fixture(scope="module")
def potential() -> PotentialSurrogate:
    return PotentialSurrogate.load(surrogate_directory("shipped:organic", "surrogate"))


@pytest.fixture(scope="module")
def relaxed(potential: PotentialSurrogate) -> Structures:
    """The molecules of `BONDS` at their minima."""
    start = [embed(smiles, ConformerConfig(seed=1)).geometry for smiles in BONDS]
    molecules = Structures.from_arrays([one.numbers for one in start], [one.positions for one in start])
    ended = Relaxer(potential, RelaxConfig(fmax=0.02, buckets=1))(molecules)
    assert ended.converged.all()
    return ended.structures


def bonds(smiles: str, pattern: str | None = None) -> list[tuple[int, ...]]:
    """Atoms of the bonds of a molecule, or of those that match a pattern.

    Geometries have the order of atoms of the canonical SMILES, hydrogens last.
    """
    molecule = Chem.AddHs(Chem.MolFromSmiles(Chem.CanonSmiles(smiles)))
    if pattern is not None:
        return list(molecule.GetSubstructMatches(Chem.MolFromSmarts(pattern)))
    return [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]


def test_its_geometries_are_those_of_experiments(relaxed: Structures) -> None:
    for k, (smiles, (pattern, length)) in enumerate(BONDS.items()):
        first, second = relaxed.positions[relaxed.atom_start[k] :][list(bonds(smiles, pattern)[0])]
        assert np.linalg.norm(first - second) == pytest.approx(length, abs=0.03), (smiles, pattern)


def test_squeezed_bonds_cost_energy_and_are_outside_of_its_domain(
    potential: PotentialSurrogate, relaxed: Structures
) -> None:
    squeezed, numbers, positions = [], [], []
    for k, smiles in enumerate(BONDS):
        rows = slice(relaxed.atom_start[k], relaxed.atom_start[k + 1])
        z, x = relaxed.numbers[rows], relaxed.positions[rows]
        for i, j in bonds(smiles):
            for share in SQUEEZED:
                moved = x.copy()
                # Of a bond of hydrogen, which comes last, that atom moves.
                moved[j] = x[i] + share * (x[j] - x[i])
                squeezed.append((smiles, i, j))
                numbers.append(z)
                positions.append(moved)
    answer = potential.predict_structures(Structures.from_arrays(numbers, positions))
    assert answer.energy is not None
    assert answer.in_domain is not None
    energy = answer.energy.reshape(-1, len(SQUEEZED))
    inside = np.asarray(answer.in_domain, bool).reshape(energy.shape)
    chosen = np.array([one != FOLLOWED for one in squeezed[:: len(SQUEEZED)]])
    assert chosen.sum() == len(energy) - 1
    assert (np.diff(energy[chosen]) > 0).all()
    assert inside[:, 0].all()
    assert not inside[:, np.array(SQUEEZED) <= 0.7].any()
