"""The solver's cost at the error of a surrogate, and from it the speed-up and the break-even of the surrogate.

Between neighbouring rungs of the solver's Pareto set, error and cost are interpolated linearly in logarithms. Beyond
its ends nothing is extrapolated: the result is a bound, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from data.errors import InputError
from experiments.comparison.contenders import Point

Relation = Literal["equal", "at least", "at most"]
NEVER = "never pays"


@dataclass(frozen=True)
class Interpolated:
    """An interpolated number, or a bound of it.

    Attributes:
        value: the number or the bound.
        relation: relation of the true number to `value`.
        between: names of the rungs of the interpolation, or of the rung that gives the bound.
        low, high: values at those rungs.
    """

    value: float
    relation: Relation
    between: tuple[str, ...]
    low: float
    high: float


def frontier(points: Sequence[Point]) -> list[Point]:
    """The Pareto set of the solver's rungs in error and cost, with cost ascending and error strictly descending.

    Rungs that diverged (an infinite error) are left out.

    Raises:
        InputError: no rung is left, or an error or a cost is 0.
    """
    rungs = [p for p in points if p.kind == "solver" and math.isfinite(p.error)]
    if not rungs:
        raise InputError("no rung of the solver has a finite error", where="comparison", remedy="Add finer rungs")
    for p in points:
        if p.error <= 0 or not p.core_seconds > 0:
            raise InputError(
                f"has the error {p.error:g} and the cost {p.core_seconds:g} core-s, which a logarithm cannot show",
                where=p.name,
                remedy="Leave out the reference itself, and time what takes time",
            )
    best: list[Point] = []
    for p in sorted(rungs, key=lambda p: (p.core_seconds, p.error)):
        if not best or p.error < best[-1].error:
            best.append(p)
    return best


def cost_at_error(points: Sequence[Point], error: float) -> Interpolated:
    """Core-seconds per trajectory at which the solver reaches `error`.

    For an error above that of the cheapest rung of the Pareto set the cost is at most that of this rung; for one below
    the error of the most expensive rung it is at least that of this rung.
    """
    rungs = frontier(points)
    # The rungs are reversed, so that errors ascend.
    return _read([(p.error, p.core_seconds, p.name) for p in reversed(rungs)], error, ("at least", "at most"))


def error_at_cost(points: Sequence[Point], cost: float) -> Interpolated:
    """The error that the solver reaches at `cost` core-seconds per trajectory.

    For a cost below that of the cheapest rung the error is at least that of this rung; for one above the cost of the
    most expensive rung it is at most that of this rung.
    """
    return _read([(p.core_seconds, p.error, p.name) for p in frontier(points)], cost, ("at least", "at most"))


def _read(rungs: list[tuple[float, float, str]], x: float, beyond: tuple[Relation, Relation]) -> Interpolated:
    """Interpolate y at x linearly in logarithms, from (x, y, name) with x ascending and y descending."""
    for end, outside, relation in ((rungs[0], x < rungs[0][0], beyond[0]), (rungs[-1], x > rungs[-1][0], beyond[1])):
        if outside:
            return Interpolated(end[1], relation, (end[2],), end[1], end[1])
    for x0, y0, name in rungs:
        if x == x0:
            return Interpolated(y0, "equal", (name,), y0, y0)
    (x0, y0, first), (x1, y1, second) = next(pair for pair in pairwise(rungs) if pair[0][0] < x < pair[1][0])
    share = math.log(x / x0) / math.log(x1 / x0)
    y = math.exp((1 - share) * math.log(y0) + share * math.log(y1))
    # Rounding must not lead beyond the values at the two rungs.
    y = min(max(y, min(y0, y1)), max(y0, y1))
    return Interpolated(y, "equal", (first, second), min(y0, y1), max(y0, y1))


def scale_reading(reading: Interpolated, factor: float) -> Interpolated:
    """A reading multiplied by a positive number."""
    return Interpolated(
        reading.value * factor, reading.relation, reading.between, reading.low * factor, reading.high * factor
    )


def speed_up(surrogate: Point, points: Sequence[Point]) -> Interpolated:
    """The solver's cost at the surrogate's error over the surrogate's cost; below 1 the solver is faster.

    Raises:
        InputError: the surrogate's error is not finite.
    """
    _refuse_infinite(surrogate)
    return scale_reading(cost_at_error(points, surrogate.error), 1 / surrogate.core_seconds)


def accuracy_gain(surrogate: Point, points: Sequence[Point]) -> Interpolated:
    """The solver's error at the surrogate's cost over the surrogate's error; below 1 the solver is more accurate.

    Raises:
        InputError: the surrogate's error is not finite.
    """
    _refuse_infinite(surrogate)
    return scale_reading(error_at_cost(points, surrogate.core_seconds), 1 / surrogate.error)


def _refuse_infinite(surrogate: Point) -> None:
    if not math.isfinite(surrogate.error):
        raise InputError("its answers are not finite, so that it has no error", where=surrogate.name)


@dataclass(frozen=True)
class BreakEven:
    """Number of trajectories from which a surrogate is cheaper than the solver, its labels and training included.

    Attributes:
        count: number of trajectories N*; infinite if the surrogate is never cheaper.
        relation: relation of the true number to `count`.
    """

    count: float
    relation: Relation

    @property
    def words(self) -> str:
        """The count with three digits, such as "at most 1,240", or "never pays"."""
        if math.isinf(self.count):
            return NEVER
        # With only an upper bound of the solver's cost the surrogate may never be cheaper.
        doubt = ", if at all" if self.relation == "at least" else ""
        return f"{'' if self.relation == 'equal' else self.relation + ' '}{_three_digits(self.count)}{doubt}"


def _three_digits(value: float) -> str:
    whole = math.ceil(value)
    return f"{round(whole, 3 - len(str(whole))) if whole >= 1000 else whole:,}"


def break_even(up_front: float, solver_cost: float, surrogate_cost: float) -> float:
    """N* from N* solver_cost = up_front + N* surrogate_cost; infinite if an answer of the surrogate is not cheaper.

    Args:
        up_front: core-seconds of labels and training.
        solver_cost: core-seconds per trajectory of the solver at the surrogate's error.
        surrogate_cost: core-seconds per trajectory of the surrogate.
    """
    return up_front / (solver_cost - surrogate_cost) if solver_cost > surrogate_cost else math.inf


def break_even_of(surrogate: Point, points: Sequence[Point]) -> BreakEven | None:
    """Break-even of a surrogate with the solver at the error of the surrogate.

    Returns:
        None where the solver's cost has only a lower bound, and that lies below the cost of the surrogate: the
        break-even is not known then.

    Raises:
        InputError: the surrogate's error is not finite.
    """
    _refuse_infinite(surrogate)
    solver = cost_at_error(points, surrogate.error)
    count = break_even(surrogate.up_front, solver.value, surrogate.core_seconds)
    if math.isinf(count):
        return None if solver.relation == "at least" else BreakEven(count, "equal")
    # The more expensive the solver, the smaller the break-even, so that bounds swap.
    turned: dict[Relation, Relation] = {"equal": "equal", "at least": "at most", "at most": "at least"}
    return BreakEven(count, turned[solver.relation])
