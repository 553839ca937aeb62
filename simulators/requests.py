"""Requests for a campaign that are drawn from ranges, and the settings of a draw.

Each number and each initial state depends on the seed and the index of its request only, so that a campaign can be
resumed, extended and split with the same records. A Latin hypercube and a grid also depend on the number of requests,
and are therefore not extended (`simulators.sampling_plans`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.spec import Spec
from simulators.sampling_plans import plan, refuse_other_method


@dataclass(frozen=True)
class Range:
    """Distribution of a parameter.

    Attributes:
        low, high: ends of the range.
        log: whether the logarithm is uniform, instead of the value.
        integer: whether the values are whole numbers, both ends included.
        choices: the only values, each as likely as the others; the ends are the smallest and the largest of them.

    Raises:
        InputError: the ends do not fit each other, `log`, `integer` or the choices.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    choices: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError(f"a range needs finite low <= high, got [{self.low}, {self.high}]", where="ranges")
        if self.integer and not all(float(end).is_integer() for end in (self.low, self.high)):
            raise InputError(f"an integer range needs whole ends, got [{self.low}, {self.high}]", where="ranges")
        object.__setattr__(self, "choices", tuple(self.choices))
        ends = (min(self.choices, default=self.low), max(self.choices, default=self.high))
        if self.choices and ((self.low, self.high) != ends or self.log or self.integer):
            raise InputError("choices have no low, high, log or integer", where="ranges")
        if self.log and self.low <= 0:
            raise InputError(f"a logarithmic range needs low above 0, got {self.low}", where="ranges")

    @staticmethod
    def read(value: Any, where: str) -> Range:
        """The range that a setting describes: {low, high}, with log or integer, or {choices}.

        Args:
            value: of the configuration.
            where: key of the configuration, for errors.

        Raises:
            InputError: a key is missing or unknown, or values do not fit each other.
        """
        # A process that only answers does not import OmegaConf.
        from data.settings import build

        if isinstance(value, Mapping) and "choices" in value:
            chosen = build(_Choices, value, where=where).choices
            return Range(min(chosen), max(chosen), choices=chosen)
        return build(Range, value, where=where)

    @property
    def is_discrete(self) -> bool:
        """Whether there are values between its ends that it does not take."""
        return self.integer or bool(self.choices)

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        if self.is_discrete:
            return self.at(float(rng.random()))
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def at(self, share: float) -> float:
        """The value at a share of the range, 0 at `low` and 1 at `high`; of its logarithm if `log` is set.

        Whole numbers, and choices in their order, have equal parts of the range; whole numbers of a logarithmic range
        have the values that round to them.
        """
        if self.choices:
            return float(self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)])
        if self.integer and not self.log:
            return float(min(self.low + math.floor(share * (self.high - self.low + 1)), self.high))
        if self.integer:
            return float(round(self.low * (self.high / self.low) ** share))
        if self.log:
            return float(np.clip(self.low * (self.high / self.low) ** share, self.low, self.high))
        return float(np.clip(self.low + share * (self.high - self.low), self.low, self.high))


@dataclass(frozen=True)
class _Choices:
    """The values that a setting lists."""

    choices: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise InputError("no choices are listed", where="ranges", remedy="Give [2,3,5], or low and high")


@dataclass(frozen=True)
class DrawSettings:
    """What a simulator draws its requests from; see `simulators.adapter.DrawsRequests`.

    Attributes:
        count: index after the last request.
        initial: generator of initial states, of the kind that the simulator takes; None: none is set.
        shapes: ranges of shapes, of the kind that the simulator takes; None: none are set.
        ranges: distribution of each parameter that is a number.
        start: index of the first request.
        method: how the numbers are placed in their ranges; one of `simulators.sampling_plans.METHODS`.

    Raises:
        ValueError: `start` is below 0.
        InputError: there is no such method.
    """

    count: int
    initial: Any = None
    shapes: Any = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    start: int = 0
    method: str = "uniform"

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"start must be 0 or more, got {self.start}")
        refuse_other_method(self.method)

    @property
    def indices(self) -> range:
        """Indices of the requests."""
        return range(self.start, self.count)

    def refuse(self, name: str, reason: str, remedy: str = "Leave it out") -> None:
        """Refuse a setting that the simulator does not use, where it is set.

        Raises:
            InputError: `name` is set; the message gives the reason.
        """
        if getattr(self, name):
            raise InputError(reason, where=f"sampling.{name}", remedy=remedy)

    def refuse_plans(self, reason: str) -> None:
        """Refuse a method other than `uniform`, where no numbers are placed in ranges.

        Raises:
            InputError: another method is set; the message gives the reason.
        """
        if self.method != "uniform":
            raise InputError(f"{self.method} is not used: {reason}", where="sampling.method", remedy="Leave it out")


def draw_parameters(ranges: Mapping[str, Range], seed: int, index: int) -> dict[str, float]:
    """Draw the parameters of one request, each from its own random stream: adding one does not change others."""
    return {
        name: ranges[name].sample(np.random.default_rng([seed, index, 1, *name.encode()])) for name in sorted(ranges)
    }


def drawn_parameters(settings: DrawSettings, seed: int) -> Iterator[dict[str, float]]:
    """The parameters of each request of `settings.indices`, by the method of the settings.

    Raises:
        InputError: the method does not fit the number of requests or of parameters; raised by the first one.
    """
    names = sorted(settings.ranges)
    if settings.method == "uniform":
        for index in settings.indices:
            yield draw_parameters(settings.ranges, seed, index)
        return
    points = plan(settings.method, settings.count, len(names), seed)
    for point in points[settings.start :].tolist():
        yield {name: settings.ranges[name].at(share) for name, share in zip(names, point, strict=True)}


def refuse_other_ranges(ranges: Mapping[str, Range], names: set[str]) -> None:
    """Refuse ranges of other parameters than `names`.

    Raises:
        InputError: the names of `ranges` differ from `names`.
    """
    if set(ranges) != names:
        raise InputError(f"ranges are of {sorted(ranges)}", where="ranges", remedy=f"Give those of {sorted(names)}")


def draw_numbers(name: str, spec: Spec, settings: DrawSettings, seed: int) -> Iterator[xr.Dataset]:
    """Requests for a simulator whose inputs are all numbers, which needs no `draw` of its own.

    Args:
        name: name of the simulator, for errors.
        spec: its Spec.
        settings: distribution of each input; initial states and shapes are refused.
        seed: seed of the series, 0 or more.

    Raises:
        InputError: an input is not a number, the names of `ranges` are not those of the inputs, or initial states or
            shapes are set.
    """
    settings.refuse("shapes", f"{name} takes no bodies", "Give sampling.ranges")
    if fields := [v.name for v in spec.inputs if v.dims]:
        raise InputError(f"{name} takes the field {fields[0]}", where="sampling", remedy="Give sampling.initial")
    settings.refuse("initial", f"is not used: {name} takes numbers alone")
    refuse_other_ranges(settings.ranges, {v.name for v in spec.inputs})
    for parameters in drawn_parameters(settings, seed):
        yield spec.request(parameters)
