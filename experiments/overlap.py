"""What of the samples that are scored was learned from: counted, said, and the others scored apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from data.reading import Reading
from surrogates.learned_from import Hashes, hash_keys

#: Scores of the samples that the training has not seen, where some of a file are others.
UNSEEN = "unseen"


@dataclass(frozen=True)
class Overlap:
    """Which samples of a file were learned from.

    Attributes:
        total: samples of the file.
        seen: of each; None where the surrogate does not tell.
        unit: what a sample is called, in the plural.
    """

    total: int
    seen: Bool[np.ndarray, " sample"] | None
    unit: str = "samples"

    @staticmethod
    def among(learned: Hashes | None, keys: Sequence[str], unit: str = "samples") -> Overlap:
        """Compare keys of samples with what was learned from, which is None where it is not known."""
        return Overlap(len(keys), None if learned is None else np.isin(hash_keys(keys), learned), unit)

    @property
    def count(self) -> int:
        """Samples that were learned from; 0 where that is not known."""
        return 0 if self.seen is None else int(self.seen.sum())

    @property
    def said(self) -> str:
        """One sentence for people."""
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
        """Say it in the last reading."""
        if readings:
            readings[-1] = replace(readings[-1], quantities={**readings[-1].quantities, "learned from": self.said})

    def scores(
        self, prefix: str, score: Callable[[Int[np.ndarray, " row"], str], Mapping[str, float]]
    ) -> dict[str, float]:
        """Scores of all samples; and where some were learned from `<prefix>/seen`, how many, and scores of the others.

        Args:
            prefix: of the keys.
            score: of some rows, under a prefix.
        """
        metrics = dict(score(np.arange(self.total), prefix))
        if self.seen is None or not self.count:
            return metrics
        metrics[f"{prefix}/seen"] = float(self.count)
        if not self.seen.all():
            metrics |= score(np.flatnonzero(~self.seen), f"{prefix}/{UNSEEN}")
        return metrics
