"""Draws requests to simulators: initial states, bodies and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from experiments.application.stage import build, instantiate
from simulators.adapter import Simulator
from simulators.atmosphere.core.dycore import DynamicalCore
from simulators.atmosphere.core.states import core_requests
from simulators.fluids.ngsolve.flow import NGSolveFlow
from simulators.fluids.sampling import Range, parameter_requests, requests
from simulators.fluids.shapes import requests as body_requests
from simulators.fluids.spectral.exponax import Exponax


@dataclass(frozen=True)
class Sampling:
    """The keys of `sampling`.

    Attributes:
        initial: generator of initial states; None for a simulator that takes only numbers.
        shapes: ranges of bodies, for a simulator of the flow around them.
        ranges: range of each parameter: low, high, and log to draw its logarithm.
        count: number of requests.
        seed: seed of all draws. Request i depends only on the seed and i, so a larger count extends a smaller one.
    """

    initial: Any = None
    shapes: Any = None
    ranges: dict[str, Any] = field(default_factory=dict)
    count: int = MISSING
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise ValueError(f"count must be 1 or more and seed 0 or more, got {self.count} and {self.seed}")


def draw_requests(node: DictConfig, simulator: Simulator) -> tuple[Iterator[xr.Dataset], int]:
    """The requests that a configuration describes, and their number.

    Raises:
        InputError: a key is unknown, or the simulator does not take what is drawn.
    """
    settings = build(Sampling, node, where="sampling")
    ranges = {
        str(name): build(Range, value, where=f"sampling.ranges.{name}")
        for name, value in (node.get("ranges") or {}).items()
    }

    def refuse(key: str, why: str) -> None:
        if node.get(key):
            raise InputError(f"is not used: {why}", where=f"sampling.{key}", remedy="Leave it out")

    drawn: Iterator[xr.Dataset]
    if node.get("shapes") is not None:
        if not isinstance(simulator, NGSolveFlow):
            raise InputError(
                f"{simulator.name} takes no bodies", where="sampling.shapes", remedy="Give sampling.ranges"
            )
        refuse("initial", f"{simulator.name} starts from rest")
        refuse("ranges", "sampling.shapes gives the ranges of bodies")
        drawn = body_requests(simulator, instantiate(node.shapes), settings.count, settings.seed)
    elif isinstance(simulator, Exponax):
        if node.get("initial") is None:
            raise InputError(
                f"{simulator.name} starts from a field",
                where="sampling.initial",
                remedy="Choose sampling=fourier or so",
            )
        drawn = requests(simulator, instantiate(node.initial), ranges, settings.count, settings.seed)
    elif isinstance(simulator, DynamicalCore):
        states = None if node.get("initial") is None else instantiate(node.initial)
        refuse("ranges", f"{simulator.name} starts from states")
        drawn = core_requests(simulator, states, settings.count, settings.seed)
    else:
        refuse("initial", f"{simulator.name} takes numbers alone")
        drawn = parameter_requests(simulator, ranges, settings.count, settings.seed)
    return drawn, settings.count
