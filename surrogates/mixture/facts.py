"""What a mixture knows of its experts: their names, identities, elements, charges and sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from data.spec import content_hash
from data.structures.structures import MAX_ATOMIC_NUMBER
from surrogates.mixture.gate import Gate

#: An expert is saved in a folder of its name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class MixtureConfig:
    """Settings of the routing.

    Attributes:
        certain: probability of the gate from which composition and charge alone choose the expert; below it, the
            experts' distances to their training data decide.
        strength: inverse strength of the ridge on the weights of the gate (`C` of scikit-learn).
    """

    certain: float = 0.95
    strength: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.certain <= 1 or not self.strength > 0:
            raise ValueError(f"certain must lie in (0, 1] and strength be above 0; got {self}")


@dataclass(frozen=True)
class ExpertFacts:
    """One expert, as the mixture sees it before a batch is packed.

    Attributes:
        name: also the name of its folder.
        kind: word of its kind, a key of `surrogates.family.FAMILIES`.
        fingerprint: fingerprint that it had when it was added.
        labels_fingerprint: fingerprint of its labels.
        elements: atomic numbers that it has learned, ascending.
        charges: total charges that it has learned, e, ascending.
        parameters: number of its weights.
    """

    name: str
    kind: str
    fingerprint: str
    labels_fingerprint: str
    elements: tuple[int, ...]
    charges: tuple[int, ...]
    parameters: int

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"the name of an expert must be letters, digits, '_', '.' and '-', got {self.name!r}")
        if not self.elements or min(self.elements) < 1 or max(self.elements) > MAX_ATOMIC_NUMBER:
            raise ValueError(f"elements must be atomic numbers, got {self.elements}")
        if not self.charges or self.parameters < 0:
            raise ValueError("an expert has charges, and 0 or more parameters")


@dataclass(frozen=True)
class MixtureFacts:
    """Everything that is saved beside the gate and the experts.

    Attributes:
        config: settings of the routing.
        experts: the experts, in the order of the columns of the gate.
        scores: held-out scores, flat, with the unit in the key.
    """

    config: MixtureConfig
    experts: tuple[ExpertFacts, ...]
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [expert.name for expert in self.experts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a mixture has experts of different names, got {names}")
        if len({expert.kind for expert in self.experts}) > 1:
            raise ValueError("the experts of a mixture are of one kind")

    @property
    def kind(self) -> str:
        """Word of the kind of the experts."""
        return self.experts[0].kind

    @property
    def labels_fingerprint(self) -> str:
        """Fingerprint of the labels of all experts: theirs where they have the same, else a hash of all."""
        prints = [expert.labels_fingerprint for expert in self.experts]
        return prints[0] if len(set(prints)) == 1 else content_hash(prints)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that any expert has learned, ascending."""
        return tuple(sorted({z for expert in self.experts for z in expert.elements}))

    @property
    def parameters(self) -> int:
        """Number of weights of all experts."""
        return sum(expert.parameters for expert in self.experts)

    def model(self, seed: int = 0) -> Gate:
        """A gate for these experts, whose weights are zero."""
        return Gate(len(self.elements), len(self.experts))
