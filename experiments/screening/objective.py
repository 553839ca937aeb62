"""The objective of a screen: a property to optimise, windows of others, and the resulting score.

    score = s * mean - kappa * std    if every window holds and the molecule lies in the training domain
          = -inf                      otherwise

with s = 1 to maximise and -1 to minimise. The mean is the surrogate's prediction and std its standard
deviation, so kappa > 0 is the lower confidence bound, which prefers certain predictions (Cox and
John, IEEE SMC 1992). A window is a hard constraint on the predicted mean or, with `confident`, on the
whole conformal interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from omegaconf import DictConfig, OmegaConf

from data.settings import build


@dataclass(frozen=True)
class Objective:
    """A property to maximise or to minimise within windows of others.

    Attributes:
        maximize: target to maximise; without it and `minimize`, the first target of the surrogate.
        minimize: target to minimise.
        windows: target -> [low, high] in the target's unit, both included; infinite bounds are allowed.
        hit: value that a simulated molecule must reach to be a hit, in the unit of the property.
        kappa: number of standard deviations that are subtracted from the mean; 0 or more.
        confident: whether the conformal interval, and not just the mean, must lie within the windows.
        require_domain: whether candidates outside the training domain are excluded.

    Raises:
        ValueError: both directions are given, a window is not a pair low < high, or kappa is negative.
    """

    maximize: str | None = None
    minimize: str | None = None
    windows: dict[str, list[float]] = field(default_factory=dict)
    hit: float | None = None
    kappa: float = 0.0
    confident: bool = False
    require_domain: bool = True

    def __post_init__(self) -> None:
        if self.maximize is not None and self.minimize is not None:
            raise ValueError("give maximize or minimize, not both; bound the other property by a window")
        if not (math.isfinite(self.kappa) and self.kappa >= 0):
            raise ValueError(f"kappa must be 0 or more, got {self.kappa}")
        for name, window in self.windows.items():
            if len(window) != 2 or not float(window[0]) < float(window[1]):
                raise ValueError(f"the window of {name} must be [low, high] with low < high, got {window}")

    def target(self, targets: Sequence[str]) -> str:
        """The property that is optimised, from the `targets` of a surrogate."""
        return self.maximize or self.minimize or targets[0]

    @property
    def sign(self) -> float:
        """1 to maximise, -1 to minimise."""
        return -1.0 if self.minimize is not None else 1.0

    def missing(self, targets: Sequence[str]) -> list[str]:
        """Targets that the objective needs and that are not in `targets`."""
        names = {self.target(targets), *self.windows}
        return sorted(names - set(targets))

    def in_windows(self, values: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " molecule"]:
        """Whether each molecule lies in every window; a NaN is outside.

        Args:
            values: each windowed target, (molecule,), predicted or simulated; at least one array.
        """
        inside = np.ones(len(next(iter(values.values()))), bool)
        for name, (low, high) in self.windows.items():
            value = np.asarray(values[name])
            inside &= (low <= value) & (value <= high)
        return inside

    def eligible(self, values: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " molecule"]:
        """Whether each prediction has a finite score: in the windows, finite, and in the domain.

        Args:
            values: answer of `predict_table`: `<t>`, `<t>_std`, `<t>_low`, `<t>_high`, `in_domain`.
        """
        kept = np.isfinite(np.asarray(values[self.target(targets_of(values))]))
        if self.confident:
            for end in ("_low", "_high"):
                kept &= self.in_windows({name: values[f"{name}{end}"] for name in self.windows} or values)
        else:
            kept &= self.in_windows(values)
        return kept & np.asarray(values["in_domain"], bool) if self.require_domain else kept

    def score(self, values: Mapping[str, np.ndarray]) -> Float[np.ndarray, " molecule"]:
        """The score of each prediction, larger is better; -inf where it is not eligible.

        Args:
            values: answer of `predict_table`.
        """
        name = self.target(targets_of(values))
        score = self.sign * np.asarray(values[name], np.float64)
        if self.kappa:
            score = score - self.kappa * np.asarray(values[f"{name}_std"], np.float64)
        return np.where(self.eligible(values) & np.isfinite(score), score, -np.inf)

    def is_hit(self, values: Mapping[str, np.ndarray], threshold: float | None = None) -> Bool[np.ndarray, " molecule"]:
        """Whether simulated values confirm a molecule: in every window, and at least as good as the threshold.

        Args:
            values: target -> values (molecule,); the first one is optimised if the objective names none.
            threshold: value to reach instead of `hit`; without both, the windows alone decide. NaN is never a hit.
        """
        bound = self.hit if threshold is None else threshold
        value = np.asarray(values[self.target(list(values))], np.float64)
        good = self.in_windows(values) & np.isfinite(value)
        return good if bound is None else good & (self.sign * value >= self.sign * bound)


def targets_of(values: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the targets in an answer of `predict_table`, in order: those that come with a `_std`."""
    return [name for name in values if f"{name}_std" in values]


def hits(
    values: Mapping[str, np.ndarray], objective: Objective, threshold: float | None = None
) -> Bool[np.ndarray, " molecule"]:
    """`objective.is_hit`: whether simulated values confirm each molecule."""
    return objective.is_hit(values, threshold)


def read_objective(node: DictConfig) -> Objective:
    """The objective from the configuration; the bounds of a window may be written as integers.

    Raises:
        InputError: a key is unknown or a value is invalid.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True)
    windows = plain.get("windows")
    if isinstance(windows, dict):
        # OmegaConf does not accept an integer for a float within a list.
        plain["windows"] = {
            name: [float(v) if type(v) is int else v for v in window] if isinstance(window, list) else window
            for name, window in windows.items()
        }
    return build(Objective, plain, where="objective")
