"""Finds scored samples that were used in training, reports them, and scores the others separately."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from data.reading_summary import Reading
from surrogates.learning.learned_from import Hashes, hash_keys

#: Key of the scores of unseen samples, for a file of which the training has seen some.
UNSEEN = "unseen"


@dataclass(frozen=True)
class Overlap:
    """The samples of a file that were used in training.

    Attributes:
        total: number of samples of the file.
        seen: whether each sample was used in training; None if the surrogate did not save this.
        unit: name of the samples, in the plural.
    """

    total: int
    seen: Bool[np.ndarray, " sample"] | None
    unit: str = "samples"

    @staticmethod
    def among(learned: Hashes | None, keys: Sequence[str], unit: str = "samples") -> Overlap:
        """Compare keys of samples with the hashes of the training data; None if these are not known."""
        return Overlap(len(keys), None if learned is None else np.isin(hash_keys(keys), learned), unit)

    @property
    def count(self) -> int:
        """Number of samples that were used in training; 0 if this is not known."""
        return 0 if self.seen is None else int(self.seen.sum())

    @property
    def said(self) -> str:
        """The result in one sentence."""
        if self.seen is None:
            return f"whether it learned from some of these {self.unit} is not known: its training kept no note of that"
        if not self.count:
            return f"none of the {self.total:,} {self.unit} was learned from"
        if self.seen.all():
            return f"all {self.total:,} {self.unit} were learned from: no score of them is a held-out one"
        return (
            f"{self.count:,} of {self.total:,} {self.unit} were learned from (training, validation or calibration): "
            f"scores of the others stand under {UNSEEN}/"
        )

    def note(self, readings: list[Reading] | None) -> None:
        """Add the sentence to the last reading."""
        if readings:
            readings[-1] = replace(readings[-1], quantities={**readings[-1].quantities, "learned from": self.said})

    def scores(
        self, prefix: str, score: Callable[[Int[np.ndarray, " row"], str], Mapping[str, float]]
    ) -> dict[str, float]:
        """Scores of all samples; if some were used in training, also their number and the scores of the others.

        The number is `<prefix>/seen`, and the scores of the others are under `<prefix>/unseen`.

        Args:
            prefix: prefix of the keys.
            score: computes the scores of rows, with keys under a prefix.
        """
        metrics = dict(score(np.arange(self.total), prefix))
        if self.seen is None or not self.count:
            return metrics
        metrics[f"{prefix}/seen"] = float(self.count)
        if not self.seen.all():
            metrics |= score(np.flatnonzero(~self.seen), f"{prefix}/{UNSEEN}")
        return metrics
