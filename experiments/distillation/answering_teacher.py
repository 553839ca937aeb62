"""What teachers of molecules and of frames have in common: who answers, by which labels, and at which cost."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass

from surrogates.learning.learned_from import Hashes


@dataclass(frozen=True)
class AnsweringTeacher(ABC):
    """A trained surrogate, which answers in this process, or a simulator, which campaigns ask.

    Attributes:
        name, fingerprint: of the surrogate or the simulator.
        labels_fingerprint: of the labels whose level of theory the answers have; that of a simulator is its own.
        learned: hashes of the structures that it learned from; None where that is unknown.
        facts: more entries of `surrogates.learning.teaching.Teacher`.
    """

    name: str
    fingerprint: str
    labels_fingerprint: str
    learned: Hashes | None
    facts: Mapping[str, str]

    def costs(self) -> dict[str, float]:
        """What its labels and its training cost, as metrics; a simulator has neither."""
        return {}

    @property
    def core_seconds(self) -> float | None:
        """Processor time of its answers so far, s; None where it is measured from outside."""
        return None
