"""The two surrogates of a trial: one learns chosen frames, the other equally many random ones; see `choice_trial`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.structures.structures import Structures
from experiments.active.choice_trial import relative_differences
from experiments.active.learner import Learner
from experiments.active.stopping import frame_errors

CHOSEN_ARM, RANDOM_ARM = "chosen", "random"


class TrialArms:
    """The labels of both arms, and the folder of the surrogates that learned them last.

    The surrogates are read from their files whenever they are needed, so that a resumed run is no other case.

    Args:
        learner: the recipe of the run, which both arms share.
        label_fingerprint: fingerprint of the simulator.
        progress: whether to show bars.
    """

    def __init__(self, learner: Learner, label_fingerprint: str, *, progress: bool = True) -> None:
        self.learner, self.label_fingerprint, self.progress = learner, label_fingerprint, progress
        self.frames: dict[str, list[Structures]] = {CHOSEN_ARM: [], RANDOM_ARM: []}
        self.folder: Path | None = None

    def begin(self, initial: Structures) -> None:
        """Give both arms the labels of the first round."""
        for frames in self.frames.values():
            frames.append(initial)

    def extend(self, chosen: Structures, audit: Structures) -> bool:
        """Give one arm chosen frames and the other equally many audit frames; whether there were any of both."""
        count = min(len(chosen), len(audit))
        if count:
            self.frames[CHOSEN_ARM].append(chosen.take(np.arange(count)))
            self.frames[RANDOM_ARM].append(audit.take(np.arange(count)))
        return count > 0

    def learn(self, folder: Path, first: Path) -> None:
        """Train both arms on their labels so far, in folders below `folder`.

        Args:
            folder: receives both surrogates.
            first: surrogate of the first round, with whose weights both begin.
        """
        for arm, frames in self.frames.items():
            before = first if self.folder is None else self.folder / arm / "surrogate"
            potential = self.learner.learn(
                Structures.concatenate(frames),
                self.learner.load(before),
                folder / arm / "training",
                label_fingerprint=self.label_fingerprint,
                progress=self.progress,
            )
            potential.save(folder / arm / "surrogate")
        self.folder = folder

    def compare(self, audit: Structures) -> Float[np.ndarray, " a"]:
        """Difference of the errors of both arms on each audit frame; see `choice_trial.relative_differences`."""
        if self.folder is None or not len(audit):
            return np.zeros(0)
        errors = {}
        for arm in self.frames:
            answer = self.learner.load(self.folder / arm / "surrogate").predict_structures(audit, error_bars=False)
            errors[arm] = frame_errors(audit, answer.forces, audit.forces)
        return relative_differences(errors[CHOSEN_ARM], errors[RANDOM_ARM])
