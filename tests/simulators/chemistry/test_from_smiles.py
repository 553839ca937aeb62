"""Conformers, and simulators that start from SMILES."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from data.spec import SimulationError, check, dataset
from simulators.adapter import AnswersMany, Simulator
from simulators.chemistry.conformers import ConformerConfig, embed
from simulators.chemistry.from_smiles import FromSmiles, from_smiles
from simulators.chemistry.xtb import XTB


@dataclass(frozen=True)
class Together(XTB):
    """xTB that counts how many requests it is given together."""

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        return [self.simulate(one).assign_attrs(log=json.dumps({"together": len(inputs)})) for one in inputs]


def test_many_smiles_are_answered_together_as_one_by_one_and_one_that_cannot_be_read_fails_alone() -> None:
    together = from_smiles(Together(), ConformerConfig())
    asked = [dataset(together.spec.inputs, {"smiles": smiles}) for smiles in ("CO", "no molecule", "N")]
    assert isinstance(together, AnswersMany)
    assert not isinstance(from_smiles(XTB(), ConformerConfig()), AnswersMany)
    methanol, refused, ammonia = together.simulate_many(asked)
    assert isinstance(refused, SimulationError)
    assert refused.kind == "invalid_input"
    for request, answer in ((asked[0], methanol), (asked[2], ammonia)):
        assert isinstance(answer, xr.Dataset)
        xr.testing.assert_equal(answer, together.simulate(request))
        log = json.loads(answer.attrs["log"])
        assert (log["together"], log["conformer"]["force_field"]) == (2, "MMFF94")


def ask(simulator: Simulator, smiles: str) -> Any:
    answer = simulator.simulate(dataset(simulator.spec.inputs, {"smiles": smiles}))
    check(answer, simulator.spec.outputs)
    return answer


@pytest.mark.parametrize("smiles", ["CCO", "C#N", "c1ccncc1", "OC[C@H](F)N", "C/C=C\\C", "C1CCOC1"])
def test_a_geometry_is_that_of_the_molecule_asked_for(smiles: str) -> None:
    geometry = embed(smiles, ConformerConfig()).geometry
    xyz = [str(len(geometry.numbers)), ""]
    xyz += [f"{z} {x} {y} {w}" for z, (x, y, w) in zip(geometry.numbers, geometry.positions, strict=True)]
    symbols = [Chem.GetPeriodicTable().GetElementSymbol(int(z)) for z in geometry.numbers]
    xyz[2:] = [f"{s} {x} {y} {w}" for s, (x, y, w) in zip(symbols, geometry.positions, strict=True)]
    molecule = Chem.MolFromXYZBlock("\n".join(xyz))
    rdDetermineBonds.DetermineBonds(molecule)
    Chem.AssignStereochemistryFrom3D(molecule)
    assert Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(molecule))) == Chem.CanonSmiles(smiles)


def test_the_same_seed_gives_the_same_geometry_however_the_smiles_is_written() -> None:
    one, other = embed("OCC", ConformerConfig()).geometry, embed("CCO", ConformerConfig()).geometry
    assert np.array_equal(one.numbers, other.numbers)
    assert np.array_equal(one.positions, other.positions)
    assert not np.allclose(one.positions, embed("CCO", ConformerConfig(seed=1)).geometry.positions)


def test_more_conformers_never_raise_the_energy() -> None:
    energies = [
        embed("OCC(O)CN", ConformerConfig(n_conformers=n)).facts["force_field_energy_kcal_mol"] for n in (1, 4, 16)
    ]
    assert energies[0] >= energies[1] >= energies[2]
    assert energies[2] < energies[0]


def test_charge_and_unpaired_electrons_come_from_the_smiles() -> None:
    assert embed("C[NH3+]", ConformerConfig()).geometry.charge == 1
    assert embed("[CH3]", ConformerConfig()).geometry.spin == 1
    assert embed("CC(=O)[O-]", ConformerConfig()).geometry.charge == -1


@pytest.mark.parametrize("smiles", ["", "C(", "C(C)(C)(C)(C)C", "C*", "not a molecule"])
def test_what_is_no_molecule_is_named(smiles: str) -> None:
    with pytest.raises(SimulationError) as caught:
        embed(smiles, ConformerConfig())
    assert caught.value.kind == "invalid_input"
    assert repr(smiles) in caught.value.message


def test_a_molecule_that_cannot_exist_in_space_is_not_converged() -> None:
    with pytest.raises(SimulationError, match="ETKDGv3") as caught:
        embed("C1CC#C1", ConformerConfig())
    assert caught.value.kind == "not_converged"


def test_atom_maps_do_not_change_a_geometry() -> None:
    plain, mapped = embed("CCO", ConformerConfig()), embed("[CH3:7][CH2:1][OH:3]", ConformerConfig())
    assert np.array_equal(plain.geometry.positions, mapped.geometry.positions)


def test_a_simulator_of_geometries_answers_for_smiles() -> None:
    simulator = FromSmiles(XTB(outputs=("energy", "gap", "dipole_moment")))
    answer = ask(simulator, "CO")
    geometry = embed("CO", ConformerConfig()).geometry
    alone = simulator.simulator.simulate(geometry.dataset())
    assert float(answer.energy) == float(alone.energy)
    assert np.array_equal(answer.positions.values, geometry.positions)
    log = json.loads(answer.attrs["log"])
    assert log["conformer_seconds"] > 0
    assert log["conformer"]["force_field"] == "MMFF94"


def test_how_a_conformer_is_made_is_part_of_the_identity_of_labels() -> None:
    inner = XTB()
    one, other = FromSmiles(inner), FromSmiles(inner, ConformerConfig(n_conformers=5))
    assert len({inner.fingerprint, one.fingerprint, other.fingerprint}) == 3
