"""Finds where a trajectory begins: with the initial state, or one step after it.

Some solvers store the state at t = 0 among their answers, others begin one step later. The data decides: whether the
input `initial` equals the output at its first time, and what that time is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data.errors import InputError

#: Difference of two states, relative to their standard deviation, up to which they are equal but for rounding; and, at
#: t = 0, equal but for a filter of the solver.
ROUNDING, SAME = 1e-5, 1e-2
#: Share of a step by which the first time may miss a whole number of steps.
UNEVEN = 1e-3


class Start(NamedTuple):
    """A trajectory that begins with the given state.

    Attributes:
        states: the given state, then all later ones.
        lead: steps from the given state to the first time of the output: 0, or 1 where the output begins after it.
        assumed: assumptions about what the data does not state, one sentence each.
    """

    states: Float[np.ndarray, "sample time *space channel"]
    lead: int
    assumed: tuple[str, ...]


def begin(
    initial: Float[np.ndarray, "sample *space channel"],
    states: Float[np.ndarray, "sample time *space channel"],
    times: Float[np.ndarray, " time"] | None,
    where: str,
) -> Start:
    """Put the given state first, unless the trajectory has it already.

    Args:
        initial: the given state.
        states: the output at its times.
        times: of the output; None where the source has no such coordinate.
        where: file that both come from, for errors.

    Raises:
        InputError: the given state is neither that of the first time nor that of one step before.
    """
    apart = _apart(initial, states[:, 0])
    step = None if times is None else float(times[1] - times[0]) if len(times) > 1 else float(times[0])
    number = None if times is None or not step else float(times[0]) / step
    said = f"`initial` differs from the first state by {apart:.3g} of its spread"
    at_start = number is not None and abs(number) <= UNEVEN
    # A short step changes a state little, so that a time of one step counts for more than two states that are near.
    if apart <= ROUNDING or (at_start and apart <= SAME):
        if apart == 0:
            return Start(states, 0, ())
        # The given state is part of the question, so that the trajectory begins with it.
        first = initial[:, None].astype(states.dtype)
        return Start(np.concatenate([first, states[:, 1:]], axis=1), 0, (f"{said}, and was taken in its place",))
    later = np.concatenate([initial[:, None].astype(states.dtype), states], axis=1)
    if number is None:
        return Start(later, 1, (f"{said}, and no times are given: it was taken to be one step before",))
    if abs(number - 1) <= UNEVEN:
        return Start(later, 1, ())
    raise InputError(
        f"{said}, at time {float(times[0]) if times is not None else 0:g} with steps of {step:g}",
        where=where,
        remedy="The first time must be 0 where the output holds `initial`, or one step where it begins after it: "
        "correct the coordinate `time`",
    )


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """RMS difference of two states, over the standard deviation of the second: that of the channel where it is largest.

    Only samples that are finite in both count.
    """
    axes = tuple(range(1, one.ndim))
    keep = np.isfinite(one).all(axis=axes) & np.isfinite(other).all(axis=axes)
    if not keep.any() or np.array_equal(one[keep], other[keep]):
        return 0.0
    a, b = (np.asarray(v[keep], np.float64) for v in (one, other))
    over = tuple(range(a.ndim - 1))
    gap, spread = np.sqrt(np.square(a - b).mean(axis=over)), b.std(axis=over)
    ratio = np.divide(gap, spread, out=np.where(gap > 0, np.inf, 0.0), where=spread > 0)
    return float(ratio.max())
