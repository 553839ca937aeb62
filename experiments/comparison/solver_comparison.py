"""Compares a trained operator with the solver that it learned from: `understudy evaluate comparison=...`.

New requests are drawn on the grid of the reference, which is itself compared with a finer solution. The solver runs in
batches on a ladder of coarser grids and longer steps. Both solver and operator are compiled programs that start from
and return to the grid on which errors are measured, whatever grid they work on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from omegaconf import MISSING, DictConfig

from data.costs import label_core_seconds, training_core_seconds
from data.errors import InputError
from data.fields.layout import Layout
from data.fields.physics import refuse_other_physics
from data.settings import build
from data.spec import Coordinate
from experiments.application.stage import instantiate
from experiments.comparison.comparison_page import write_page
from experiments.comparison.contenders import Contender, Problem, Settings
from experiments.comparison.grid_solver import GridSolver
from experiments.comparison.ladder import Resolution, self_check
from experiments.comparison.resolution import Answer, GridError, grid_error
from experiments.comparison.result import Comparison, compare, show
from simulators.fluids.spectral.resample import resample
from simulators.precision import jit_float32
from simulators.requests import DrawSettings, Range
from surrogates.fields.networks.architectures import ARCHITECTURES
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.learning.sample_parts import domain_share

LOG = logging.getLogger(__name__)
PAGE = "comparison.html"
#: Trajectories in a batch when nothing is timed.
BATCH = 32


@dataclass(frozen=True)
class GridAndStep:
    """Number of grid points along each side, and a time step in the unit of time of the solver."""

    points: int = MISSING
    dt: float = MISSING


@dataclass(frozen=True)
class FluidComparison:
    """The keys of `comparison`.

    Attributes:
        title: name of the problem.
        simulator: solver that the operator learned from.
        initial, ranges: how initial states and parameters are drawn, as in `sampling`.
        count, seed: number and seed of the requests; the seed must differ from that of the training.
        reference, finer: resolution of the truth, and of the finer solution with which it is compared.
        rungs: resolutions of the solver's ladder.
        batch_sizes, repeats: see `experiments.comparison.contenders.Settings`.
        grids: more numbers of points along each side on which the operator is scored; none finer than the reference.
    """

    title: str = MISSING
    simulator: Any = MISSING
    initial: Any = MISSING
    ranges: dict[str, Any] = field(default_factory=dict)
    count: int = 64
    seed: int = 1_000_003
    reference: GridAndStep = field(default_factory=GridAndStep)
    finer: GridAndStep = field(default_factory=GridAndStep)
    rungs: list[GridAndStep] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8, 64])
    repeats: int = 7
    grids: list[int] = field(default_factory=list)


def solved(
    solver: GridSolver,
    initial: Float[np.ndarray, "sample channel *space"],
    parameters: Mapping[str, Float[np.ndarray, " sample"]],
    points: int,
) -> Float[np.ndarray, "sample time channel *grid"]:
    """Trajectories of a solver, interpolated from and to other grids, with the initial state first.

    Raises:
        InputError: a trajectory is not finite.
    """
    size = min(BATCH, len(initial))
    batches = []
    for start in range(0, len(initial), size):
        rows = np.resize(np.arange(start, min(start + size, len(initial))), size)
        states = resample(initial[rows], solver.points, dim=solver.dim)
        batch_parameters = {name: values[rows] for name, values in parameters.items()}
        answer = np.asarray(solver.trajectories(states, batch_parameters))
        if not np.isfinite(answer).all():
            raise InputError(
                f"a trajectory on {Resolution(solver.points, solver.step, solver.dim).name} is not finite",
                where="comparison",
                remedy="Take a shorter step for it",
            )
        answer = np.asarray(resample(answer, points, dim=solver.dim))
        batches.append(answer[: min(size, len(initial) - start)])
    return np.concatenate(batches).astype(np.float32)


def solver_contender(solver: GridSolver, points: int) -> Contender:
    """A rung of the ladder: the solver, interpolated from and to a grid of `points`."""

    @jit_float32
    def run(initial: Any, parameters: Any) -> Any:
        states = resample(initial, solver.points, dim=solver.dim)
        return resample(jax.vmap(solver.solve)(states, parameters), points, dim=solver.dim)[:, 1:]

    return Contender(Resolution(solver.points, solver.step, solver.dim).name, "solver", run)


def surrogate_contender(
    surrogate: FieldSurrogate, points: int, *, name: str, label_core_s: float, training_core_s: float, note: str = ""
) -> Contender:
    """A trained operator on the grid of its training, interpolated from and to a grid of `points`."""
    layout = surrogate.facts.layout
    trained_points, dim = layout.points[0], len(layout.space)
    steps = len(layout.axis("time").values) - 1 + layout.lead
    names = [v.name for v in layout.parameters]

    @jit_float32
    def run(initial: Any, parameters: Any) -> Any:
        start = jnp.moveaxis(resample(initial, trained_points, dim=dim), 1, -1)
        numbers = [jnp.asarray(parameters[n], jnp.float32) for n in names]
        conditions = jnp.stack(numbers, axis=-1) if numbers else jnp.zeros((len(start), 0))
        static = jnp.zeros((*start.shape[:-1], 0))
        states = surrogate.predict_traced(start, static, conditions, steps)
        return resample(jnp.moveaxis(states, -1, 2)[:, 1:], points, dim=dim)

    return Contender(
        name, "surrogate", run, label_core_seconds=label_core_s, training_core_seconds=training_core_s, note=note
    )


def _same_times(times: tuple[float, ...], layout: Layout) -> bool:
    """Whether a surrogate answers at these times; the tolerance is relative to the first step."""
    learned = layout.axis("time").values if layout.evolves else ()
    return len(times) == len(learned) and np.allclose(times, np.asarray(learned), rtol=1e-5, atol=1e-5 * times[1])


def _of_solver(solver: GridSolver, layout: Layout) -> Layout:
    """The layout with the axes and the attributes of the solver."""
    spec = solver.spec
    axes = {c.name: Coordinate(c.name, c.values, c.units, c.long_name) for c in spec.coords}
    attrs = {k: v for k, v in spec.attrs.items() if k in layout.attrs}
    return replace(layout, axes=tuple(axes.get(a.name, a) for a in layout.axes), attrs=attrs)


def peak(states: Float[np.ndarray, "sample time channel *space"]) -> Float[np.ndarray, " sample"]:
    """Largest absolute value at the last time."""
    return np.abs(states[:, -1]).reshape(len(states), -1).max(axis=1)


def on_other_grids(
    surrogate: FieldSurrogate,
    solver: GridSolver,
    grids: Sequence[int],
    initial: Float[np.ndarray, "request channel *space"],
    truth: Float[np.ndarray, "request time channel *grid"],
    parameters: Mapping[str, Float[np.ndarray, " request"]],
) -> tuple[GridError, ...]:
    """Errors of an operator and of the solver on several grids, that of the training included.

    Args:
        surrogate: operator without static input fields.
        solver: solver that the operator learned from, with the time step of its labels.
        grids: numbers of points along each side.
        initial, truth: initial states and trajectories of the reference, on grids at least as fine as the finest of
            `grids`; the trajectories omit the initial state.
        parameters: values of each parameter for all requests.
    """
    layout = surrogate.facts.layout
    trained_points, dim = layout.points[0], solver.dim
    conditions = [np.asarray(parameters[v.name], np.float32) for v in layout.parameters]
    numbers = np.stack(conditions, -1) if conditions else np.zeros((len(initial), 0), np.float32)

    def operator(start: np.ndarray) -> np.ndarray:
        states = np.moveaxis(start, 1, -1).astype(np.float32)
        nothing = np.zeros((*states.shape[:-1], 0), np.float32)
        answer = surrogate.predict_arrays(states, nothing, numbers, steps=truth.shape[1], batch=min(BATCH, len(start)))
        return np.moveaxis(answer.mean, -1, 2)[:, 1:]

    def rung(points: int) -> Answer:
        one = solver.at(points=points, dt=solver.step * min(1.0, solver.points / points))

        def run(start: np.ndarray) -> np.ndarray:
            try:
                return solved(one, start, parameters, points)[:, 1:]
            except InputError:
                return np.full((1,), np.nan)

        return run

    errors = []
    for n in sorted({*grids, trained_points}):
        grid_truth, start = (np.asarray(resample(values, n, dim=dim)) for values in (truth, initial))
        errors.append(grid_error(n, grid_truth, start, operator, rung(n), trained=n == trained_points))
    return tuple(errors)


def compare_with_solver(
    surrogate: FieldSurrogate, node: DictConfig, run_dir: Path, cores: int
) -> tuple[Comparison, dict[str, float]]:
    """Compare an operator with its solver, print the table, and write `comparison.json` and `comparison.html`.

    Args:
        surrogate: operator from `understudy train`, whose scores record the cost of its labels and training.
        node: see `FluidComparison`.
        run_dir: directory that receives the files.
        cores: number of cores that the process is bound to.

    Raises:
        InputError: the solver's grid, times, domain or equation differ from those of the training, or the reference is
            too inaccurate.
    """
    settings = build(FluidComparison, node, where="comparison")
    solver = instantiate(node.simulator)
    layout = surrogate.facts.layout
    if not isinstance(solver, GridSolver):
        raise InputError(
            f"{solver.name} has no ladder of grids and time steps",
            where="comparison.simulator",
            remedy="Give a simulator that exponax solves",
        )
    if not layout.evolves:
        raise InputError(
            f"the surrogate answers {layout.output.name}, which does not evolve as the answers of a ladder do",
            where="comparison",
            remedy="Leave it out",
        )
    times = tuple(i * solver.save_dt for i in range(solver.steps + 1))
    if (solver.points,) * solver.dim != layout.points or not _same_times(times, layout):
        raise InputError(
            f"the surrogate answers on {layout.points} points at {len(layout.axis('time').values)} times, the solver "
            f"on {(solver.points,) * solver.dim} at {len(times)}",
            where="comparison.simulator",
            remedy="Give the points, save_dt and steps of the training",
        )
    learned_from = _of_solver(solver, layout)
    refuse_other_physics(learned_from, layout, "comparison.simulator")
    equations = [x.attrs.get("equation", "") for x in (learned_from, layout)]
    if all(equations) and equations[0] != equations[1]:
        raise InputError(
            f"it solves {equations[0]}, but {equations[1]} was learned",
            where="comparison.simulator",
            remedy="Give the solver of the training",
        )
    if solver.fingerprint != surrogate.labels_fingerprint:
        LOG.warning(
            "comparison.simulator differs in its settings or version from the solver that was learned; where these "
            "change the answers, the operator is compared with answers that it never learned"
        )
    ranges = {n: build(Range, v, where=f"comparison.ranges.{n}") for n, v in (node.get("ranges") or {}).items()}
    reference = solver.at(points=settings.reference.points, dt=settings.reference.dt)
    what = DrawSettings(settings.count, initial=instantiate(node.initial), ranges=ranges)
    drawn = list(reference.draw(what, settings.seed))
    initial = np.stack([r["initial"].values for r in drawn])
    parameters = {n: np.array([float(r[n]) for r in drawn]) for n in ranges}
    if settings.grids and max(settings.grids) > reference.points:
        raise InputError(
            f"{max(settings.grids)} points are more than the reference has",
            where="comparison.grids",
            remedy=f"Give at most {reference.points}",
        )
    finest = solved(reference, initial, parameters, max([solver.points, *settings.grids]))
    truth = np.asarray(resample(finest, solver.points, dim=solver.dim))
    few = slice(0, 8)
    finer = solver.at(points=settings.finer.points, dt=settings.finer.dt)
    check = solved(finer, initial[few], {n: v[few] for n, v in parameters.items()}, solver.points)
    difference = self_check(truth[few, 1:], check[:, 1:])
    scores = surrogate.scores
    contenders = [solver_contender(solver.at(points=r.points, dt=r.dt), solver.points) for r in settings.rungs]
    contenders.append(
        surrogate_contender(
            surrogate,
            solver.points,
            name=ARCHITECTURES.name_of(surrogate.facts.config.network),
            label_core_s=label_core_seconds(scores),
            training_core_s=training_core_seconds(scores, cores),
            note=f"{scores.get('train/samples', 0):,.0f} trajectories to learn from",
        )
    )
    start = np.asarray(resample(initial, solver.points, dim=solver.dim))
    problem = Problem(start, truth[:, 1:], parameters, peak, "largest value at the last time")
    comparison = compare(
        settings.title,
        contenders,
        problem,
        reference=Resolution(reference.points, reference.step, reference.dim).name,
        reference_difference=difference,
        settings=Settings(cores=cores, batch_sizes=tuple(settings.batch_sizes), repeats=settings.repeats),
    )
    if settings.grids:
        tried = on_other_grids(surrogate, solver, settings.grids, initial, finest[:, 1:], parameters)
        comparison = replace(comparison, resolution=tried)
    comparison.write(run_dir)
    write_page([comparison], run_dir / PAGE)
    show(comparison)
    flat = {f"comparison/{k}": float(v) for k, v in comparison.to_json().items() if isinstance(v, float | int)}
    states = np.moveaxis(start, 1, -1)
    columns = [parameters[v.name][:, None] for v in layout.parameters]
    numbers = np.concatenate([np.zeros((len(start), 0)), *columns], axis=1)
    nothing = np.zeros((*states.shape[:-1], 0), np.float32)
    return comparison, flat | domain_share(surrogate.outside(states, nothing, numbers), "comparison")
