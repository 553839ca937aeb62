"""Corrections of a cheap simulator: truth that is known, the left-out errors, and the choice of labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor

from data.errors import InputError
from surrogates.cascade.correction import Correction, Tanimoto, most_informative


def molecules(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cheap answers, counts, and a truth that is a line through the answers and an offset for each of four groups."""
    rng = np.random.default_rng(seed)
    answers = rng.normal(size=(count, 2)) * [1.0, 3.0] + [5.0, -2.0]
    group = rng.integers(4, size=count)
    counts = rng.poisson(0.2, size=(count, 24)).astype(float)
    counts[:, :4] = 6.0 * np.eye(4)[group]
    return answers, counts, 1.5 * answers[:, 0] - 0.4 * answers[:, 1] + np.array([0.0, 2.0, -2.0, 4.0])[group]


@pytest.fixture(scope="module")
def correction() -> Correction:
    return Correction.fit(*molecules(60, 0))


def test_a_line_and_offsets_of_groups_are_learned(correction: Correction) -> None:
    answers, counts, truth = molecules(200, 1)
    mean, std = correction.predict(answers, counts)
    line = np.linalg.lstsq(np.c_[np.ones(200), answers], truth, rcond=None)[0]
    assert np.abs(mean - truth).mean() < 0.15 * np.abs(np.c_[np.ones(200), answers] @ line - truth).mean()
    assert 0.8 < np.mean(np.abs(mean - truth) <= correction.factor * std) <= 1.0


def test_left_out_errors_are_those_of_a_process_without_the_label(correction: Correction) -> None:
    answers, counts, truth = molecules(60, 0)
    process, x = correction.process, np.c_[correction.scale.apply(answers), counts]
    for row in (0, 31):
        others = np.arange(60) != row
        # The same kernel and the same scale of the labels, fitted to the others.
        scaled = (truth - truth.mean()) / truth.std()
        fresh = GaussianProcessRegressor(clone(process.kernel_), optimizer=None, alpha=process.alpha)
        fresh.fit(x[others], scaled[others])
        mean, std = fresh.predict(x[[row]], return_std=True)
        assert correction.left_out[row] == pytest.approx((mean[0] - scaled[row]) * truth.std(), abs=1e-6)
        assert correction.left_out_std[row] == pytest.approx(std[0] * truth.std(), rel=1e-5)


def test_a_molecule_without_an_answer_has_no_prediction(correction: Correction) -> None:
    answers, counts, _ = molecules(3, 2)
    answers[1, 0] = np.nan
    mean, std = correction.predict(answers, counts)
    assert np.isfinite(mean).tolist() == np.isfinite(std).tolist() == [True, False, True]


def test_the_kernel_is_the_share_of_what_two_molecules_have() -> None:
    x = np.array([[9.0, 2, 0, 1], [7.0, 1, 1, 1], [1.0, 0, 0, 0]])
    # min: 1 + 0 + 1, max: 2 + 1 + 1; the first column is no count, and two molecules without any are alike.
    assert Tanimoto(1)(x).tolist() == [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_the_choice_leaves_less_variance_than_any_other_first_label() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(12, 5))
    covariance = root @ root.T + 0.1 * np.eye(12)

    def left(row: int) -> float:
        rest = covariance - np.outer(covariance[row], covariance[row]) / covariance[row, row]
        return float(np.trace(rest))

    chosen = most_informative([covariance], 4)
    assert len(set(chosen)) == 4
    assert left(chosen[0]) == pytest.approx(min(left(row) for row in range(12)))
    assert sorted(most_informative([covariance], 99)) == list(range(12))


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(InputError, match="8 labels cannot correct"):
        Correction.fit(*molecules(8, 0))
