"""What a calibrated cascade is: its rungs with their fingerprints, the tolerances, the promise and the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from data.errors import InputError
from surrogates.cascade.risk import ErrorModel

#: Name of the file in the directory of a cascade.
CARD = "cascade.json"
#: Version of the card.
FORMAT = 1


@dataclass(frozen=True)
class RungCard:
    """One rung as it was calibrated.

    Attributes:
        label: how the user named it: a directory of a surrogate, or the name of a simulator.
        settings: settings of a simulator; empty for a surrogate.
        fingerprint: of the rung.
        name: of the rung, such as "painn:0123abcd".
        cost_s: cost of one answer, core-seconds.
        declared: whether that cost is declared and not measured.
        errors: the chance that its answers are wrong; None for the last rung.
        failed: number of the labelled requests that it did not answer.
    """

    label: str
    settings: Mapping[str, Any]
    fingerprint: str
    name: str
    cost_s: float
    declared: bool = False
    errors: ErrorModel | None = None
    failed: int = 0

    def __post_init__(self) -> None:
        if not self.cost_s >= 0:
            raise ValueError(f"cost_s must be 0 or more, got {self.cost_s}")


@dataclass(frozen=True)
class Tolerance:
    """What a wrong answer is: one with an entry of an output that is off by more than the tolerance of that output.

    Attributes:
        tau: output -> largest absolute error of any entry, in the unit of the output, above 0.
        units: output -> that unit.
    """

    tau: Mapping[str, float]
    units: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.tau or set(self.tau) != set(self.units):
            raise InputError(
                "no output has a tolerance", where="tau", remedy="Give tau.OUTPUT=VALUE, as tau.energy=0.01"
            )
        for name, value in self.tau.items():
            if not 0 < value < float("inf"):
                raise InputError(f"must be a finite number above 0, got {value}", where=f"tau.{name}")

    @property
    def limits(self) -> str:
        """The tolerances in words, such as "gap by 0.1 eV and drag by 0.2"."""
        return " and ".join(
            f"{name} by {tau:g} {self.units[name]}".removesuffix(" 1") for name, tau in self.tau.items()
        )


@dataclass(frozen=True)
class Promised:
    """The promise and what it was calibrated with.

    Attributes:
        alpha: probability that an answer is wrong, at most.
        confidence: probability with which that holds given the labels; None for the mean over labels.
        threshold: chance of being wrong below which an answer is given.
        design, calibration: number of labels to which the chances were fitted, and that set the threshold.
        unlabelled: number of requests among `calibration` without a label, which count as wrong answers.
        seen: number of labels that a rung had learned from, which were left out.
        labels_sha256: SHA-256 of the requests that were used, in their order.
        seed: of the split of the labels.
    """

    alpha: float
    confidence: float | None
    threshold: float
    design: int
    calibration: int
    unlabelled: int
    seen: int
    labels_sha256: str
    seed: int

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and (self.confidence is None or 0 < self.confidence < 1) and self.threshold >= 0):
            raise ValueError(f"alpha and confidence must lie between 0 and 1, and threshold be 0 or more; got {self}")


@dataclass(frozen=True)
class CascadeCard:
    """A calibrated cascade, as it is saved.

    Attributes:
        rungs: from cheap to expensive; the last one is the simulator.
        tolerance: what a wrong answer is.
        promised: the promise.
        failures: pass: a rung that fails passes the request on; list: the request has no answer, and the reason of the
            rung.
        domain: whether an answer that a rung itself places outside of its domain of training passes on.
        conformers: how rungs that take geometries make them from SMILES; empty where no rung takes SMILES.
        format: version.
    """

    rungs: tuple[RungCard, ...]
    tolerance: Tolerance
    promised: Promised
    failures: Literal["pass", "list"] = "pass"
    domain: bool = True
    conformers: Mapping[str, Any] = field(default_factory=dict)
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        if len(self.rungs) < 2:
            raise ValueError(f"a cascade has two rungs or more, got {len(self.rungs)}")
        if any(rung.errors is None for rung in self.rungs[:-1]):
            raise ValueError("every rung before the last one needs its chance of being wrong")
        if self.format != FORMAT:
            raise ValueError(f"format must be {FORMAT}, got {self.format}; upgrade understudy")
