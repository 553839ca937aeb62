"""The surrogate that a run of active learning trains, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.structures.structures import Structures
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import FineTuning, fit_potential_surrogate
from surrogates.potentials.surrogate import PotentialSurrogate


@dataclass(frozen=True)
class Learner:
    """The surrogate, with one recipe for the first round (fresh weights) and one for later rounds (last weights)."""

    potential: PotentialConfig
    first: TrainConfig
    again: TrainConfig

    def load(self, folder: Path) -> PotentialSurrogate:
        """The surrogate that was saved in `folder`."""
        return PotentialSurrogate.load(folder)

    def learn(
        self,
        table: Structures,
        before: PotentialSurrogate | None,
        folder: Path,
        *,
        label_fingerprint: str,
        progress: bool = True,
    ) -> PotentialSurrogate:
        """Train on all labels in `folder`, or resume there.

        Args:
            table: labelled frames.
            before: surrogate whose weights training begins with; None for fresh weights and the first recipe.
            folder: directory of checkpoints.
            label_fingerprint: fingerprint of the simulator.
            progress: whether to show a bar.
        """
        potential, _ = fit_potential_surrogate(
            table,
            None,
            self.potential,
            self.first if before is None else self.again,
            folder,
            label_fingerprint=label_fingerprint,
            tune=None if before is None else FineTuning(before),
            progress=progress,
        )
        return potential
