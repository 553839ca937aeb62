"""The cells of `simulator=openfoam_turbulent_step` as a structured grid: fields on other cells, and reattachment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

#: The configuration of the simulator.
SIMULATOR = "openfoam_turbulent_step"
#: Names of the counts of cells in the case.
COUNTS = ("cells_run_up", "cells_ramp", "cells_behind", "cells_above", "cells_below")


def turbulent_step(constants: Mapping[str, float] | None = None) -> Any:
    """The packaged case, with other constants."""
    from experiments.campaigns.named_simulator import named_simulator

    settings = [f"simulator.case.constants.{name}={value}" for name, value in (constants or {}).items()]
    return named_simulator(SIMULATOR, settings, key="simulator")


def coarsened(factor: float, constants: Mapping[str, float] | None = None) -> dict[str, int]:
    """Counts of cells with sides `factor` times as long as those of the packaged case, or of the given constants."""
    counts = turbulent_step(constants).case.constants
    return {name: max(2, round(counts[name] / factor)) for name in COUNTS}


@dataclass(frozen=True)
class StepCells:
    """The cells of one geometry.

    blockMesh numbers cells block by block, along x first: above the floor before the step, along the ramp and behind
    it, then below the edge of the step along the ramp and behind it.

    Attributes:
        constants: those of the case.
        step, ceiling: parameters of the geometry, m.
    """

    constants: Mapping[str, float]
    step: float
    ceiling: float

    def _parts(self, values: Float[np.ndarray, "cell channel"]) -> tuple[np.ndarray, np.ndarray]:
        """Values before and behind the step, (row, column, channel), rows from the floor to the ceiling."""
        run_up, ramp, behind, above, below = (int(self.constants[name]) for name in COUNTS)
        parts, start = [], 0
        for rows, columns in ((above, run_up), (above, ramp), (above, behind), (below, ramp), (below, behind)):
            parts.append(values[start : start + rows * columns].reshape(rows, columns, *values.shape[1:]))
            start += rows * columns
        if start != len(values):
            raise ValueError(f"{len(values)} cells, where the case has {start}")
        upper, lower = np.concatenate(parts[1:3], axis=1), np.concatenate(parts[3:], axis=1)
        return parts[0], np.concatenate([lower, upper])

    def _across(self, nodes: Float[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any"]:
        """Height between walls: -1 at the floor behind the step, 0 at the edge of the step, 1 at the ceiling."""
        x, y = nodes[..., 0], nodes[..., 1]
        height = self.constants["height"]
        top = height + (self.ceiling - height) * np.clip(x / self.constants["ramp"], 0, 1)
        return np.where(y < 0, y / self.step, y / top)

    def interpolated(
        self,
        nodes: Float[np.ndarray, "cell 2"],
        values: Float[np.ndarray, "cell channel"],
        places: Float[np.ndarray, "place 2"],
    ) -> Float[np.ndarray, "place channel"]:
        """Values at other places of the same geometry, linear between centres of cells and up to the walls."""
        from scipy.interpolate import RegularGridInterpolator

        across, answer = self._across(places), np.empty((len(places), values.shape[1]))
        for part, at, here in zip(
            self._parts(values), self._parts(nodes), (places[:, 0] < 0, places[:, 0] >= 0), strict=True
        ):
            # Centres of cells below a sloping ceiling lie on a line up to the curvature of their row.
            axes = (self._across(at).mean(axis=1), at[0, :, 0])
            between = RegularGridInterpolator(axes, part, bounds_error=False, fill_value=None)
            answer[here] = between(np.stack([across[here], places[here, 0]], axis=1))
        return answer

    def reattachment(self, nodes: Float[np.ndarray, "cell 2"], velocity: Float[np.ndarray, "cell 2"]) -> float:
        """Distance behind the step at which the flow at the floor turns downstream for good, in heights of the step.

        It is nan if the flow at the floor is downstream everywhere, or upstream at the end.
        """
        at, along = self._parts(nodes)[1][0, :, 0], self._parts(velocity)[1][0, :, 0]
        back = np.flatnonzero(along <= 0)
        if not len(back) or back[-1] + 1 == len(along):
            return float("nan")
        i = back[-1]
        return float((at[i] - along[i] * (at[i + 1] - at[i]) / (along[i + 1] - along[i])) / self.step)
