"""Random requests for a campaign: each initial state and parameter depends on the seed and the request's index only.

A campaign can therefore be resumed, extended and split with the same records.
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
from simulators.adapter import Simulator
from simulators.fluids.spectral.exponax import Exponax
from simulators.fluids.spectral.initial import Initial


@dataclass(frozen=True)
class Range:
    """Distribution of a parameter.

    Attributes:
        low, high: ends of the range.
        log: whether the logarithm is uniform, instead of the value.
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
        """Draw one value."""
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class SpunUp:
    """Initial states after a spin-up: the last saved states of trajectories from another generator's states.

    They represent the statistically steady state of chaotic or forced equations.

    Attributes:
        base: generator of the states from which the spin-up starts.
        simulator: solver of the spin-up, without varied parameters.
    """

    base: Initial
    simulator: Exponax

    def __post_init__(self) -> None:
        if self.simulator.varied:
            raise InputError("takes no varied parameters", where="initial.simulator.varied", remedy="Fix them")

    def sample(
        self, rng: np.random.Generator, count: int, points: int, dim: int, channels: int = 1
    ) -> Float[np.ndarray, "B C *N"]:
        """Draw states; see `Initial`.

        Raises:
            SimulationError: `not_converged` if a trajectory blows up.
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
    """Draw the parameters of one request, each from its own random stream: adding one does not change others."""
    return {
        name: ranges[name].sample(np.random.default_rng([seed, index, 1, *name.encode()])) for name in sorted(ranges)
    }


def parameter_requests(
    simulator: Simulator, ranges: Mapping[str, Range], count: int, seed: int, *, start: int = 0
) -> Iterator[xr.Dataset]:
    """Requests, as in `requests`, for a simulator whose inputs are all numbers.

    Raises:
        InputError: an input is not a number, or the names of `ranges` are not those of the inputs.
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
    """Requests `start` to `count` - 1 of the infinite series that `seed` determines.

    Args:
        simulator: simulator that answers the requests.
        initial: generator of the initial states.
        ranges: distribution of each varied parameter.
        count: index after the last request.
        seed: seed of the series, 0 or more.
        start: index of the first request.

    Raises:
        InputError: the names of `ranges` are not those of the varied parameters.
    """
    if set(ranges) != set(simulator.varied):
        raise InputError(
            f"ranges are of {sorted(ranges)}", where="ranges", remedy=f"Give those of {sorted(simulator.varied)}"
        )
    channels = len(simulator.spec.coordinate("channel").values)
    for index in range(start, count):
        state = initial.sample(np.random.default_rng([seed, index, 0]), 1, simulator.points, simulator.dim, channels)
        yield simulator.spec.request({"initial": state[0], **draw_parameters(ranges, seed, index)})
