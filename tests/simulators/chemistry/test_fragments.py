"""Salts and solvates: their parts lie beside each other and bind, and standard forms are made by choice alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rdkit import Chem

from data.spec import SimulationError, dataset
from simulators.chemistry.conformers import ConformerConfig, embed
from simulators.chemistry.fragments import CLOSEST, refuse_contacts
from simulators.chemistry.from_smiles import FromSmiles
from simulators.chemistry.xtb import XTB

XTB_OF_SMILES = FromSmiles(XTB(outputs=("energy",)))


def energy(smiles: str) -> float:
    """By GFN2-xTB, eV."""
    return float(XTB_OF_SMILES.simulate(dataset(XTB_OF_SMILES.spec.inputs, {"smiles": smiles})).energy)


@pytest.mark.parametrize("smiles", ["CCN.Cl", "CC(=O)O.CN(C)C", "c1ccccc1.c1ccccc1", "O.O.O"])
def test_neutral_fragments_bind_weakly(smiles: str) -> None:
    # Complexes of neutral molecules are bound by some hundredths to some tenths of an eV a contact, and never unbound.
    binding = energy(smiles) - sum(energy(part) for part in smiles.split("."))
    assert -1.0 < binding < 0.0


@pytest.mark.parametrize("smiles", ["CC[NH3+].[Cl-]", "C[N+](C)(C)C.[I-]"])
def test_ions_bind_by_about_their_coulomb_energy(smiles: str) -> None:
    # 14.4 eV Angstrom over 2.5 to 5 Angstrom, of which the repulsion takes some.
    binding = energy(smiles) - sum(energy(part) for part in smiles.split("."))
    assert -6.5 < binding < -2.5


@pytest.mark.parametrize(
    "smiles", ["[Na+].[Cl-]", "[Na+].[Na+].[O-]C(=O)C(=O)[O-]", "[Zn+2].[Cl-].[Cl-]", "CCN.Cl.O", "[Fe+2].[Cl-].[Cl-]"]
)
@pytest.mark.parametrize("count", [1, 4])
def test_no_atom_lies_on_another(smiles: str, count: int) -> None:
    conformer = embed(smiles, ConformerConfig(n_conformers=count))
    geometry = conformer.geometry
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(int(z)) for z in geometry.numbers])
    distance = np.linalg.norm(geometry.positions[:, None] - geometry.positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (distance / (radii[:, None] + radii[None])).min() >= CLOSEST
    assert conformer.facts["fragments"] == smiles.count(".") + 1
    # In one piece: no fragment is further from the next than a few van der Waals contacts.
    assert distance.min(axis=1).max() < 5
    again = embed(smiles, ConformerConfig(n_conformers=count)).geometry
    np.testing.assert_array_equal(geometry.positions, again.positions)


def test_atoms_on_top_of_each_other_are_refused_by_name() -> None:
    positions = np.array([[0.0, 0, 0], [0, 0, 1.5], [0.3, 0, 0]])
    with pytest.raises(SimulationError, match=r"'CCN\.Cl': atoms 0 \(C\) and 2 \(N\) .* 0\.30 Angstrom apart"):
        refuse_contacts(np.array([6, 6, 7]), positions, "CCN.Cl")
    refuse_contacts(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.74]]), "[H][H]")


@pytest.mark.parametrize(
    ("smiles", "steps", "standard"),
    [
        ("CCN.Cl", ("largest_fragment",), "CCN"),
        ("CC[NH3+].[Cl-]", ("largest_fragment", "neutral"), "CCN"),
        ("[Na+].CC(=O)[O-]", ("neutral", "largest_fragment"), "CC(=O)O"),
        ("Oc1ccccn1", ("tautomer",), "O=c1cccc[nH]1"),
        ("CC[N+](C)(C)C", ("neutral",), "CC[N+](C)(C)C"),
    ],
)
def test_standard_forms_are_those_of_the_parent(smiles: str, steps: tuple[str, ...], standard: str) -> None:
    conformer = embed(smiles, ConformerConfig(standardise=steps))
    assert conformer.facts["simulated_smiles"] == standard
    assert conformer.facts["standardised"] == list(steps)
    np.testing.assert_array_equal(conformer.geometry.positions, embed(standard, ConformerConfig()).geometry.positions)


def test_a_salt_is_simulated_as_it_is_where_nothing_else_is_asked_for() -> None:
    answer = XTB_OF_SMILES.simulate(dataset(XTB_OF_SMILES.spec.inputs, {"smiles": "CCN.Cl"}))
    assert sorted(answer.numbers.values.tolist()).count(17) == 1
    assert "simulated_smiles" not in json.loads(answer.attrs["log"])["conformer"]
    assert XTB_OF_SMILES.fingerprint != FromSmiles(XTB(), ConformerConfig(standardise=("neutral",))).fingerprint
    with pytest.raises(ValueError, match="there are largest_fragment, neutral, tautomer"):
        ConformerConfig(standardise=("desalt",))
