"""What is compared, on what, how, and what comes out: the nouns of a comparison."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from experiments.screening_usage import cpu_seconds
from surrogates.field_metrics import relative_l2_each

#: Median over least of the rounds above which timings count as disturbed.
UNSETTLED = 1.25
Kind = Literal["solver", "surrogate"]
#: Initial states (batch, channel, *space) and parameters, each (batch, ...), to trajectories (batch, time, channel,
#: *space) at the grid and times of the reference, without the initial state.
Run = Callable[[np.ndarray, Mapping[str, np.ndarray]], Any]


@dataclass(frozen=True)
class Contender:
    """One way to answer the requests.

    Attributes:
        name: shown in the figure and the table, unique, without "/"; of a rung it states grid and time step.
        kind: a rung of the solver's ladder, or a surrogate.
        run: answers a batch.
        label_core_seconds: what its training data cost.
        training_core_seconds: what its training cost.
        note: for the table.

    Raises:
        InputError: the kind or the name will not do, or a cost is negative.
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
        initial: initial states.
        truth: trajectories of the reference, without the initial state.
        parameters: coefficients of each request.
        scalar: what a designer would rank by, from trajectories to one number each; None for nothing.
        scalar_name: in words.

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
        """Requests `start`, `start` + 1, ...; after the last one comes the first again."""
        rows = np.arange(start, start + size) % len(self.initial)
        return self.initial[rows], {name: value[rows] for name, value in self.parameters.items()}


@dataclass(frozen=True)
class Clock:
    """Where times come from, in seconds."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = cpu_seconds


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        cores: those that the process may use; all that it is bound to if None.
        batch_sizes: tried by every contender.
        trials: calls at each size that choose among them.
        repeats: timed rounds, each with one call of every contender; at least so many.
        least_seconds: rounds go on until a contender has been timed for so long, because short calls scatter most.
        error: of each request from prediction and truth.
        error_name: in words.

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
        """`cores`, or those that the process is bound to."""
        return self.cores if self.cores is not None else len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Point:
    """What one contender reached.

    Attributes:
        name, kind, label_core_seconds, training_core_seconds, note: see `Contender`.
        error: mean over requests; infinite if an answer is not finite.
        error_standard_error: of that mean; None for one request or an infinite error.
        core_seconds: processor time of one trajectory (on an accelerator wall time x cores), the least of the rounds:
            what else the machine does can only add to it.
        core_seconds_median: the median of the rounds.
        batch: the batch size at which that is.
        core_seconds_by_batch: of one trajectory at each size that was tried.
        latency_seconds: wall time of a single request, the least of the rounds.
        first_call_seconds: wall time of the first call at that batch size, compilation included.
        non_finite: values that are not.
        spearman, kendall: of the designer's scalar; None without one.
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
        """Whether the rounds differ so much that the machine must have done something else too."""
        return self.core_seconds_median > UNSETTLED * self.core_seconds

    @property
    def up_front(self) -> float:
        """Core-seconds before the first answer: labels and training."""
        return self.label_core_seconds + self.training_core_seconds
