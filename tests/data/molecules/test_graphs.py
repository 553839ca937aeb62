"""Graphs from SMILES, and their padding into fixed shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from data.molecules.featurise import encode
from data.molecules.graph_tables import ATOM_COLUMNS, BOND_COLUMNS, BOND_ORDERS, CHARGE_ZERO, GraphTable
from data.molecules.graphs import GraphSize, GraphSource, assign, choose_buckets, pad, plan_batches, with_room

SMILES = [
    "C", "CCO", "c1ccccc1O", "C[N+](=O)[O-]", "C/C=C/F", "N[C@@H](C)C(=O)O", "C1CC2CC1C2", "c1cc2ccccc2[nH]1",
    "[Na+].[Cl-]", "O=S(=O)(O)c1ccccc1", "C#N", "[2H]OC", "CC(C)(C)c1ccc2ccccc2c1", "Cl[Pt](Cl)(N)N",
]  # fmt: skip


def test_what_is_read_is_what_rdkit_says() -> None:
    table, rejects = encode(SMILES)
    assert not rejects
    for m, smiles in enumerate(SMILES):
        molecule = Chem.MolFromSmiles(smiles)
        atoms = table.atoms[table.atom_start[m] : table.atom_start[m + 1]]
        bonds = table.bonds[table.bond_start[m] : table.bond_start[m + 1]]
        ends = table.bond_atoms[table.bond_start[m] : table.bond_start[m + 1]]
        assert len(atoms) == molecule.GetNumAtoms()
        assert len(bonds) == molecule.GetNumBonds()
        for atom, row in zip(molecule.GetAtoms(), atoms, strict=True):
            atom_features = dict(zip(ATOM_COLUMNS, row.tolist(), strict=True))
            assert atom_features["atomic_number"] == atom.GetAtomicNum()
            assert atom_features["hydrogens"] == atom.GetTotalNumHs()
            assert atom_features["charge"] == atom.GetFormalCharge() + CHARGE_ZERO
            assert atom_features["aromatic"] == atom.GetIsAromatic()
            assert atom_features["degree"] == atom.GetDegree()
            assert atom_features["ring_bonds"] == sum(b.IsInRing() for b in atom.GetBonds())
        for row, (i, j) in zip(bonds, ends.tolist(), strict=True):
            bond = molecule.GetBondBetweenAtoms(i, j)
            bond_features = dict(zip(BOND_COLUMNS, row.tolist(), strict=True))
            assert BOND_ORDERS[bond_features["order"]] == bond.GetBondTypeAsDouble()
            assert (bond_features["ring"] > 0) == bond.IsInRing()
            smallest = [n for n in range(3, 10) if molecule.GetRingInfo().IsBondInRingOfSize(bond.GetIdx(), n)]
            assert bond_features["ring"] == (min(smallest) if smallest else 0)


@pytest.mark.parametrize("smiles", ["", "C(", "C(C)(C)(C)(C)C", "c1cccc1C", "*C", "nonsense"])
def test_what_cannot_be_read_is_named_and_the_rest_goes_on(smiles: str) -> None:
    table, rejects = encode(["CCO", smiles, "CC"])
    assert table.source_index.tolist() == [0, 2]
    assert rejects[0][0] == 1
    assert len(rejects[0][1]) > 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(SMILES), min_size=1, max_size=12), st.data())
def test_taking_and_joining_give_the_same_molecules(smiles: list[str], data: st.DataObject) -> None:
    table = encode(smiles)[0]
    rows = data.draw(st.lists(st.integers(0, len(smiles) - 1), max_size=8))
    taken, alone = table.take(rows), GraphTable.concat([encode([smiles[i]])[0] for i in rows])
    for name in ("atom_start", "bond_start", "atoms", "bonds", "bond_atoms"):
        assert np.array_equal(getattr(taken, name), getattr(alone, name))


def test_buckets_hold_every_molecule_and_more_of_them_never_waste_more() -> None:
    random = np.random.default_rng(0)
    atoms = random.integers(1, 30, 500)
    bonds = atoms + random.integers(-1, 4, 500)
    waste = []
    for n in (1, 2, 4, 8):
        buckets = choose_buckets(atoms, bonds, n)
        assert len(buckets) <= n
        cost = 0.0
        for a, b in zip(atoms, bonds, strict=True):
            fits = [bucket for bucket in buckets if bucket.atoms >= a and bucket.bonds >= b]
            assert fits
            cost += min(bucket.cost for bucket in fits)
        waste.append(cost)
    assert waste == sorted(waste, reverse=True)
    assert with_room(choose_buckets(atoms, bonds, 2))[-1] == GraphSize(254, 255)


def test_a_source_gives_every_molecule_once_an_epoch_and_the_same_again() -> None:
    table = encode(SMILES * 9)[0]
    rows = np.arange(len(table))
    buckets = choose_buckets(table.atom_counts, table.bond_counts, 3)
    labels = np.arange(len(table), dtype=np.float64)[:, None]
    source = GraphSource(table, rows, labels, buckets, 16, seed=4)
    epochs = [list(source.epoch(i)) for i in (0, 0, 1)]
    seen = [np.concatenate([b.labels[b.mask, 0] for b in batches]) for batches in epochs]
    assert sorted(seen[0].tolist()) == rows.tolist()
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    assert len(epochs[0]) == source.steps_per_epoch
    assert len({b.atoms.shape for b in epochs[0]}) <= len(buckets)


def test_a_batch_refuses_what_it_cannot_hold() -> None:
    table = encode(SMILES)[0]
    with pytest.raises(ValueError, match="larger"):
        pad(table, np.array([12]), GraphSize(3, 3), 4)
    with pytest.raises(ValueError, match="do not fit"):
        pad(table, np.arange(5), GraphSize(40, 40), 4)
    plan = plan_batches({0: np.arange(5), 1: np.arange(5, 7)}, [GraphSize(5, 5), GraphSize(9, 9)], 4)
    assert sorted(np.concatenate([rows for _, rows in plan]).tolist()) == list(range(7))
    assert assign(table, [GraphSize(1, 1)]).max() == 1
