"""Samples of fields, and the comparison of a surrogate with its solver, for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.fields.samples import Fields
from experiments.comparison import break_even
from experiments.comparison.result import Comparison, break_even_words, read, speed_words
from surrogates.abilities import TakesFields
from surrogates.trained import Surrogate

if TYPE_CHECKING:
    from experiments.pages.style import Drawing

_RELATIONS = {
    "equal": "at equal error",
    "at least": "at its most accurate, which errs more",
    "at most": "at its cheapest",
}


def fields(store: str | Path, surrogate: Surrogate) -> Fields:
    """The samples of a store or a file of fields, with the inputs that a surrogate of fields takes.

    Args:
        store: what `understudy simulate` wrote, or a file that `understudy train` reads.
        surrogate: what `understudy.load` returned for fields.

    Returns:
        States (sample, time, space, channel) in the unit of the output, the inputs, and the layout. `take(rows)` is the
        samples of some rows.

    Raises:
        InputError: the surrogate is not one of fields, or the file cannot be read.
    """
    if not isinstance(surrogate, TakesFields):
        raise InputError(
            f"{surrogate.name} is no surrogate of fields",
            remedy="Load one that understudy train task=fluids/fields or task=fluids/trajectories made",
        )
    return read_fields(Path(store), inputs=surrogate.sample_inputs)[0]


def comparison(directory: str | Path) -> SolverComparison:
    """The comparison of surrogates with their solver that `understudy evaluate comparison=...` wrote.

    Raises:
        InputError: there is none in the directory, or a key of it is missing.
    """
    return SolverComparison(read(Path(directory)))


@dataclass(frozen=True)
class SolverComparison:
    """Errors and costs of surrogates beside those of their solver on coarser grids and with longer steps.

    Attributes:
        result: all measured points; `result.points` are the contenders and `result.surrogates` the surrogates, the most
            accurate first.
    """

    result: Comparison

    @property
    def unsettled(self) -> str:
        """A sentence that names the contenders whose timings were disturbed; "" if there are none."""
        return self.result.unsettled

    def table(self) -> pd.DataFrame:
        """Error, cost, speed-up and break-even of each surrogate, one column each."""
        points = self.result.points
        return pd.DataFrame(
            {
                p.name: {
                    f"{self.result.error_name} error": p.error,
                    "core-seconds of a trajectory": p.core_seconds,
                    "speed-up at equal error": speed_words(break_even.speed_up(p, points)),
                    "labels (core-s)": p.label_core_seconds,
                    "training (core-s)": p.training_core_seconds,
                    "pays from (trajectories)": break_even_words(p, points),
                }
                for p in self.result.surrogates
            }
        )

    def solver_cost(self) -> tuple[float, str]:
        """Core-seconds of a trajectory of the solver at the error of the best surrogate, and how the errors relate."""
        cost = break_even.cost_at_error(self.result.points, self.result.surrogates[0].error)
        return cost.value, _RELATIONS[cost.relation]

    def break_even(self) -> str:
        """From how many trajectories the best surrogate is cheaper than the solver, with labels and training."""
        return break_even_words(self.result.surrogates[0], self.result.points)

    def figure(self) -> Drawing:
        """Error against cost per trajectory, which a notebook shows as SVG."""
        from experiments.comparison.cost_figure import frontier_drawing

        return frontier_drawing(self.result)

    def resolution(self) -> str:
        """The errors of the best surrogate on other grids than that of its training, in sentences."""
        from experiments.comparison.resolution import words

        return words(self.result.resolution)

    def resolution_figure(self) -> Drawing:
        """Errors of surrogate and solver against the grid points, which a notebook shows as SVG."""
        from experiments.comparison.resolution import resolution_drawing

        floor = 3 * self.result.reference_difference
        return resolution_drawing(self.result.resolution, name="resolution", floor=floor)
