"""The rungs of the solver, and the check that the reference is accurate enough to judge them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from experiments.comparison.contenders import Point
from surrogates.learning.field_metrics import relative_l2

#: Least ratio of the smallest error to the difference of the reference from its refinement.
MARGIN = 3.0
_POWERS = {1: "", 2: "²", 3: "³"}


@dataclass(frozen=True, order=True)
class Resolution:
    """A grid and a time step.

    Attributes:
        points: grid points along each side.
        dt: time step, in the units of the problem.
        dim: number of space dimensions.
    """

    points: int
    dt: float
    dim: int = 2

    @property
    def name(self) -> str:
        """The name, such as "64² dt 0.05"; it has no comma, so that it can stand in a list of names."""
        return f"{self.points}{_POWERS.get(self.dim, f'^{self.dim}')} dt {self.dt:g}"


def self_check(
    reference: Float[np.ndarray, "sample time channel *space"], finer: Float[np.ndarray, "sample time channel *space"]
) -> float:
    """Relative L2 difference, mean over samples, between the reference and a solution on a finer rung.

    For a method of order p and a rung finer by a factor 2, the error of the reference is this difference divided by
    1 - 2^-p, which for p = 4 is 7% more.

    Args:
        reference: trajectories that serve as truth.
        finer: trajectories of the same samples, at the same grid and times, solved with a finer grid and step.

    Raises:
        InputError: the reference has values that are not finite, or equals its refinement.
    """
    if not np.isfinite(reference).all():
        raise InputError("the reference holds values that are not finite", where="reference")
    difference = relative_l2(reference, finer)
    if difference == 0:
        raise InputError(
            "the refinement is equal to the reference to the last digit",
            where="reference",
            remedy="Solve it anew with a finer grid and a shorter step",
        )
    return difference


def refuse_weak_reference(difference: float, points: Sequence[Point], margin: float = MARGIN) -> None:
    """Refuse a comparison whose errors are so small that the error of the reference could cause them.

    Args:
        difference: result of `self_check`, in the same measure as the errors.
        points: all points of the comparison.
        margin: least ratio of the smallest error to `difference`.

    Raises:
        InputError: the ratio is smaller; names the contender with the smallest error.
    """
    errors = {p.name: p.error for p in points if math.isfinite(p.error)}
    if not errors:
        raise InputError("no contender has a finite error", where="comparison")
    best = min(errors, key=lambda name: errors[name])
    # The condition also refuses a difference that is NaN.
    if not margin * difference <= errors[best]:
        raise InputError(
            f"the reference differs from its own refinement by {difference:.2e}, which cannot judge the error "
            f"{errors[best]:.2e} of {best!r}: it has to be {margin:g} times smaller",
            where="reference",
            remedy="Refine the reference, or leave that contender out",
        )
