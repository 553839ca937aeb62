"""Error bars of a single network against Bayesian regression, and distances to the training data."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from small_potential import SMALL, potential, scattered

from data.structures.batches import StructureBatches, shapes
from data.structures.structures import Structures
from surrogates.potentials import last_layer
from surrogates.potentials.energy import EnergyModel
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.last_layer import LastLayer, distance, fit_last_layer
from surrogates.potentials.networks.ace import ACEConfig
from surrogates.potentials.surrogate import PotentialSurrogate

#: Each is one program for a shape, instead of one for each of its operations.
sensitivity, spread = nnx.jit(last_layer.sensitivity), nnx.jit(last_layer.spread)


@functools.cache
def asked() -> PotentialSurrogate:
    """The potential whose answers are the labels, compiled once."""
    return potential()


def answers(model: EnergyModel, table: Structures) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces, 40 molecules at a time."""
    for mine, its in zip(*(jax.tree.leaves(nnx.state(m)) for m in (model, asked().model)), strict=True):
        np.testing.assert_array_equal(mine, its)
    parts = [table.take(np.arange(k, min(k + 40, len(table)))) for k in range(0, len(table), 40)]
    said = [asked().predict_structures(part, sizes=(6,)) for part in parts]
    return np.concatenate([part.energy for part in said]), np.concatenate([part.forces for part in said])


def labelled(count: int, model: EnergyModel, noise: float, seed: int, forces: bool) -> Structures:
    """Random clusters with the model's own energies (and forces), and Gaussian errors."""
    table = scattered(count, 6, seed)
    energies, answer_forces = answers(model, table)
    rng = np.random.default_rng(seed)
    energy = energies - potential().facts.references.energy(table) + noise * rng.normal(size=count)
    return Structures.from_arrays(
        [table.numbers[a:b] for a, b in zip(table.atom_start, table.atom_start[1:], strict=False)],
        [table.positions[a:b] for a, b in zip(table.atom_start, table.atom_start[1:], strict=False)],
        list(energy),
        [
            answer_forces[a:b] + noise * rng.normal(size=(b - a, 3)) if forces else None
            for a, b in zip(table.atom_start, table.atom_start[1:], strict=False)
        ],
    )


def batches(table: Structures, molecules: int = 40) -> StructureBatches:
    """Batches of one shape, so that little is compiled."""
    cutoff = potential().cutoff_angstrom
    batch_shapes, which = shapes(table, cutoff, (6,), molecules=molecules, pairs=0)
    return StructureBatches(table, tuple(batch_shapes), which, cutoff, None)


def test_the_posterior_of_energies_is_that_of_bayesian_linear_regression() -> None:
    model = potential().model
    table = labelled(80, model, 0.05, 0, forces=False)
    layer = fit_last_layer(model, batches(table), committee=2)
    # The same from the definition, with all of phi at hand and in double precision.
    rows = [np.asarray(sensitivity(model, b.system), np.float64)[b.energy_known > 0] for b in batches(table).epoch(0)]
    phi = np.concatenate(rows)
    energies, _ = answers(model, table)
    error = energies - potential().facts.references.energy(table) - table.energy
    c = phi.shape[1]
    exact = np.linalg.inv(c * np.eye(c) + phi.T @ phi / np.mean(error**2))
    np.testing.assert_allclose(layer.covariance, exact, rtol=2e-2, atol=2e-3 * np.abs(exact).max())
    batch = next(iter(batches(table).epoch(0)))
    std, _ = spread(model, layer.covariance, layer.deviations, batch.system)
    p = np.asarray(sensitivity(model, batch.system), np.float64)
    np.testing.assert_allclose(std, np.sqrt(np.einsum("mc,cd,md->m", p, exact, p)), rtol=2e-2, atol=1e-5)


def test_forces_sharpen_the_posterior_and_more_labels_more() -> None:
    model = potential().model
    few = fit_last_layer(model, batches(labelled(40, model, 0.05, 0, forces=False)), committee=2)
    with_forces = fit_last_layer(model, batches(labelled(40, model, 0.05, 0, forces=True)), committee=2)
    many = fit_last_layer(model, batches(labelled(200, model, 0.05, 1, forces=True)), committee=2)
    sizes = [np.trace(layer.covariance) for layer in (few, with_forces, many)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_committee_has_the_variance_of_the_posterior() -> None:
    model = potential().model
    layer = fit_last_layer(model, batches(labelled(40, model, 0.1, 0, forces=True)), committee=1500)
    drawn = layer.deviations.T @ layer.deviations / 1500
    np.testing.assert_allclose(drawn, layer.covariance, atol=0.1 * np.abs(np.diag(layer.covariance)).max())
    # Forces: the committee's spread is the root of J C J^T, with J by finite differences of phi.
    table = scattered(1, 6, 5)
    batch = next(iter(batches(table, molecules=1).epoch(0)))
    _, std = spread(model, layer.covariance, layer.deviations, batch.system)
    h, n = 2e-3, int(table.sizes[0])
    for atom, axis in ((0, 0), (n - 1, 2)):
        step = np.zeros_like(batch.positions)
        step[0, atom, axis] = h
        ends = [sensitivity(model, batch.system._replace(positions=batch.positions + s * step)) for s in (1, -1)]
        slope = np.asarray((ends[0] - ends[1])[0], np.float64) / (2 * h)
        assert float(std[0, atom, axis]) == pytest.approx(np.sqrt(slope @ layer.covariance @ slope), rel=0.1)


def test_crushed_molecules_are_farther_than_those_that_were_learned_from() -> None:
    model = potential().model
    table = scattered(80, 6, 0)
    layer = fit_last_layer(model, batches(labelled(80, model, 0.1, 0, forces=False)), committee=0)
    measure = jax.jit(lambda s: distance(model, layer.whitening, s))

    def far(structures: Structures) -> np.ndarray:
        distances = []
        for (_, rows), batch in zip(batches(structures).plan(0), batches(structures).epoch(0), strict=True):
            distances.append(np.asarray(measure(batch.system))[: len(rows)])
        return np.concatenate(distances)

    seen = far(table)
    crushed = Structures.from_arrays(
        [table.numbers[a:b] for a, b in zip(table.atom_start[:8], table.atom_start[1:9], strict=True)],
        [0.3 * table.positions[a:b] for a, b in zip(table.atom_start[:8], table.atom_start[1:9], strict=True)],
    )
    assert 0.3 < np.median(seen) < 3.0
    assert np.median(far(crushed)) > 1.2 * np.median(seen)
    assert far(crushed).max() > 1.5 * seen.max()


def test_a_layer_is_saved_and_read_and_its_scale_scales_standard_deviations() -> None:
    model = potential().model
    layer = fit_last_layer(model, batches(labelled(40, model, 0.1, 0, forces=True)), committee=3)
    back = LastLayer.of(layer.arrays())
    np.testing.assert_allclose(back.deviations, layer.deviations, rtol=1e-6)
    batch = next(iter(batches(scattered(4, 6, 2)).epoch(0)))
    one = spread(model, layer.covariance, layer.deviations, batch.system)
    two = spread(model, *(getattr(layer.scale_deviations(2.0), k) for k in ("covariance", "deviations")), batch.system)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, 2 * np.asarray(a), rtol=1e-4, atol=1e-7)


def test_a_committee_of_one_is_refused_and_an_ensemble_needs_none() -> None:
    with pytest.raises(ValueError, match="committee"):
        PotentialConfig(network=SMALL["ace"], committee=1)
    assert PotentialConfig(network=SMALL["ace"], committee=4, ensemble=2).draws == 0


def test_features_of_a_molecule_are_those_of_its_parts_far_apart() -> None:
    config = ACEConfig(features=6, layers=1, degree=2, cutoff_angstrom=3.0, basis_size=4, radial=2)
    model = EnergyModel(config, 1, 1.0, [{}], nnx.Rngs(0))
    x = np.array([[0.0, 0, 0], [1.1, 0, 0]])
    z = np.array([6, 8])
    table = Structures.from_arrays([z, np.concatenate([z, z])], [x, np.concatenate([x, x + 30.0])])
    phi = np.concatenate(
        [np.asarray(sensitivity(model, b.system))[: len(r)] for (_, r), b in
         zip(batches(table).plan(0), batches(table).epoch(0), strict=True)]
    )  # fmt: skip
    np.testing.assert_allclose(phi[1], 2 * phi[0], rtol=1e-4, atol=1e-5)
