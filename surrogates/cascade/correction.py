"""The expensive simulator's value from a cheap simulator's answers and the molecule: a Gaussian process.

The prior covariance of two molecules is a sum of a linear and a squared exponential kernel of the cheap answers and of
the Tanimoto kernel of their Morgan counts (Ralaivola, Swamidass, Saigo and Baldi, Neural Networks 2005, 18, 1093):
the error of a cheap method is smooth in its own answers, and alike for molecules with the same groups. The weights of
the parts, the length and the noise maximise the marginal likelihood (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, chapter 5).

The standard deviations are calibrated with the errors of labels that are each left out, which follow from one
factorisation (the same, equation 5.12). Left-out errors are not errors of new molecules to the letter, so that the
coverage is measured on held-out labels as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    Kernel,
    NormalizedKernelMixin,
    WhiteKernel,
)

from data.errors import InputError
from surrogates.learning.conformal import ALPHA, conformal_factor, fewest_points
from surrogates.learning.normalise import Standardise

#: Fewest labels from which a correction is fitted.
FEWEST_LABELS = fewest_points(ALPHA)


class _OfAnswers:
    """A kernel of scikit-learn that reads the first `answers` columns, the cheap answers.

    Args:
        answers: number of these columns.
    """

    answers: int

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """The covariance of the rows of X and Y."""
        X, Y = X[:, : self.answers], None if Y is None else Y[:, : self.answers]
        return super().__call__(X, Y, eval_gradient)  # type: ignore[misc]

    def diag(self, X: Any) -> Any:
        """The diagonal of the covariance."""
        return super().diag(X[:, : self.answers])  # type: ignore[misc]


class _Smooth(_OfAnswers, RBF):  # type: ignore[misc]
    def __init__(self, answers: int = 1, length_scale: float = 2.0, length_scale_bounds: Any = (0.3, 30.0)) -> None:
        super().__init__(length_scale, length_scale_bounds)
        self.answers = answers


class _Linear(_OfAnswers, DotProduct):  # type: ignore[misc]
    def __init__(self, answers: int = 1, sigma_0: float = 1.0, sigma_0_bounds: Any = "fixed") -> None:
        super().__init__(sigma_0, sigma_0_bounds)
        self.answers = answers


class Tanimoto(NormalizedKernelMixin, Kernel):  # type: ignore[misc]
    """sum(min(x, y)) / sum(max(x, y)) of the counts x and y, the columns from number `answers` on; 1 if both are empty.

    Args:
        answers: number of columns that are no counts.
    """

    def __init__(self, answers: int = 0) -> None:
        self.answers = answers

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """The covariance of the rows of X and Y, and an empty gradient: the kernel has no parameters."""
        x = X[:, self.answers :]
        y = x if Y is None else Y[:, self.answers :]
        sums = y.sum(axis=1)
        value = np.ones((len(x), len(y)))
        for row, counts in enumerate(x):
            # Only the columns that one molecule has can be shared, and it has a few dozen of thousands.
            some = np.flatnonzero(counts)
            shared = np.minimum(counts[some], y[:, some]).sum(axis=1)
            either = counts.sum() + sums - shared
            np.divide(shared, either, out=value[row], where=either > 0)
        return (value, np.empty((len(x), len(y), 0))) if eval_gradient else value

    def is_stationary(self) -> bool:
        """Whether it depends on differences alone."""
        return False


@dataclass(frozen=True)
class Correction:
    """A fitted correction of one property.

    Attributes:
        process: the Gaussian process, of standardised answers beside counts.
        scale: of the cheap answers.
        factor: 90% conformal factor of the standard deviation.
        left_out: error of each label when it is left out, prediction minus label, in the unit of the property.
        left_out_std: standard deviation that is predicted for it.
    """

    process: GaussianProcessRegressor
    scale: Standardise
    factor: float
    left_out: Float[np.ndarray, " label"]
    left_out_std: Float[np.ndarray, " label"]

    @staticmethod
    def fit(
        answers: Float[np.ndarray, "label answer"],
        counts: Float[np.ndarray, "label bit"],
        truth: Float[np.ndarray, " label"],
    ) -> Correction:
        """Fit to labels; the same labels give the same fit.

        Args:
            answers: answers of the cheap simulator.
            counts: Morgan counts, 0 or more.
            truth: labels of the expensive simulator.

        Raises:
            InputError: there are fewer than `FEWEST_LABELS` labels.
        """
        if len(truth) < FEWEST_LABELS:
            raise InputError(
                f"{len(truth)} labels cannot correct a cheap simulator",
                remedy=f"Give {FEWEST_LABELS} labels or more",
            )
        scale = Standardise.fit(tuple(f"answer {i}" for i in range(answers.shape[1])), answers)
        width = answers.shape[1]
        kernel = (
            ConstantKernel(0.5, (1e-3, 1e2)) * _Linear(width)
            + ConstantKernel(0.3, (1e-3, 1e2)) * _Smooth(width)
            + ConstantKernel(0.3, (1e-3, 1e2)) * Tanimoto(width)
            + WhiteKernel(0.05, (1e-5, 1.0))
        )
        process = GaussianProcessRegressor(kernel, normalize_y=True, alpha=1e-8, random_state=0)
        x = np.concatenate([scale.apply(answers), counts], axis=1)
        with warnings.catch_warnings():
            # A weight at its bound is an answer, such as a kernel that the labels do not need.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(x, truth)
        inverse = np.diag(cho_solve((process.L_, True), np.eye(len(truth))))
        spread = float(process._y_train_std)
        error = -process.alpha_.reshape(-1) / inverse * spread
        std = spread / np.sqrt(inverse)
        return Correction(process, scale, conformal_factor(np.abs(error) / std, ALPHA), error, std)

    def predict(
        self, answers: Float[np.ndarray, "molecule answer"], counts: Float[np.ndarray, "molecule bit"]
    ) -> tuple[Float[np.ndarray, " molecule"], Float[np.ndarray, " molecule"]]:
        """Mean and standard deviation of the property of molecules, in its unit; NaN where an answer is NaN.

        The 90% interval is the mean plus and minus `factor` times the standard deviation.

        Args:
            answers: answers of the cheap simulator.
            counts: Morgan counts.
        """
        mean, std = np.full(len(answers), np.nan), np.full(len(answers), np.nan)
        good = np.isfinite(answers).all(axis=1)
        if good.any():
            x = np.concatenate([self.scale.apply(answers[good]), counts[good]], axis=1)
            mean[good], std[good] = self.process.predict(x, return_std=True)
        return mean, std

    def covariance(
        self, answers: Float[np.ndarray, "molecule answer"], counts: Float[np.ndarray, "molecule bit"]
    ) -> Float[np.ndarray, "molecule molecule"]:
        """Posterior covariance of molecules, in the square of the property's unit; answers must be finite."""
        x = np.concatenate([self.scale.apply(answers), counts], axis=1)
        return np.asarray(self.process.predict(x, return_cov=True)[1])


def most_informative(covariances: Sequence[Float[np.ndarray, "molecule molecule"]], count: int) -> list[int]:
    """Molecules whose labels most reduce the variance that is left over all of them, chosen one after the other.

    Active learning after Cohn for Gaussian processes (Seo, Wallat, Graepel and Obermayer, IJCNN 2000, 3, 241). Labels
    of several properties count by the share of the variance that they remove.

    Args:
        covariances: posterior covariance of the molecules, of each property.
        count: number of molecules to choose; all of them if there are fewer.

    Returns:
        Rows, in the order of the choice.
    """
    left = [np.array(c, np.float64) for c in covariances]
    totals = [max(float(np.trace(c)), np.finfo(float).tiny) for c in left]
    chosen: list[int] = []
    for _ in range(min(count, len(left[0]))):
        gain = np.zeros(len(left[0]))
        for c, total in zip(left, totals, strict=True):
            variance = np.diag(c)
            gain += np.divide((c**2).sum(axis=1), variance, out=np.zeros_like(gain), where=variance > 0) / total
        gain[chosen] = -np.inf
        row = int(np.argmax(gain))
        chosen.append(row)
        for c in left:
            if c[row, row] > 0:
                c -= np.outer(c[row], c[row]) / c[row, row]
    return chosen
