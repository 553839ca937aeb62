"""Measures error and cost of each contender on the same requests, with the timed rounds of all of them interleaved.

The cost is processor time, which other work on the machine hardly changes; wall time gives the latency. On an
accelerator, whose work takes no processor time, the cost is wall time x cores.

A timed call begins with NumPy arrays and ends with the whole answer as an array on the host. Compilation is excluded
and reported separately; resampling onto the grid of the reference is included. Each contender runs at the batch size,
of a list that is the same for all, at which it is cheapest.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from data.errors import InputError
from experiments.comparison.contenders import Clock, Contender, Point, Problem, Settings
from surrogates.learning.field_metrics import non_finite, rank_correlation

#: Ratio of processor time to wall time x cores above which the stated number of cores counts as wrong.
CPU_SLACK = 1.1
#: Seconds of wall time below which processor time, counted in ticks, is too coarse for that check.
CPU_LEAST_S = 1.0
#: Largest number of timed rounds, however short the calls are.
MOST_ROUNDS = 200


def time_batch(
    contender: Contender, problem: Problem, start: int, size: int, clock: Clock
) -> tuple[float, float, np.ndarray]:
    """Wall and processor seconds of one batch, and its answer as an array in the memory of the host.

    Raises:
        InputError: the answer has another shape than the truth, or a type whose computation may not be finished.
    """
    initial, parameters = problem.batch(start, size)
    cpu, wall = clock.cpu(), clock.wall()
    output = contender.run(initial, parameters)
    # JAX returns before a computation is finished; an array on the host is proof that it is.
    answer = np.asarray(jax.block_until_ready(output)) if isinstance(output, np.ndarray | jax.Array) else None
    wall, cpu = clock.wall() - wall, clock.cpu() - cpu
    if answer is None:
        raise InputError(
            f"the answer is a {type(output).__name__}, whose computation may not be finished",
            where=contender.name,
            remedy="Return a NumPy or JAX array",
        )
    if answer.shape != (size, *problem.truth.shape[1:]):
        raise InputError(
            f"answers have shape {answer.shape}, not {(size, *problem.truth.shape[1:])}",
            where=contender.name,
            remedy="Resample to the grid and times of the reference inside `run`, and leave the initial state out",
        )
    return wall, cpu, answer


def measure(
    contenders: Sequence[Contender],
    problem: Problem,
    settings: Settings | None = None,
    clock: Clock | None = None,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Point]:
    """Measure the contenders; the points are in their order.

    Successive calls answer different requests, so that a cache of earlier answers does not help.

    Args:
        contenders: rungs of the solver and surrogates.
        problem: requests and truth.
        settings: settings of the measurement.
        clock: clocks; None for those of the machine.
        progress: called with the name of each contender before it is tried.

    Raises:
        InputError: two contenders have the same name, or one used more cores than `settings` states; see also
            `time_batch`.
    """
    settings, clock = settings or Settings(), clock or Clock()
    names = [c.name for c in contenders]
    if len(set(names)) < len(names):
        raise InputError(f"two are called {max(names, key=names.count)!r}", where="contenders", remedy="Rename one")
    chosen = []
    for contender in contenders:
        progress(contender.name)
        chosen.append(_choose_batch(contender, problem, settings, clock))
    rounds: list[list[float]] = [[] for _ in contenders]
    spent: list[list[float]] = [[] for _ in contenders]
    single: list[list[float]] = [[] for _ in contenders]
    for turn in range(MOST_ROUNDS):
        short = [len(r) < settings.repeats or sum(r) < settings.least_seconds for r in rounds]
        if not any(short):
            break
        for place, needed in enumerate(short):
            if not needed:
                continue
            contender, choice, walls, singles = contenders[place], chosen[place], rounds[place], single[place]
            wall, cpu, _ = time_batch(contender, problem, turn * (choice.size + 1), choice.size, clock)
            walls.append(wall)
            spent[place].append(_cost(wall, cpu, settings))
            choice.add_call(wall, cpu)
            if len(singles) < settings.repeats:
                singles.append(time_batch(contender, problem, turn, 1, clock)[0])
    points = []
    for contender, choice, costs, singles in zip(contenders, chosen, spent, single, strict=True):
        _refuse_more_cores(contender.name, choice, settings.used_cores)
        points.append(
            Point(
                name=contender.name,
                kind=contender.kind,
                **_accuracy(contender, problem, choice.size, settings),
                core_seconds=min(costs) / choice.size,
                core_seconds_median=statistics.median(costs) / choice.size,
                batch=choice.size,
                core_seconds_by_batch=choice.tried,
                latency_seconds=min(singles),
                first_call_seconds=choice.first_call,
                label_core_seconds=contender.label_core_seconds,
                training_core_seconds=contender.training_core_seconds,
                note=contender.note,
            )
        )
    return points


@dataclass
class _Choice:
    """The chosen batch size, the cost at every size, and the wall and processor time measured at the chosen one."""

    size: int
    tried: dict[int, float]
    first_call: float
    wall: float = 0.0
    cpu: float = 0.0

    def add_call(self, wall: float, cpu: float) -> None:
        self.wall += wall
        self.cpu += cpu


def _cost(wall: float, cpu: float, settings: Settings) -> float:
    """Core-seconds of a call, from its wall and processor seconds."""
    return cpu if jax.default_backend() == "cpu" else wall * settings.used_cores


def _choose_batch(contender: Contender, problem: Problem, settings: Settings, clock: Clock) -> _Choice:
    tried: dict[int, float] = {}
    first: dict[int, float] = {}
    # A single request is tried too, so that it is compiled before it is timed.
    for size in sorted({1, *settings.batch_sizes}):
        first[size] = time_batch(contender, problem, 0, size, clock)[0]
        if size in settings.batch_sizes:
            trials = [
                time_batch(contender, problem, (k + 1) * (size + 1), size, clock)[:2] for k in range(settings.trials)
            ]
            tried[size] = min(_cost(wall, cpu, settings) for wall, cpu in trials) / size
    best = min(tried, key=lambda size: tried[size])
    return _Choice(best, tried, first[best])


def _refuse_more_cores(name: str, choice: _Choice, cores: int) -> None:
    if choice.wall >= CPU_LEAST_S and choice.cpu > CPU_SLACK * cores * choice.wall:
        raise InputError(
            f"used {choice.cpu / choice.wall:.1f} cores where {cores} are stated",
            where=name,
            remedy="Bind the process to the cores that are stated, or state those that it uses",
        )


def _accuracy(contender: Contender, problem: Problem, size: int, settings: Settings) -> dict[str, Any]:
    """Error with its standard error, and rank correlations, from one answer to every request."""
    total = len(problem.initial)
    parts = [time_batch(contender, problem, start, size, Clock())[2] for start in range(0, total, size)]
    answers = np.concatenate(parts)[:total]
    errors = settings.error(answers, problem.truth)
    mean = float(errors.mean())
    has_spread = total > 1 and np.isfinite(mean)
    accuracy: dict[str, Any] = {
        "error": mean,
        "error_standard_error": float(errors.std(ddof=1) / np.sqrt(total)) if has_spread else None,
        "non_finite": non_finite(answers),
    }
    if problem.scalar is not None:
        order = rank_correlation(problem.scalar(answers), problem.scalar(problem.truth))
        accuracy |= {"spearman": order.spearman, "kendall": order.kendall}
    return accuracy
