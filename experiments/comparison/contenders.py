"""The data classes of a comparison: contenders, the problem, the settings of the measurement, and its points."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from experiments.application.usage import cpu_seconds
from surrogates.learning.field_metrics import relative_l2_each

#: Ratio of the median to the least of the timed rounds above which timings count as disturbed.
UNSETTLED = 1.25
Kind = Literal["solver", "surrogate"]
#: A function (initial states (batch, channel, *space), parameters, each (batch, ...)) -> trajectories (batch, time,
#: channel, *space) on the grid and at the times of the reference, without the initial state.
Run = Callable[[np.ndarray, Mapping[str, np.ndarray]], Any]


@dataclass(frozen=True)
class Contender:
    """One way to answer the requests.

    Attributes:
        name: name in the figure and the table, unique and without "/"; that of a rung states grid and time step.
        kind: "solver" for a rung of the solver's ladder, or "surrogate".
        run: function that answers a batch.
        label_core_seconds: cost of its training data.
        training_core_seconds: cost of its training.
        note: remark in the table.

    Raises:
        InputError: the kind is unknown, the name is empty or has a "/", or a cost is negative.
    """

    name: str
    kind: Kind
    run: Run
    label_core_seconds: float = 0.0
    training_core_seconds: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"no kind {self.kind!r}", where=self.name, remedy=f"Choose from {get_args(Kind)}")
        if not self.name or "/" in self.name:
            raise InputError(f"{self.name!r} is no name", where="contender", remedy='Give one without "/"')
        if min(self.label_core_seconds, self.training_core_seconds) < 0:
            raise InputError("a cost is negative", where=self.name)


@dataclass(frozen=True)
class Problem:
    """The requests that every contender answers, and the truth.

    Attributes:
        initial: initial states, in the units of the problem.
        truth: trajectories of the reference, without the initial state.
        parameters: coefficients of each request.
        scalar: function from trajectories to the quantity that a designer would rank by; None for none.
        scalar_name: name of that quantity, in words.

    Raises:
        InputError: the numbers of requests differ.
    """

    initial: Float[np.ndarray, "request channel *space"]
    truth: Float[np.ndarray, "request time channel *space"]
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)
    scalar: Callable[[np.ndarray], Float[np.ndarray, " request"]] | None = None
    scalar_name: str = ""

    def __post_init__(self) -> None:
        sizes = {"truth": len(self.truth), **{k: len(v) for k, v in self.parameters.items()}}
        for name, size in sizes.items():
            if size != len(self.initial) or not size:
                raise InputError(f"{size} of {name} for {len(self.initial)} initial states", where="problem")

    def batch(self, start: int, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Requests `start`, `start` + 1, ...; after the last one the first follows."""
        rows = np.arange(start, start + size) % len(self.initial)
        return self.initial[rows], {name: value[rows] for name, value in self.parameters.items()}


@dataclass(frozen=True)
class Clock:
    """The clocks of a measurement, in seconds."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = cpu_seconds


@dataclass(frozen=True)
class Settings:
    """Settings of a measurement.

    Attributes:
        cores: number of cores that the process uses; None for all that it is bound to.
        batch_sizes: batch sizes that are tried for every contender.
        trials: number of calls at each batch size to choose the best one.
        repeats: least number of timed rounds, each with one call of every contender.
        least_seconds: least time for which each contender is timed in total, because short calls scatter most.
        error: function from prediction and truth to the error of each request.
        error_name: name of the error, in words.

    Raises:
        InputError: a number is below 1.
    """

    cores: int | None = None
    batch_sizes: tuple[int, ...] = (1, 8, 64)
    trials: int = 3
    repeats: int = 7
    least_seconds: float = 0.5
    error: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, " request"]] = relative_l2_each
    error_name: str = "relative L2"

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(*self.batch_sizes, self.trials, self.repeats, self.used_cores) < 1:
            raise InputError("cores, batch sizes, trials and repeats are 1 or more", where="comparison")

    @property
    def used_cores(self) -> int:
        """`cores`, or the number of cores that the process is bound to."""
        return self.cores if self.cores is not None else len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Point:
    """Error and cost of one contender.

    Attributes:
        name, kind, label_core_seconds, training_core_seconds, note: see `Contender`.
        error: mean over requests; infinite if an answer is not finite.
        error_standard_error: of that mean; None for one request or an infinite error.
        core_seconds: processor time of one trajectory (on an accelerator wall time x cores), the least of the rounds,
            because other work on the machine can only add to it.
        core_seconds_median: the same as the median of the rounds.
        batch: batch size at which it was measured.
        core_seconds_by_batch: core-seconds of one trajectory at each batch size that was tried.
        latency_seconds: wall time of a single request, the least of the rounds.
        first_call_seconds: wall time of the first call at that batch size, compilation included.
        non_finite: number of values that are not finite.
        spearman, kendall: rank correlations of the designer's scalar with the truth; None without one.
    """

    name: str
    kind: Kind
    error: float
    core_seconds: float
    error_standard_error: float | None = None
    core_seconds_median: float = 0.0
    batch: int = 1
    core_seconds_by_batch: Mapping[int, float] = field(default_factory=dict)
    latency_seconds: float = 0.0
    first_call_seconds: float = 0.0
    non_finite: int = 0
    label_core_seconds: float = 0.0
    training_core_seconds: float = 0.0
    note: str = ""
    spearman: float | None = None
    kendall: float | None = None

    @property
    def unsettled(self) -> bool:
        """Whether the rounds differ so much that the machine must have done other work too."""
        return self.core_seconds_median > UNSETTLED * self.core_seconds

    @property
    def up_front(self) -> float:
        """Core-seconds before the first answer: labels and training."""
        return self.label_core_seconds + self.training_core_seconds
