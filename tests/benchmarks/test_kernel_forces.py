"""The kernel model of forces: its forces are minus the gradient of its energy, and it learns what it is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation
from small_potential import WATER

from benchmarks.kernel_forces import InverseDistances, KernelForces
from data.structures.structures import Structures


def springs(count: int, seed: int = 0) -> Structures:
    """Shaken water molecules with springs between all pairs of atoms, which are exact energies and forces."""
    rng = np.random.default_rng(seed)
    x = WATER + 0.05 * rng.normal(size=(count, 3, 3))
    along = x[:, :, None] - x[:, None]
    far = np.linalg.norm(along, axis=-1) + np.eye(3)
    rest = np.linalg.norm(WATER[:, None] - WATER[None], axis=-1) + np.eye(3)
    energy = 2.5 * ((far - rest) ** 2).sum(axis=(1, 2))
    forces = -10.0 * ((far - rest) / far)[..., None] * along
    return Structures.from_arrays([np.array([8, 1, 1])] * count, list(x), list(energy), list(forces.sum(axis=2)))


def test_it_learns_springs_and_its_forces_are_the_gradient_of_its_energy() -> None:
    train, test = springs(50), springs(10, seed=1)
    model = KernelForces.fit(InverseDistances.of(train), train.forces.reshape(50, 9), train.energy)
    energy, forces = model.predict(InverseDistances.of(test))
    assert np.abs(forces - test.forces.reshape(10, 9)).mean() < 0.05 * np.abs(test.forces).mean()
    assert np.abs(energy - test.energy).mean() < 0.02 * test.energy.std()
    step = 1e-4
    for coordinate in (0, 4, 8):
        moved = []
        for sign in (1, -1):
            x = test.positions.reshape(10, 9).copy()
            x[:, coordinate] += sign * step
            moved.append(model.predict(InverseDistances.of(replace(test, positions=x.reshape(-1, 3))))[0])
        np.testing.assert_allclose(forces[:, coordinate], (moved[1] - moved[0]) / (2 * step), atol=1e-5)
    turn = Rotation.random(random_state=3).as_matrix()
    turned = model.predict(InverseDistances.of(replace(test, positions=test.positions @ turn.T + 5.0)))
    np.testing.assert_allclose(turned[0], energy, atol=1e-9)
    np.testing.assert_allclose(turned[1].reshape(-1, 3), forces.reshape(-1, 3) @ turn.T, atol=1e-9)
