"""Requests for a campaign: initial states and parameters, each a function of the seed and its number alone.

A campaign over them can therefore be resumed, extended and split, and gives the same records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.spec import SimulationError
from simulators.base import Simulator
from simulators.fluids.exponax import Exponax
from simulators.fluids.initial import Initial


@dataclass(frozen=True)
class Range:
    """Where a parameter is drawn from.

    Attributes:
        low, high: ends.
        log: uniform in the logarithm.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError(f"a range needs finite low <= high, got [{self.low}, {self.high}]", where="ranges")
        if self.log and self.low <= 0:
            raise InputError(f"a logarithmic range needs low above 0, got {self.low}", where="ranges")

    def sample(self, rng: np.random.Generator) -> float:
        """One value."""
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class SpunUp:
    """States that a simulator has reached from another generator's after its last saved time.

    For statistically steady states of chaotic or forced equations.

    Attributes:
        base: draws where it starts from.
        simulator: takes it on; without varied parameters.
    """

    base: Initial
    simulator: Exponax

    def __post_init__(self) -> None:
        if self.simulator.varied:
            raise InputError("takes no varied parameters", where="initial.simulator.varied", remedy="Fix them")

    def sample(
        self, rng: np.random.Generator, count: int, points: int, dim: int, channels: int = 1
    ) -> Float[np.ndarray, "B C *N"]:
        """See `Initial`.

        Raises:
            SimulationError: `not_converged` if one blows up.
        """
        solver = self.simulator
        if points != solver.points:
            solver = solver.at(points=points)
        start = self.base.sample(rng, count, points, dim, channels)
        reached = np.asarray(solver.trajectories(start), np.float32)
        if not (sound := solver.good(reached)).all():
            raise SimulationError("not_converged", f"{int((~sound).sum())} of {count} blew up while spinning up")
        return reached[:, -1]


def draw_parameters(ranges: Mapping[str, Range], seed: int, index: int) -> dict[str, float]:
    """The parameters of one request: each from a stream of its own, so that one more leaves the others as they were."""
    return {
        name: ranges[name].sample(np.random.default_rng([seed, index, 1, *name.encode()])) for name in sorted(ranges)
    }


def parameter_requests(
    simulator: Simulator, ranges: Mapping[str, Range], count: int, seed: int, *, start: int = 0
) -> Iterator[xr.Dataset]:
    """As `requests`, of a simulator whose inputs are all numbers.

    Raises:
        InputError: it takes something else, or `ranges` does not name its inputs.
    """
    inputs = simulator.spec.inputs
    fields = [v.name for v in inputs if v.dims]
    if fields:
        raise InputError(
            f"{simulator.name} takes the field {fields[0]}", where="sampling", remedy="Give sampling.initial"
        )
    if set(ranges) != {v.name for v in inputs}:
        raise InputError(
            f"ranges are of {sorted(ranges)}", where="ranges", remedy=f"Give those of {sorted(v.name for v in inputs)}"
        )
    for index in range(start, count):
        yield simulator.spec.request(draw_parameters(ranges, seed, index))


def requests(
    simulator: Exponax,
    initial: Initial,
    ranges: Mapping[str, Range],
    count: int,
    seed: int,
    *,
    start: int = 0,
) -> Iterator[xr.Dataset]:
    """Requests `start` to `count` - 1 of the endless series that `seed` names.

    Args:
        simulator: whose spec they fit.
        initial: draws their initial states.
        ranges: of each varied parameter.
        count: one past the last.
        seed: not negative.
        start: the first.

    Raises:
        InputError: `ranges` does not name the varied parameters.
    """
    if set(ranges) != set(simulator.varied):
        raise InputError(
            f"ranges are of {sorted(ranges)}", where="ranges", remedy=f"Give those of {sorted(simulator.varied)}"
        )
    channels = len(simulator.spec.coordinate("channel").values)
    for index in range(start, count):
        state = initial.sample(np.random.default_rng([seed, index, 0]), 1, simulator.points, simulator.dim, channels)
        yield simulator.spec.request({"initial": state[0], **draw_parameters(ranges, seed, index)})
