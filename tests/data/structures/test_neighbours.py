"""Neighbours through periodic boundaries, against ASE's."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from ase.neighborlist import neighbor_list

from data.structures.batches import Shape, pad, shapes
from data.structures.structures import Structures


def crystal(kind: str) -> Atoms:
    if kind == "slab":
        atoms = graphene(size=(2, 1, 1), vacuum=None)
        atoms.cell[2] = [0.3, 0.0, 9.0]
        atoms.pbc = (True, True, False)
    elif kind == "wire":
        atoms = Atoms(
            "CO", positions=[[0.0, 0.1, 0.0], [1.2, 0.0, 0.3]], cell=[2.9, 7.0, 7.0], pbc=(True, False, False)
        )
    else:
        # A primitive cell, shorter than the cutoff: atoms see several images of themselves.
        atoms = bulk("Al", a=4.05)
        atoms.pbc = True
    atoms.rattle(0.05, seed=2)
    return atoms


def table(atoms: Atoms) -> Structures:
    lattice = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    return Structures.from_arrays([atoms.numbers], [atoms.positions], lattice=[lattice])


@pytest.mark.parametrize("kind", ["bulk", "slab", "wire"])
def test_periodic_neighbours_agree_with_ase(kind: str) -> None:
    atoms, cutoff = crystal(kind), 5.0
    structures = table(atoms)
    lists = structures.neighbours(cutoff)
    i, j, vectors = neighbor_list("ijD", atoms, cutoff)
    assert lists.offset is not None
    centre = np.repeat(np.arange(len(atoms)), lists.counts)
    ours = structures.positions[lists.index] + lists.offset - structures.positions[centre]
    first = np.lexsort((*np.round(ours, 6).T, lists.index, centre))
    second = np.lexsort((*np.round(vectors, 6).T, j, i))
    np.testing.assert_array_equal(centre[first], i[second])
    np.testing.assert_array_equal(lists.index[first], j[second])
    np.testing.assert_allclose(ours[first], vectors[second], atol=1e-9)
    nearest = np.linalg.norm(vectors, axis=1).min()
    assert structures.shortest_distances()[0] == pytest.approx(nearest)


def test_a_batch_of_crystals_and_molecules_has_offsets_only_for_images() -> None:
    atoms = crystal("bulk")
    molecule = Structures.from_arrays([np.array([6, 8])], [np.array([[0.0, 0, 0], [1.1, 0, 0]])])
    both = Structures.concatenate([table(atoms), molecule])
    batch_shapes, which = shapes(both, 5.0, (1, 2), molecules=2, pairs=0)
    assert [shape.periodic for shape in batch_shapes] == [True, False]
    batch = pad(both, np.flatnonzero(which == 0), batch_shapes[0], 5.0)
    assert batch.offsets is not None
    count = int(both.neighbours(5.0).counts[0])
    assert (np.abs(batch.offsets[0, 0]).sum(axis=-1) > 0).sum() == count
    assert batch.volume[0] == pytest.approx(atoms.get_volume(), rel=1e-6)
    together = pad(both, np.arange(2), Shape(2, 2, count, periodic=True), 5.0)
    assert together.offsets is not None
    assert not together.offsets[1].any()


def test_a_frame_without_a_pbc_flag_is_isolated_and_one_with_a_cell_repeats() -> None:
    class Frame:
        line, numbers, positions = 1, np.array([13]), np.zeros((1, 3))

        def __init__(self, **properties: object) -> None:
            self.properties = properties

    stress = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    structures = Structures.from_frames(
        [Frame(cell=np.eye(3) * 4), Frame(cell=np.eye(3) * 4, pbc=[True, True, True], stress=stress, charge=1)], "x"
    )
    assert not structures.periodic[0].any()
    assert structures.periodic[1].all()
    assert structures.volume.tolist() == [0.0, pytest.approx(64.0)]
    assert structures.charge.tolist() == [0, 1]
    np.testing.assert_array_equal(structures.stress[1], [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
