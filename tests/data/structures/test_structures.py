"""Tables of geometries, their neighbours, and their padded batches."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from data.errors import InputError
from data.structures.batches import Shape, StructureBatches, choose_sizes, pad, round_up, shapes
from data.structures.structures import Structures


@dataclass
class Row:
    """A frame, as the readers give it."""

    numbers: Any
    positions: Any
    properties: dict[str, Any] = field(default_factory=dict)
    line: int = 7


def random_table(sizes: list[int], seed: int = 0) -> Structures:
    rng = np.random.default_rng(seed)
    return Structures.from_arrays(
        [rng.choice([1, 6, 8], n) for n in sizes],
        [rng.normal(size=(n, 3)) * n ** (1 / 3) * 1.5 for n in sizes],
        list(rng.normal(size=len(sizes))),
        [rng.normal(size=(n, 3)) for n in sizes],
    )


def brute_pairs(x: np.ndarray, cutoff: float) -> set[tuple[int, int]]:
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return {(i, j) for i, j in itertools.permutations(range(len(x)), 2) if distance[i, j] < cutoff}


def test_neighbours_are_all_pairs_within_the_cutoff() -> None:
    table = random_table([1, 5, 9, 5, 40])
    lists = table.neighbours(3.0)
    for m, first in enumerate(table.atom_start[:-1]):
        n = table.sizes[m]
        pairs = {
            (i, int(j)) for i in range(n) for j in lists.index[lists.start[first + i] : lists.start[first + i + 1]]
        }
        assert pairs == brute_pairs(table.positions[first : first + n], 3.0)


def test_neighbours_of_a_large_cluster_agree_with_ase() -> None:
    atoms = bulk("Ar", cubic=True).repeat((5, 5, 5))
    atoms.pbc = False
    atoms.rattle(0.1, seed=1)
    assert len(atoms) == 500
    table = Structures.from_arrays([atoms.numbers], [atoms.positions])
    lists = table.neighbours(6.0)
    i, j = neighbor_list("ij", atoms, 6.0)
    order = np.lexsort((j, i))
    np.testing.assert_array_equal(lists.index, j[order])
    np.testing.assert_array_equal(lists.counts, np.bincount(i, minlength=500))
    i, _, d = neighbor_list("ijd", atoms, 6.0)
    assert table.shortest_distances()[0] == pytest.approx(d.min())


@pytest.mark.parametrize("dense", [True, False])
def test_a_batch_holds_what_the_table_holds(dense: bool) -> None:
    table = random_table([3, 6, 1, 5])
    k = int(table.neighbours(4.0).counts.max())
    batch = pad(table, np.array([3, 0]), Shape(3, 8, None if dense else k + 2), 4.0)
    for row, m in enumerate([3, 0]):
        atoms = slice(table.atom_start[m], table.atom_start[m + 1])
        n = table.sizes[m]
        assert (batch.numbers[row, :n] == table.numbers[atoms]).all()
        assert (batch.numbers[row, n:] == 0).all()
        moved = batch.positions[row, :n] - table.positions[atoms]
        np.testing.assert_allclose(moved, moved[:1].repeat(n, 0), atol=1e-6)
        np.testing.assert_allclose(batch.forces[row, :n], table.forces[atoms], rtol=1e-6)
        np.testing.assert_allclose(batch.energy[row], table.energy[m], rtol=1e-6)
        if batch.neighbours is not None:
            listed = {(i, int(j)) for i in range(n) for j in batch.neighbours[row, i] if i != j}
            assert listed == brute_pairs(table.positions[atoms], 4.0)
    assert (batch.numbers[2] == 0).all()
    assert batch.energy_known.tolist() == [1, 1, 0]


def test_far_from_the_origin_float32_positions_keep_their_digits() -> None:
    x = np.array([[1e5, 0.0, 0.0], [1e5 + 0.7412345678, 0.0, 0.0]])
    batch = pad(Structures.from_arrays([np.array([1, 1])], [x]), np.arange(1), Shape(1, 2, None), 5.0)
    assert batch.positions.dtype == np.float32
    assert abs(batch.positions[0, 1, 0] - batch.positions[0, 0, 0] - 0.7412345678) < 1e-7


def test_missing_labels_are_masked_and_never_zero() -> None:
    nan = np.nan
    table = Structures.from_frames(
        [
            Row([1, 1], [[0, 0, 0], [0, 0, 1.0]], {"energy": -3.0}),
            Row([1, 1], [[0, 0, 0], [0, 0, 1.0]], {"forces": [[0, 0, 1.0], [nan, nan, nan]]}),
        ],
        "a.xyz",
    )
    assert np.isnan(table.energy).tolist() == [False, True]
    assert np.isnan(table.forces).all(axis=1).tolist() == [True, True, False, True]
    batch = pad(table, np.arange(2), Shape(2, 3, None), 5.0)
    assert batch.energy_known.tolist() == [1, 0]
    assert batch.forces_known.tolist() == [[0, 0, 0], [1, 0, 0]]
    assert all(np.isfinite(leaf).all() for leaf in batch if leaf is not None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no structures"),
        ([Row(None, None)], "no geometry"),
        ([Row([1], [[0, 0, 0]], {"pbc": [False, False, True]})], "does not span"),
        ([Row([1, 1], [[0, 0, 0], [0, 0, 0.001]])], "closer than"),
        ([Row([1, 1], [[0, 0, 0], [0, 0, 1]], {"forces": [[0, 0, 1]]})], "forces have shape"),
    ],
)
def test_frames_that_cannot_be_used_are_refused_by_file_and_line(rows: list[Row], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Structures.from_frames(rows, "bad.xyz")
    assert str(caught.value).startswith("bad.xyz:7" if rows else "bad.xyz")


def test_chosen_sizes_are_the_cheapest_of_all_choices() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 4):
        sizes = rng.integers(1, 12, size=40)

        def cost(chosen: tuple[int, ...], sizes: np.ndarray = sizes) -> int:
            return int((np.array(chosen)[np.searchsorted(chosen, sizes)] ** 2).sum())

        top = int(sizes.max())
        others = [int(s) for s in np.unique(sizes) if s != top]
        best = min(cost((*few, top)) for few in itertools.combinations(others, min(n - 1, len(others))))
        padded_sizes = choose_sizes(sizes, n)
        assert len(padded_sizes) <= n
        assert cost(padded_sizes) == best


def test_rounding_up_never_adds_more_than_half() -> None:
    for n in range(1, 2000):
        assert n <= round_up(n) <= max(n, 1.5 * n)


def test_an_epoch_is_the_same_again_and_others_differ() -> None:
    table = random_table([4] * 10 + [6] * 7)
    batch_shapes, which = shapes(table, 5.0, (4, 6), molecules=3, pairs=0, multiple=2)
    assert [s.molecules for s in batch_shapes] == [4, 4]
    batches = StructureBatches(table, tuple(batch_shapes), which, 5.0, seed=3)
    plans = [[rows.tolist() for _, rows in batches.plan(i)] for i in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    assert len(plans[0]) == batches.steps_per_epoch == 3
    assert all(len(rows) == 4 for rows in plans[0])
    for batch in batches.epoch(0):
        assert all(leaf.shape[0] % 2 == 0 for leaf in batch if leaf is not None)


def test_without_a_seed_every_molecule_comes_once() -> None:
    table = random_table([4, 9, 4, 2, 4, 9])
    batch_shapes, which = shapes(table, 5.0, choose_sizes(table.sizes, 2), molecules=2, pairs=0)
    batches = StructureBatches(table, tuple(batch_shapes), which, 5.0, seed=None)
    rows = np.concatenate([rows for _, rows in batches.plan(0)])
    assert sorted(rows) == list(range(6))
    assert sum(int((b.numbers > 0).sum()) for b in batches.epoch(0)) == table.sizes.sum()


def test_taking_and_concatenating_keep_molecules_whole() -> None:
    table = random_table([3, 5, 2])
    both = Structures.concatenate([table.take(np.array([2])), table.take(np.array([0, 1]))])
    back = both.take(np.array([1, 2, 0]))
    for name in ("atom_start", "numbers", "positions", "energy", "forces"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
