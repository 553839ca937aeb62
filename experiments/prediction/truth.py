"""Scores of predictions against true values that stand in the same file, in the memory of one batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from data.structures.frame_units import factor
from surrogates.learning.scores import unit_suffix
from surrogates.properties.probability import probability_scores

#: Pairs that are kept for a figure, drawn uniformly from all.
SHOWN = 2000
#: Least number of pairs, and ratio of the mean sizes of predictions and true values, from which units are doubted.
LEAST, UNLIKE = 10, 5.0
#: Units of energies for which columns of eV are mistaken, and how close the ratio has to come to their size.
MISTAKEN, CLOSE = ("Hartree", "Rydberg", "kcal/mol", "kJ/mol", "meV"), 1.3


@dataclass
class TruthScores:
    """Sums over pairs of a true and a predicted value of one quantity.

    Attributes:
        unit: unit of the quantity.
        pairs: number of pairs so far.
    """

    unit: str
    pairs: int = 0
    _absolute: float = 0.0
    _square: float = 0.0
    _mean: float = 0.0
    _spread: float = 0.0
    _true_size: float = 0.0
    _size: float = 0.0
    _lowest: float = np.inf
    _highest: float = -np.inf
    _inside: int = 0
    _width: float = 0.0
    _bounded: int = 0
    _shown: list[Float[np.ndarray, "pair 4"]] = field(default_factory=list)
    _priority: list[Float[np.ndarray, " pair"]] = field(default_factory=list)
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(
        self,
        truth: Float[np.ndarray, " row"],
        value: Float[np.ndarray, " row"],
        low: Float[np.ndarray, " row"] | None = None,
        high: Float[np.ndarray, " row"] | None = None,
    ) -> None:
        """Count more rows; those without a finite truth or prediction are passed over."""
        nothing = np.full(len(truth), np.nan)
        table = np.stack([truth, value, nothing if low is None else low, nothing if high is None else high], axis=1)
        table = table[np.isfinite(table[:, :2]).all(axis=1)].astype(np.float64)
        if not len(table):
            return
        error = table[:, 1] - table[:, 0]
        self._absolute += float(np.abs(error).sum())
        self._square += float((error**2).sum())
        self._true_size += float(np.abs(table[:, 0]).sum())
        self._size += float(np.abs(table[:, 1]).sum())
        bounded = table[np.isfinite(table[:, 2:]).all(axis=1)]
        self._bounded += len(bounded)
        self._inside += int(((bounded[:, 2] <= bounded[:, 0]) & (bounded[:, 0] <= bounded[:, 3])).sum())
        self._width += float((bounded[:, 3] - bounded[:, 2]).sum())
        # Chan, Golub and LeVeque's update of a mean and a sum of squares by a batch.
        mean, count = float(table[:, 0].mean()), len(table)
        apart = mean - self._mean
        total = self.pairs + count
        self._spread += float(((table[:, 0] - mean) ** 2).sum()) + apart**2 * self.pairs * count / total
        self._mean += apart * count / total
        self.pairs = total
        self._lowest = min(self._lowest, float(table[:, 0].min()))
        self._highest = max(self._highest, float(table[:, 0].max()))
        self._keep(table)

    def _keep(self, table: Float[np.ndarray, "pair 4"]) -> None:
        """Keep the pairs with the smallest random priorities, which is a uniform sample of all."""
        shown = np.concatenate([*self._shown, table])
        priority = np.concatenate([*self._priority, self._random.random(len(table))])
        kept = np.sort(np.argsort(priority, kind="stable")[:SHOWN])
        self._shown, self._priority = [shown[kept]], [priority[kept]]

    @property
    def shown(self) -> Float[np.ndarray, "pair 4"]:
        """Pairs for a figure: truth, prediction, and the bounds of the interval, NaN where there is none."""
        return self._shown[0] if self._shown else np.zeros((0, 4))

    @property
    def doubt(self) -> str:
        """Why the true values may be in another unit than the predictions; "" where their sizes are alike."""
        if self.pairs < LEAST or not self._true_size or not self._size:
            return ""
        ratio = self._size / self._true_size
        if 1 / UNLIKE < ratio < UNLIKE:
            return ""
        apart = f"predictions are {ratio:.3g} times as large on average"
        if self.unit == "eV":
            for name in MISTAKEN:
                size = factor(name)
                assert size is not None
                if 1 / CLOSE < ratio / size < CLOSE:
                    return f"{apart}, as if the true values were in {name}"
        return f"{apart}; the true values may be in another unit"

    def metrics(self) -> dict[str, float]:
        """MAE, RMSE, R2, coverage and width of the intervals, named as `surrogates.learning.scores.scores` does."""
        if not self.pairs:
            return {}
        suffix = unit_suffix(self.unit)
        metrics = {
            "pairs": float(self.pairs),
            f"mae{suffix}": self._absolute / self.pairs,
            f"rmse{suffix}": float(np.sqrt(self._square / self.pairs)),
        }
        # Rounding leaves equal values a spread.
        if self._highest > self._lowest:
            metrics["r2"] = 1.0 - self._square / self._spread
        if self._bounded:
            metrics["coverage_90"] = self._inside / self._bounded
            metrics[f"interval_width{suffix}"] = self._width / self._bounded
        return metrics


#: Bins of the probability in which labels are counted; scores by rank are exact up to ties within a bin.
BINS = 100_000


@dataclass
class ProbabilityTruth:
    """Counts of binary labels by their predicted probability; the memory does not grow with the number of rows.

    Attributes:
        unit: always "1".
        pairs: number of pairs of a label and a probability so far.
        counts: number of zeros and of ones in each bin of the probability.
        strange: number of true values that are neither 0 nor 1, which are passed over.
    """

    unit: str = "1"
    pairs: int = 0
    counts: Float[np.ndarray, "label bin"] = field(default_factory=lambda: np.zeros((2, BINS)))
    sums: Float[np.ndarray, "label bin"] = field(default_factory=lambda: np.zeros((2, BINS)))
    strange: int = 0
    _bounded: int = 0
    _inside: int = 0
    _undecided: int = 0

    def add(
        self,
        truth: Float[np.ndarray, " row"],
        value: Float[np.ndarray, " row"],
        low: Float[np.ndarray, " row"] | None = None,
        high: Float[np.ndarray, " row"] | None = None,
    ) -> None:
        """Count more rows; those without a finite truth or prediction are passed over."""
        present = np.isfinite(truth) & np.isfinite(value)
        binary = present & np.isin(truth, (0, 1))
        self.strange += int(present.sum() - binary.sum())
        label, probability = truth[binary].astype(int), np.asarray(value[binary], np.float64)
        self.pairs += len(label)
        place = np.minimum((probability * BINS).astype(int), BINS - 1)
        for kind in (0, 1):
            of_kind = label == kind
            self.counts[kind] += np.bincount(place[of_kind], minlength=BINS)
            self.sums[kind] += np.bincount(place[of_kind], probability[of_kind], minlength=BINS)
        if low is not None and high is not None:
            ends = np.isfinite(low[binary]) & np.isfinite(high[binary])
            bottom, top, labels = low[binary][ends], high[binary][ends], label[ends]
            self._bounded += len(labels)
            self._inside += int(((bottom <= labels) & (labels <= top)).sum())
            self._undecided += int((bottom < top).sum())

    def metrics(self) -> dict[str, float]:
        """Scores named as those of `surrogates.properties.probability`, and `coverage_90` and `undecided`.

        `not_binary` is the number of true values that were passed over, if there are any.
        """
        strange = {"not_binary": float(self.strange)} if self.strange else {}
        if not self.pairs:
            return strange
        filled = self.counts > 0
        probability = self.sums[filled] / self.counts[filled]
        # One entry for each label and bin: the mean probability within it stands for its members.
        label = np.repeat([0.0, 1.0], BINS).reshape(2, BINS)[filled]
        metrics = {"pairs": float(self.pairs), **strange, **probability_scores(label, probability, self.counts[filled])}
        if self._bounded:
            metrics["coverage_90"] = self._inside / self._bounded
            metrics["undecided"] = self._undecided / self._bounded
        return metrics

    def curve(self) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
        """The ROC curve: the share of zeros and of ones with a probability above each threshold."""
        above = np.cumsum(self.counts[:, ::-1], axis=1)
        shares = above / np.maximum(above[:, -1:], 1)
        kept = np.flatnonzero(np.diff(shares.sum(axis=0), prepend=-1.0) > 0)
        return np.concatenate([[0.0], shares[0, kept]]), np.concatenate([[0.0], shares[1, kept]])

    def reliability(self, bins: int = 10) -> Float[np.ndarray, "bin 3"]:
        """For each bin of the probability that has labels: mean probability, share of ones, and number of labels."""
        count = self.counts.sum(axis=0).reshape(bins, -1).sum(axis=1)
        mean = self.sums.sum(axis=0).reshape(bins, -1).sum(axis=1)
        ones = self.counts[1].reshape(bins, -1).sum(axis=1)
        filled = count > 0
        return np.stack([mean[filled] / count[filled], ones[filled] / count[filled], count[filled]], axis=1)


Truth = TruthScores | ProbabilityTruth
