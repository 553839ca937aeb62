"""The loss of energies and forces: its terms, and weights that change during training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from small_potential import potential, scattered

from data.structures.batches import Shape, StructureBatches, pad
from data.structures.structures import Structures
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.potentials.energy import EnergyForcesLoss, evaluate
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import fit_potential_surrogate
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.surrogate import PotentialSurrogate

TWO_STAGES = EnergyForcesLoss(1.0, 10.0, final_energy_weight=5.0, final_forces_weight=2.0, final_from=0.8)


def labelled(count: int, seed: int = 0) -> Structures:
    """Clusters with random labels from a fixed seed."""
    bare, rng = scattered(count, 6, seed), np.random.default_rng(seed)
    return replace(bare, energy=rng.normal(size=count), forces=rng.normal(size=bare.positions.shape))


def test_weights_switch_or_ramp_at_the_share_that_is_asked_for() -> None:
    weights = [TWO_STAGES.weights(p).tolist() for p in (0.0, 0.79, 0.81, 1.0)]
    assert weights == [[1.0, 10.0], [1.0, 10.0], [5.0, 2.0], [5.0, 2.0]]
    ramp = EnergyForcesLoss(1.0, 10.0, final_energy_weight=5.0, final_from=0.8, final_ramp=0.4)
    energy = [float(ramp.weights(p)[0]) for p in (0.0, 0.4, 0.5, 0.6, 0.8, 1.0)]
    np.testing.assert_allclose(energy, [1.0, 1.0, 2.0, 3.0, 5.0, 5.0], rtol=1e-6)
    # A weight without a final value does not change.
    assert all(float(ramp.weights(p)[1]) == 10.0 for p in (0.0, 0.6, 1.0))


def test_the_loss_is_its_weighted_terms_in_units_of_the_scale() -> None:
    model, table = potential(scale=0.5, members=2).model, labelled(3)
    batch = pad(table, np.arange(3), Shape(4, 8, None), 3.0)
    ask = jax.jit(lambda p: (TWO_STAGES(model, batch, jax.random.key(0), p), evaluate(model, batch)))
    energy, forces = jax.device_get(ask(np.float32(0))[1])
    energies, lengths = [], []
    for m, n in enumerate(table.sizes):
        energies.append(np.abs(energy[:, m] - table.energy[m]) / n)
        truth = table.forces[table.atom_start[m] : table.atom_start[m + 1]]
        lengths.append(np.linalg.norm(forces[:, m, :n] - truth, axis=-1))
    terms = np.mean(energies), np.mean(np.concatenate(lengths, axis=1))
    for progress, weights in ((0.0, (1.0, 10.0)), (0.7, (1.0, 10.0)), (0.9, (5.0, 2.0))):
        value, stats = ask(np.float32(progress))[0]
        assert float(value) == pytest.approx(np.dot(weights, terms) / 0.5, rel=1e-5)
        total, count = stats["loss"]
        assert float(total / count) == pytest.approx(float(value), rel=1e-6)
    assert ask._cache_size() == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"energy_weight": -1.0},
        {"energy_weight": 0.0, "forces_weight": 0.0},
        {"forces_weight": 0.0, "final_energy_weight": 0.0},
        {"final_from": 1.1},
        {"final_from": 0.2, "final_ramp": 0.3},
    ],
)
def test_weights_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"weights|final_ramp"):
        EnergyForcesLoss(**bad)


def test_a_broken_training_of_an_ensemble_with_muon_and_two_stages_ends_with_the_very_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PotentialConfig(
        network=PaiNNConfig(features=8, layers=1, cutoff_angstrom=3.0, basis_size=8),
        ensemble=2, buckets=1,
        loss=EnergyForcesLoss(energy_weight=0.1, final_energy_weight=2.0, final_from=0.5, final_ramp=0.25),
    )  # fmt: skip
    training = TrainConfig(epochs=4, optimiser="muon", learning_rate=1e-2, batch_size=8, checkpoint_every_s=0.0)
    train, valid = labelled(24), labelled(8, 1)

    def run(folder: Path, training: TrainConfig = training) -> tuple[PotentialSurrogate, FitResult]:
        return fit_potential_surrogate(train, valid, config, training, folder, label_fingerprint="none", progress=False)

    whole, result = run(tmp_path / "whole", replace(training, checkpoint_every_s=None))
    assert result.compilations == {"train": 1, "valid": 1}
    epoch = StructureBatches.epoch

    def broken(self: StructureBatches, index: int) -> Iterator[Any]:
        if index == 3:
            raise OSError("the disk is gone")
        return epoch(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(StructureBatches, "epoch", broken)
        with pytest.raises(OSError, match="disk"):
            run(tmp_path / "broken")
    resumed, again = run(tmp_path / "broken")
    assert [row["epoch"] for row in again.history] == [1, 2, 3, 4]
    for a, b in zip(leaves(whole), leaves(resumed), strict=True):
        assert a.tobytes() == b.tobytes()


def leaves(surrogate: PotentialSurrogate) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(nnx.state(surrogate.model, nnx.Param))]
