"""The solver's rungs from dear to cheap, and whether the reference is good enough to judge them by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from experiments.comparison.contenders import Contender, Point, Run
from surrogates.field_metrics import relative_l2

#: How many times closer to its refinement the reference has to be than the smallest error that it judges.
MARGIN = 3.0
_POWERS = {1: "", 2: "²", 3: "³"}


@dataclass(frozen=True, order=True)
class Rung:
    """A grid and a time step.

    Attributes:
        points: along each side.
        dt: time step, in the units of the problem.
        dim: space dimensions.
    """

    points: int
    dt: float
    dim: int = 2

    @property
    def name(self) -> str:
        """Such as "64² dt 0.05"; a comma would be lost in a list of names."""
        return f"{self.points}{_POWERS.get(self.dim, f'^{self.dim}')} dt {self.dt:g}"


def ladder(solver: Callable[[Rung], Run], rungs: Sequence[Rung]) -> list[Contender]:
    """The solver at each rung as a contender.

    Args:
        solver: makes what answers a batch on a rung, resampled to the grid of the reference.
        rungs: in any order, each once.
    """
    return [Contender(rung.name, "solver", solver(rung)) for rung in sorted(set(rungs))]


def self_check(
    reference: Float[np.ndarray, "sample time channel *space"], finer: Float[np.ndarray, "sample time channel *space"]
) -> float:
    """Relative L2 difference, mean over samples, between the reference and the same solved on a finer rung.

    Of a method that converges with order p and a rung finer by a factor 2, the error of the reference is this
    over 1 - 2^-p: for p = 4 no more than 7% above it.

    Args:
        reference: what the contenders are judged by.
        finer: of the same samples, at the same grid and times, solved with a finer grid and step.

    Raises:
        InputError: one is not finite, so that the reference proves nothing.
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
    """Refuse errors so small that the reference's own error could make them.

    Args:
        difference: of `self_check`, in the same measure as the errors.
        points: what is compared.
        margin: how many times smaller `difference` has to be than the smallest error.

    Raises:
        InputError: it is not, with whose error that is.
    """
    errors = {p.name: p.error for p in points if math.isfinite(p.error)}
    if not errors:
        raise InputError("no contender has a finite error", where="comparison")
    best = min(errors, key=lambda name: errors[name])
    # Also false where the difference is not a number.
    if not margin * difference <= errors[best]:
        raise InputError(
            f"the reference differs from its own refinement by {difference:.2e}, which cannot judge the error "
            f"{errors[best]:.2e} of {best!r}: it has to be {margin:g} times smaller",
            where="reference",
            remedy="Refine the reference, or leave that contender out",
        )
