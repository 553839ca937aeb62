"""What a surrogate that learned the answers of another one keeps of its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
    """

    name: str
    fingerprint: str
    labels_fingerprint: str
    inputs: int
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.inputs < 0 or any(not weight >= 0 for weight in self.weights.values()):
            raise ValueError(f"inputs and weights must be 0 or more, got {self}")
