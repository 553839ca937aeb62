"""What a surrogate that learned the answers of another one keeps of its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from data.plain import OMIT_DEFAULT

#: What calibrates the intervals of a student: labels, or answers of its teacher that it did not learn from.
ON_LABELS, ON_ANSWERS = "labels", "answers of the teacher"


@dataclass(frozen=True)
class Teacher:
    """The surrogate, or the simulator, whose answers were learned.

    Attributes:
        name: its name.
        fingerprint: its fingerprint.
        labels_fingerprint: fingerprint of the labels that it learned from itself, which say its level of theory; that
            of a simulator is its own.
        inputs: number of inputs whose answers were learned.
        weights: weight in the loss of each kind of label and of answer.
        calibrated_on: what calibrates the intervals: `ON_LABELS`, or without any `ON_ANSWERS` that were held out. The
            intervals of the latter hold the answers of the teacher, and not the truth.
        level_of_theory: that of a simulator which says it; empty for others.
        licence: that of a simulator which says it; empty for others.
    """

    name: str
    fingerprint: str
    labels_fingerprint: str
    inputs: int
    weights: Mapping[str, float]
    #: Surrogates of earlier versions lack them, and must keep their fingerprint.
    calibrated_on: str = field(default=ON_LABELS, metadata=OMIT_DEFAULT)
    level_of_theory: str = field(default="", metadata=OMIT_DEFAULT)
    licence: str = field(default="", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if self.inputs < 0 or any(not weight >= 0 for weight in self.weights.values()):
            raise ValueError(f"inputs and weights must be 0 or more, got {self}")
        if self.calibrated_on not in (ON_LABELS, ON_ANSWERS):
            raise ValueError(f"calibrated_on must be {ON_LABELS!r} or {ON_ANSWERS!r}, got {self.calibrated_on!r}")
