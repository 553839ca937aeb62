"""Draws requests to simulators: initial states, bodies and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import xarray as xr
from omegaconf import MISSING, DictConfig

from data.settings import build
from experiments.application.stage import instantiate
from simulators.adapter import DrawsRequests, Simulator
from simulators.requests import DrawSettings, Range, draw_numbers


@dataclass(frozen=True)
class Sampling:
    """The keys of `sampling`.

    Attributes:
        initial: generator of initial states; None for a simulator that takes only numbers.
        shapes: ranges of bodies, for a simulator of the flow around them.
        ranges: range of each parameter: low, high, and log to draw its logarithm.
        count: number of requests.
        seed: seed of all draws. Request i depends only on the seed and i, so a larger count extends a smaller one; with
            the methods lhs and grid it depends on the count too.
        method: how numbers are placed in their ranges: uniform, lhs, sobol or grid (`simulators.sampling_plans`).
    """

    initial: Any = None
    shapes: Any = None
    ranges: dict[str, Any] | None = field(default_factory=dict)
    count: int = MISSING
    seed: int = 0
    method: str = "uniform"

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise ValueError(f"count must be 1 or more and seed 0 or more, got {self.count} and {self.seed}")


def draw_requests(node: DictConfig, simulator: Simulator) -> tuple[Iterator[xr.Dataset], int]:
    """The requests that a configuration describes, and their number.

    Raises:
        InputError: a key is unknown, or the simulator does not take what is drawn.
    """
    keys = build(Sampling, node, where="sampling")
    ranges = {
        str(name): Range.read(value, f"sampling.ranges.{name}") for name, value in (node.get("ranges") or {}).items()
    }
    initial, shapes = (None if node.get(key) is None else instantiate(node[key]) for key in ("initial", "shapes"))
    settings = DrawSettings(keys.count, initial, shapes, ranges, method=keys.method)
    if isinstance(simulator, DrawsRequests):
        drawn = simulator.draw(settings, keys.seed)
    else:
        drawn = draw_numbers(simulator.name, simulator.spec, settings, keys.seed)
    # The first request is drawn now, so that settings that do not fit are refused before a store is created.
    return chain([next(drawn)], drawn), keys.count
