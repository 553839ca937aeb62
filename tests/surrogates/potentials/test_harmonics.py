"""Spherical harmonics and quadratures against SciPy, orthonormality, and how they rotate."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from surrogates.potentials.networks.harmonics import half_sphere, harmonics, reference, sphere


def evaluated(degree: int, points: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return np.stack([np.asarray(y) for y in harmonics(degree, points.T)], axis=1)


def directions(count: int) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_they_are_scipys_and_the_first_are_the_known_polynomials() -> None:
    points = directions(50)
    columns = evaluated(6, points)
    np.testing.assert_allclose(columns, reference(6, points), atol=1e-12)
    x, y, z = points.T
    np.testing.assert_allclose(columns[:, 0], 1.0, atol=1e-14)
    np.testing.assert_allclose(columns[:, 1:4], np.sqrt(3) * np.stack([y, z, x], axis=1), atol=1e-14)
    np.testing.assert_allclose(columns[:, 6], np.sqrt(5) * (1.5 * z * z - 0.5), atol=1e-13)


def test_the_quadrature_makes_them_orthonormal() -> None:
    points, weights = sphere(8)
    y = evaluated(4, points)
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose((y * weights[:, None]).T @ y, np.eye(25), atol=1e-13)


@pytest.mark.parametrize("degree", [3, 6, 9, 10, 18])
def test_a_rule_integrates_powers_exactly_up_to_its_degree(degree: int) -> None:
    points, weights = sphere(degree)
    even = degree - degree % 2
    # The mean of z^n over the sphere is 1 / (n + 1) for even n, and 0 for odd n.
    assert weights @ points[:, 2] ** even == pytest.approx(1.0 / (even + 1), abs=1e-13)
    assert weights @ points[:, 2] ** (degree - 1 + degree % 2) == pytest.approx(0.0, abs=1e-13)


def test_no_rule_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="degree 40"):
        sphere(40)


def test_each_degree_turns_within_itself() -> None:
    points, weights = sphere(8)
    turn = Rotation.random(random_state=0).as_matrix()
    y, turned = evaluated(4, points), evaluated(4, points @ turn.T)
    mixing = (y * weights[:, None]).T @ turned
    np.testing.assert_allclose(mixing @ mixing.T, np.eye(25), atol=1e-12)
    for degree in range(5):
        rows = slice(degree**2, (degree + 1) ** 2)
        outside = np.delete(mixing[rows], np.arange(25)[rows], axis=1)
        np.testing.assert_allclose(outside, 0.0, atol=1e-12)
    np.testing.assert_allclose(turned, y @ mixing, atol=1e-12)


@pytest.mark.parametrize("degree", [5, 8, 9, 13])
def test_half_of_the_points_take_the_mean_of_even_functions(degree: int) -> None:
    points, weights = half_sphere(degree)
    assert 2 * len(points) == len(sphere(degree)[0])
    assert weights.sum() == pytest.approx(1.0)
    y = reference(degree // 2, points)
    even = np.concatenate([y[:, n * n : (n + 1) ** 2] for n in range(0, degree // 2 + 1, 2)], axis=1)
    np.testing.assert_allclose((even * weights[:, None]).T @ even, np.eye(even.shape[1]), atol=1e-12)
