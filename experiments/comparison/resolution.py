"""The error of an operator on grids other than that of its training, beside that of the solver on the same grids.

An operator that was trained on one grid also answers on others, with an error that is measured here. On each grid the
initial states and the true trajectories are those of the reference, resampled to the grid, so that scales which the
grid cannot resolve count neither against the operator nor against the solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from experiments.pages.formatting import listing, number
from experiments.pages.style import BLUE, GREY, INK, VERMILLION, Drawing, draw, legend_below, logarithmic
from surrogates.learning.field_metrics import relative_l2_each

#: A function from initial states on a grid to trajectories there, without the initial state.
Answer = Callable[[np.ndarray], Float[np.ndarray, "request time channel *space"]]


@dataclass(frozen=True)
class GridError:
    """Mean relative L2 errors on one grid.

    Attributes:
        points: grid points along each side.
        surrogate: error of the operator; None where its network cannot answer on such a grid.
        solver: error of the solver on that grid; infinite where it diverged.
        trained: whether the operator was trained on this grid.
    """

    points: int
    surrogate: float | None
    solver: float
    trained: bool

    def to_json(self) -> dict[str, float | bool | None]:
        """A flat dict; an infinite error is null."""
        return {
            f"resolution/{self.points}/surrogate_relative_l2": self.surrogate,
            f"resolution/{self.points}/solver_relative_l2": self.solver if math.isfinite(self.solver) else None,
            f"resolution/{self.points}/trained": self.trained,
        }

    @staticmethod
    def read(flat: Mapping[str, object]) -> tuple[GridError, ...]:
        """The grid errors in the flat JSON of a comparison, by ascending points."""
        grids = sorted({int(k.split("/")[1]) for k in flat if k.startswith("resolution/")})
        errors = []
        for n in grids:
            surrogate, solver = (flat[f"resolution/{n}/{who}_relative_l2"] for who in ("surrogate", "solver"))
            errors.append(
                GridError(
                    n,
                    None if surrogate is None else float(str(surrogate)),
                    math.inf if solver is None else float(str(solver)),
                    bool(flat[f"resolution/{n}/trained"]),
                )
            )
        return tuple(errors)


def grid_error(
    points: int,
    truth: Float[np.ndarray, "request time channel *space"],
    initial: Float[np.ndarray, "request channel *space"],
    surrogate: Answer,
    solver: Answer,
    *,
    trained: bool,
) -> GridError:
    """The errors of operator and solver on one grid.

    Args:
        points: grid points along each side.
        truth, initial: trajectories and initial states of the reference, resampled to the grid.
        surrogate, solver: functions that answer on the grid; the surrogate raises ValueError if its network cannot.
        trained: whether the operator was trained on this grid.
    """

    def error(answer: np.ndarray) -> float:
        if not np.isfinite(answer).all():
            return math.inf
        return float(relative_l2_each(answer, truth).mean())

    try:
        surrogate_error: float | None = error(surrogate(initial))
    except ValueError:
        surrogate_error = None
    return GridError(
        points,
        surrogate_error if surrogate_error is None or math.isfinite(surrogate_error) else None,
        error(solver(initial)),
        trained,
    )


def resolution_drawing(errors: Sequence[GridError], *, name: str, floor: float = 0.0) -> Drawing:
    """Draw errors against grid points, as SVG.

    Args:
        errors: errors on two grids or more.
        name: name of the figure, unique on a page.
        floor: error that the reference itself may have; errors below it are not shown.
    """
    return draw(
        lambda axes: paint(axes, errors, floor),
        name=name,
        label="Relative L2 error of the operator and of the solver against the grid points along each side",
        width=8.4,
        height=4.0,
    )


def paint(axes: Axes, errors: Sequence[GridError], floor: float = 0.0) -> None:
    """Draw both curves, and a line at the grid of the training."""
    for which, colour, marker, label in (
        ("solver", BLUE, "o", "solver on the same grid"),
        ("surrogate", VERMILLION, "D", "surrogate, as it was trained"),
    ):
        curve = [(e.points, getattr(e, which)) for e in errors if getattr(e, which) is not None]
        shown = [(n, value) for n, value in curve if math.isfinite(value) and value > floor]
        if shown:
            axes.plot(*zip(*shown, strict=True), f"{marker}-", color=colour, label=label)
    for e in errors:
        if e.trained:
            axes.axvline(
                e.points, color=INK, linestyle=(0, (4, 3)), linewidth=1, label="grid of the training", zorder=1
            )
    logarithmic(axes, "y")
    axes.set_xscale("log", base=2)
    grids = [e.points for e in errors]
    axes.set_xticks(grids, [str(n) for n in grids])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(grids) / 1.2, max(grids) * 1.2)
    axes.tick_params(axis="x", colors=GREY)
    axes.set_xlabel("Grid points along each side")
    axes.set_ylabel("Relative L2 error")
    legend_below(axes, 3)


def words(errors: Sequence[GridError]) -> str:
    """The errors on other grids, in sentences."""
    answered = [e for e in errors if e.surrogate is not None]
    base = next((e for e in answered if e.trained), None)
    if base is None or base.surrogate is None:
        return "The operator gave no finite answer on the grid of its training."
    others = [e for e in answered if not e.trained and e.surrogate is not None]
    if not others:
        return f"Its network answers only on the grid of its training, of {base.points} points along each side."
    parts = [f"{number((e.surrogate or 0) / base.surrogate, 2)} times that on {e.points}" for e in others]
    text = (
        f"It was trained on {base.points} points along each side and errs there by {number(base.surrogate)}; without "
        f"further training its error is {listing(parts)}."
    )
    if len(answered) < len(errors):
        mute = listing([str(e.points) for e in errors if e.surrogate is None])
        text += f" It has no finite answer on {mute}."
    return text
