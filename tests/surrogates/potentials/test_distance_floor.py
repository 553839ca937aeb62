"""Shortest distances by a plain double loop, what networks see below them, and what squeezed molecules are answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import chemical_symbols, covalent_radii
from hypothesis import given
from hypothesis import strategies as st

from data.structures.structures import Structures
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.distance_floor import CONSTANT, ends, seen_distance, shorter, shortest_distances
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import FineTuning, fit_potential_surrogate
from surrogates.potentials.networks.ace import ACEConfig
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.surrogate import PotentialSurrogate

NETWORKS = {
    "ace": ACEConfig(features=8, layers=1, degree=2, hidden_degree=0, cutoff_angstrom=3.0, basis_size=4, radial=2),
    "painn": PaiNNConfig(features=8, layers=1, cutoff_angstrom=3.0, basis_size=4),
}


@given(
    st.lists(st.lists(st.sampled_from([1, 6, 8]), min_size=1, max_size=4), min_size=1, max_size=3), st.integers(0, 9)
)
def test_shortest_distances_are_those_of_a_double_loop(molecules: list[list[int]], seed: int) -> None:
    generator, cutoff = np.random.default_rng(seed), 3.0
    positions = [generator.uniform(0, 4, (len(z), 3)) for z in molecules]
    expected: dict[str, float] = {}
    for z, x in zip(molecules, positions, strict=True):
        for i in range(len(z)):
            for j in range(i):
                name = "-".join(sorted((chemical_symbols[z[i]], chemical_symbols[z[j]])))
                distance = float(np.linalg.norm(x[i] - x[j]))
                if distance < cutoff:
                    expected[name] = min(expected.get(name, np.inf), distance)
    table = Structures.from_arrays([np.array(z) for z in molecules], positions)
    assert shortest_distances(table, cutoff) == pytest.approx(expected)


def test_images_of_a_crystal_count() -> None:
    lattice = np.diag([2.5, 2.0, 9.0])
    crystal = Structures.from_arrays(
        [np.array([11, 17])], [np.array([[0.0, 0, 0], [1.5, 0, 0]])], lattice=lattice[None]
    )
    distances = shortest_distances(crystal, 3.0)
    assert distances == pytest.approx({"Na-Na": 2.0, "Cl-Cl": 2.0, "Cl-Na": 1.0})


def test_two_sets_together_have_the_shorter_of_each_pair() -> None:
    assert shorter({"C-C": 1.3, "C-H": 1.0}, {"C-C": 1.2, "O-O": 2.0}) == {"C-C": 1.2, "C-H": 1.0, "O-O": 2.0}


def test_ends_lie_below_what_was_seen_and_at_the_radii_of_what_was_not() -> None:
    table = ends({"C-H": 0.9, "O-O": 4.0}, 0.95, 0.75)
    assert table[1, 6] == table[6, 1] == pytest.approx(0.855)
    assert table[6, 6] == pytest.approx(0.75 * 2 * covalent_radii[6])
    # Oxygen atoms that were never close have no collision at 3.8 Angstrom.
    assert table[8, 8] == pytest.approx(4 * covalent_radii[8])


@pytest.mark.parametrize("end", [0.7, 2.3])
def test_the_network_sees_the_distance_itself_above_the_end_and_a_constant_well_below(end: float) -> None:
    with jax.enable_x64(True):
        share = np.linspace(0.05, 1.5, 400)
        see = jax.vmap(lambda r: seen_distance(r, jnp.asarray(end)))
        slope = jax.vmap(jax.grad(lambda r: seen_distance(r, jnp.asarray(end))))
        bend = jax.vmap(jax.grad(jax.grad(lambda r: seen_distance(r, jnp.asarray(end)))))
        seen, first, second = (np.asarray(f(jnp.asarray(share * end))) for f in (see, slope, bend))
    above, below = share > 1, share < CONSTANT
    np.testing.assert_array_equal(seen[above], share[above] * end)
    np.testing.assert_allclose(seen[below], end * (1 + CONSTANT) / 2, rtol=1e-12)
    assert (np.diff(seen) >= 0).all()
    np.testing.assert_array_equal(first[above], 1.0)
    np.testing.assert_array_equal(first[below], 0.0)
    # The slope falls from 1 to 0 over the width without a jump of itself or of its own slope.
    width = (1 - CONSTANT) * end
    edge = np.array([end * CONSTANT, end])
    near = np.asarray(slope(jnp.asarray(edge + width * np.array([1e-3, -1e-3]))))
    np.testing.assert_allclose(near, [0.0, 1.0], atol=1e-6)
    assert np.abs(second).max() < 2.0 / width


@pytest.fixture(scope="module")
def frames() -> Structures:
    """Water that vibrates about its geometry, with harmonic labels."""
    generator = np.random.default_rng(0)
    still = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    moves = 0.05 * generator.normal(size=(16, 3, 3))
    table = Structures.from_arrays([np.array([8, 1, 1])] * 16, list(still + moves))
    return replace(table, energy=20.0 * (moves**2).sum(axis=(1, 2)), forces=-40.0 * moves.reshape(-1, 3))


@pytest.fixture(scope="module")
def trained(frames: Structures, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PotentialSurrogate]:
    def train(name: str) -> PotentialSurrogate:
        config = PotentialConfig(
            network=NETWORKS[name], repulsion=True, repulsion_reach=0.75, distance_floor=0.95, committee=2
        )
        training = TrainConfig(epochs=2, batch_size=8, patience=None)
        folder = tmp_path_factory.mktemp(name)
        return fit_potential_surrogate(frames, None, config, training, folder, label_fingerprint="x", progress=False)[0]

    return {name: train(name) for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_above_the_floor_are_those_of_the_network_alone(
    name: str, trained: dict[str, PotentialSurrogate], frames: Structures
) -> None:
    potential = trained[name]
    assert set(potential.facts.shortest) == {"H-H", "H-O"}
    plain = potential.with_facts(config=replace(potential.facts.config, distance_floor=0.0, repulsion=False))
    one, other = (each.predict_structures(frames, error_bars=False) for each in (potential, plain))
    np.testing.assert_allclose(one.energy, other.energy, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-5)
    assert (potential.novelties(frames) <= 1).mean() >= 15 / 16
    # The copy sees all distances, and so differs where bonds are squeezed.
    squeezed = frames.take(np.arange(1))
    squeezed = replace(squeezed, positions=0.6 * squeezed.positions)
    assert abs(potential.predict_structures(squeezed).energy - plain.predict_structures(squeezed).energy) > 1.0


@pytest.mark.parametrize("name", NETWORKS)
def test_squeezed_bonds_repel_ever_more_and_are_outside_of_the_domain(
    name: str, trained: dict[str, PotentialSurrogate], tmp_path: Path
) -> None:
    trained[name].save(tmp_path / "saved")
    potential = PotentialSurrogate.load(tmp_path / "saved")
    end = 0.95 * potential.facts.shortest["H-O"]
    lengths = end * CONSTANT * np.linspace(1.0, 0.3, 15)
    squeezed = [np.array([[0.0, 0, 0], [r, 0, 0], [-0.24, 0.93, 0]]) for r in lengths]
    table = Structures.from_arrays([np.array([8, 1, 1])] * len(lengths), squeezed)
    answer = potential.predict_structures(table)
    assert answer.energy is not None
    assert answer.in_domain is not None
    assert (np.diff(answer.energy) > 0).all()
    assert (np.diff(answer.forces[1::3, 0]) > 0).all()
    assert not np.asarray(answer.in_domain, bool).any()
    assert (potential.novelties(table) > 1).all()
    # Forces are slopes of the energy here too.
    step = 2e-3
    for r in lengths[4:12:4]:
        pair = [np.array([[0.0, 0, 0], [r + s * step, 0, 0], [-0.24, 0.93, 0]]) for s in (1, -1)]
        two = potential.predict_structures(Structures.from_arrays([np.array([8, 1, 1])] * 2, pair)).energy
        assert two is not None
        row = int(np.flatnonzero(lengths == r)[0])
        assert answer.forces[3 * row + 1, 0] == pytest.approx(-(two[0] - two[1]) / (2 * step), rel=2e-2)


def test_closer_atoms_of_further_labels_lower_the_floor_and_farther_ones_do_not_raise_it(
    trained: dict[str, PotentialSurrogate], frames: Structures, tmp_path: Path
) -> None:
    potential = trained["ace"]
    before = potential.facts.shortest
    # Hydrogen atoms come closer to each other, and no bond is shorter than those of before.
    positions = 1.1 * frames.positions.reshape(-1, 3, 3)
    positions[0] = [[0.0, 0, 0], [0.96, 0, 0], [0.3, 0.9, 0]]
    further = replace(frames, positions=positions.reshape(-1, 3))
    after, _ = fit_potential_surrogate(
        further,
        None,
        potential.facts.config,
        TrainConfig(epochs=1, batch_size=8, patience=None),
        tmp_path,
        label_fingerprint="y",
        head="further",
        tune=FineTuning(potential),
        progress=False,
    )
    closer = float(np.hypot(0.66, 0.9))
    assert closer < before["H-H"]
    assert after.facts.shortest == pytest.approx({"H-H": closer, "H-O": before["H-O"]})
