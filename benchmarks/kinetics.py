"""Compares surrogates of reactor kinetics with the integrators that they learned from, and with looser ones.

Robertson's problem (three species, SciPy) and the ignition of hydrogen (Cantera). Each side answers a table of requests
in one process: the integrators one request after the other without labelled arrays, the surrogate in batches. The
solver of equal error is the cheapest setting whose errors on the held-out samples are no larger than those of the
surrogate. For Robertson's problem there is also an integrator that advances all requests at once, as an efficient
baseline of a small system. Costs of labels and training give the break-even.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.common import Result, arguments, pin, report
from data.errors import InputError

#: Problem -> choice of `simulator=` and `sampling=`; its recipe is task=kinetics/<problem>.
PROBLEMS = {"robertson": "robertson", "ignition": "hydrogen_oxygen"}
#: Tolerances of the looser solvers, from cheap to expensive.
TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6)
#: Steps between two saved times of the integrator that advances all requests of Robertson's problem at once.
SUBSTEPS = (1, 2, 3, 4, 6, 8, 12)
#: Held-out requests that each looser solver integrates, and requests that the surrogate and the batched one answer.
SOLVED, BATCHED = 150, 8192


def label(problem: str, folder: Path, count: int, workers: int) -> tuple[Path, Any]:
    """A store of labels, which an earlier run may have begun, and the simulator.

    Raises:
        InputError: the store holds more requests than asked for, so its cost would include others.
    """
    from data.store.records import RecordStore
    from experiments.application.stage import instantiate
    from experiments.campaigns.sampled import draw_requests
    from simulators.campaigns.campaign import CampaignConfig, run_campaign

    name = PROBLEMS[problem]
    config = _composed("simulate", f"simulator={name}", f"sampling={name}", f"sampling.count={count}")
    simulator, store = instantiate(config.simulator), folder / "labels.zarr"
    if (store / "store.json").exists():
        with RecordStore.open(store) as records:
            if len(records) > count:
                raise InputError(f"holds {len(records)} records", where=str(store), remedy="Delete it, or ask for more")
    requests, total = draw_requests(config.sampling, simulator)
    run_campaign(simulator, requests, store, CampaignConfig(workers=workers), total=total, progress=False)
    return store, simulator


def train(problem: str, store: Path, folder: Path, overrides: Sequence[str]) -> tuple[Any, dict[str, float], float]:
    """Train with the recipe of the problem; return the table, the scores and the core-seconds of training."""
    from data.parameters import read_parameters
    from data.processes.processor import tree_seconds
    from experiments.stages.train import task_of, train_on
    from surrogates.learning.sample_task import SampleSets

    shutil.rmtree(folder, ignore_errors=True)
    settings = [f"task=kinetics/{problem}", f"data.file={store}", f"run.dir={folder}", "train.mlflow=false"]
    config = _composed("train", *settings, "train.checkpoint_every_s=null", *overrides)
    table, _ = read_parameters(store, list(config.data.target))
    start = tree_seconds()
    scores = train_on(task_of(config), SampleSets(table, {}), folder, progress=False)
    return table, scores, tree_seconds() - start


def _composed(stage: str, *overrides: str) -> Any:
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(stage, list(overrides))


def errors(
    labels: Float[np.ndarray, "sample target"],
    prediction: Float[np.ndarray, "sample target"],
    slices: dict[str, slice],
    floors: dict[str, float],
) -> dict[str, float]:
    """Mean absolute errors by output, and for fractions the typical factor by which they are wrong, minus 1."""
    result = {}
    for name, columns in slices.items():
        truth, mine = labels[:, columns], prediction[:, columns]
        result[f"{name}: mean absolute error"] = float(np.abs(mine - truth).mean())
        if name in floors:
            ratio = np.log((mine + floors[name]) / (truth + floors[name]))
            result[f"{name}: typical factor of error, minus 1"] = float(np.expm1(np.abs(ratio).mean()))
    return result


def solvers(problem: str, simulator: Any) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Looser settings of the integrator, as functions from the row of a request to the row of its answer."""
    from dataclasses import replace

    def robertson(one: Any, row: np.ndarray) -> np.ndarray:
        k1, k2, k3, b, c = row.tolist()
        return np.asarray(one.integrate((k1, k2, k3), (1 - b - c, b, c))[0].ravel())

    def ignition(one: Any, row: np.ndarray) -> np.ndarray:
        fraction, temperature, _ = one.integrate(*row.tolist())
        return np.concatenate([fraction.ravel(), temperature])

    answer = robertson if problem == "robertson" else ignition
    # CVODES takes steps of no length at tolerances above 0.01.
    useful = [t for t in TOLERANCES if problem == "robertson" or t <= 1e-2]
    every = {f"tolerance {t:g}": replace(simulator, tolerance=t) for t in useful}
    return {name: partial(answer, one) for name, one in every.items()}


def _each(solve: Callable[[np.ndarray], np.ndarray], rows: Float[np.ndarray, "sample column"]) -> list[np.ndarray]:
    return [solve(row) for row in rows]


def robertson_at_once(
    table: Float[np.ndarray, "sample 5"], saved: Float[np.ndarray, " time"], substeps: int
) -> Float[np.ndarray, "sample target"]:
    """Robertson's problem for all requests at once, by Rodas3 with fixed logarithmic steps, in double precision.

    Rodas3 is a stiffly accurate Rosenbrock method of order 3 with 4 stages (Sandu et al., Atmos. Environ. 1997, 31,
    3459). A matrix of 3 by 3 is inverted in closed form.

    Args:
        table: rate constants and initial fractions of B and C.
        saved: saved times, s.
        substeps: steps between two saved times.
    """
    import jax
    import jax.numpy as jnp

    before = np.geomspace(1e-3 * saved[0], saved[0], 15)
    between = [np.geomspace(a, b, substeps + 1)[1:] for a, b in pairwise(saved)]
    edges = np.concatenate([[0.0], before, *between])

    def advance(y: Any, h: Any, k: Any) -> Any:
        def f(y: Any) -> Any:
            first, second, third = k[0] * y[0], k[1] * y[1] * y[2], k[2] * y[1] ** 2
            return jnp.stack([second - first, first - second - third, third])

        g = 2.0 / h
        m = [
            [g + k[0], -k[1] * y[2], -k[1] * y[1]],
            [-k[0], g + k[1] * y[2] + 2 * k[2] * y[1], k[1] * y[1]],
            [0.0, -2 * k[2] * y[1], g],
        ]
        cofactors = [
            [m[(i + 1) % 3][(j + 1) % 3] * m[(i + 2) % 3][(j + 2) % 3]
             - m[(i + 1) % 3][(j + 2) % 3] * m[(i + 2) % 3][(j + 1) % 3] for j in range(3)]
            for i in range(3)
        ]  # fmt: skip
        determinant = sum(m[0][j] * cofactors[0][j] for j in range(3))

        def solve(r: Any) -> Any:
            return jnp.stack([sum(cofactors[j][i] * r[j] for j in range(3)) for i in range(3)]) / determinant

        start = f(y)
        u1 = solve(start)
        u2 = solve(start + 4 * u1 / h)
        u3 = solve(f(y + 2 * u1) + (u1 - u2) / h)
        u4 = solve(f(y + 2 * u1 + u3) + (u1 - u2 - 8 / 3 * u3) / h)
        return y + 2 * u1 + u3 + u4

    def run(columns: Any, steps: Any) -> Any:
        k, (b, c) = columns[:3], columns[3:]
        first = jnp.stack([1 - b - c, b, c])
        return jax.lax.scan(lambda y, h: ((new := advance(y, h, k)), new), first, steps)[1]

    with jax.enable_x64(True):
        program = _COMPILED.setdefault(substeps, jax.jit(run))
        states = np.asarray(program(jnp.asarray(table.T), jnp.asarray(np.diff(edges))))
    at = 14 + substeps * np.arange(len(saved))
    return np.moveaxis(states[at], 2, 0).reshape(len(table), -1)


_COMPILED: dict[int, Any] = {}


def cost(function: Callable[[], Any], repeats: int = 3) -> float:
    """Least processor time of a call in this process and its threads, s, after one that compiles."""
    function()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        spent.append(time.process_time() - start)
    return min(spent)


def half_rise(
    temperature: Float[np.ndarray, "sample time"], saved: Float[np.ndarray, " time"]
) -> Float[np.ndarray, " sample"]:
    """The time at which half of the rise of temperature is done, interpolated in its logarithm; NaN below 200 K."""
    level = (temperature[:, :1] + temperature[:, -1:]) / 2
    at = np.clip(np.argmax(temperature > level, axis=1), 1, None)
    rows = np.arange(len(temperature))
    low, high = temperature[rows, at - 1], temperature[rows, at]
    share = np.clip((level[:, 0] - low) / np.where(high > low, high - low, 1.0), 0, 1)
    times = np.exp(np.log(saved[at - 1]) + share * np.log(saved[at] / saved[at - 1]))
    return np.where(temperature[:, -1] - temperature[:, 0] > 200.0, times, np.nan)


def conservation(
    problem: str, simulator: Any, named: dict[str, np.ndarray], truth: dict[str, np.ndarray]
) -> list[Result]:
    """How well predictions keep the total and the elements, and find the time of ignition."""
    from benchmarks.common import Result

    key = "fraction" if problem == "robertson" else "mass_fraction"
    results = [Result("largest deviation of the total from 1", float(np.abs(named[key].sum(-1) - 1).max()), "1")]
    if problem == "ignition":
        drift = np.abs(simulator.elements(named[key]) - simulator.elements(truth[key]))
        mine, theirs = (half_rise(d["temperature"], simulator.saved_times) for d in (named, truth))
        both = np.isfinite(mine) & np.isfinite(theirs)
        delay = np.abs(mine[both] / theirs[both] - 1)
        results += [
            Result("mass of an element, mean absolute error", float(drift.mean()), "1"),
            Result("mass of an element, largest error", float(drift.max()), "1"),
            Result("ignition delay, median relative error", float(np.median(delay)), "1"),
            Result("ignition delay, 90th percentile of the relative error", float(np.quantile(delay, 0.9)), "1"),
        ]
    return results


def draw(path: Path, surrogate: Any, values: np.ndarray, labels: np.ndarray, saved: np.ndarray) -> None:
    """Draw temperature and three species of two held-out ignitions, by Cantera and by the surrogate with its band."""
    from matplotlib.figure import Figure

    layout = surrogate.facts.layout
    species = list(next(a.values for a in layout.axes if a.name == "species"))
    delays = half_rise(layout.named_outputs(labels)["temperature"], saved)
    order = np.argsort(np.where(np.isfinite(delays), delays, np.inf))[: np.isfinite(delays).sum()]
    rows = [order[len(order) // 5], order[4 * len(order) // 5]]
    answers = {kind: layout.named_outputs(v[rows]) for kind, v in surrogate.predict_columns(values).items()}
    truth = layout.named_outputs(labels[rows])
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for k, row in enumerate(rows):
        upper, lower = axes[:, k]
        kelvin, pascal = values[row, :2]
        upper.set_title(f"{kelvin:.0f} K, {pascal / 101325:.2g} atm, {values[row, 3]:.0%} argon")
        curves: list[tuple[Any, str, Any, str, str]] = [(upper, "temperature", ..., "temperature", "tab:red")]
        for name, colour in (("H2", "tab:blue"), ("OH", "tab:orange"), ("H2O", "tab:green")):
            curves.append((lower, "mass_fraction", (..., species.index(name)), name, colour))
        for axis, key, at, name, colour in curves:
            axis.plot(saved, truth[key][k][at], ".", color=colour, markersize=5, label=f"{name}, Cantera")
            axis.plot(saved, answers[""][key][k][at], color=colour, label=f"{name}, surrogate")
            axis.fill_between(saved, answers["low"][key][k][at], answers["high"][key][k][at], color=colour, alpha=0.25)
        upper.set_ylabel("temperature (K)")
        lower.set_ylabel("mass fraction")
        lower.set_yscale("log")
        lower.set_ylim(1e-8, 1)
        lower.set_xscale("log")
        lower.set_xlabel("time (s)")
        lower.legend(fontsize=7, ncols=2, loc="lower right")
        upper.legend(fontsize=8, loc="lower right")
    figure.suptitle(
        "A surrogate of hydrogen ignition beside Cantera, with 90% intervals: sharp fronts are the hard part"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def compare(problem: str, folder: Path, options: Any, cores: int) -> list[Result]:
    """Label, train, score and measure one problem."""
    from experiments.screening.hit_rates import break_even
    from surrogates.saved import load_surrogate

    folder.mkdir(parents=True, exist_ok=True)
    store, simulator = label(problem, folder, options.labels, cores)
    table, scores, training = train(problem, store, folder / "run", options.set)
    surrogate = load_surrogate(folder / "run" / "surrogate")
    layout, floors = surrogate.facts.layout, surrogate.facts.config.logarithms
    slices = layout.target_slices
    rows = np.array(json.loads((folder / "run" / "split.json").read_text())["test"])
    values, labels = table.values[rows], table.labels[rows]
    prediction = surrogate.predict_columns(values)[""]
    mine = errors(labels, prediction, slices, floors)
    if problem == "ignition" and options.figure is not None:
        draw(options.figure, surrogate, values, labels, simulator.saved_times)
    results = [Result(name, value, "1") for name, value in mine.items()]
    head = "test" if len(slices) == 1 else None
    for name in slices:
        coverage = scores[f"{head or f'test/{name}'}/coverage_90"]
        results.append(Result(f"{name}: 90% intervals held, of all entries", coverage, "1"))
    results += conservation(problem, simulator, layout.named_outputs(prediction), layout.named_outputs(labels))
    box = surrogate.facts.domain
    many = np.random.default_rng(0).uniform(box.low, box.high, (BATCHED, len(box.low)))
    each = cost(lambda: surrogate.predict_columns(many)) / BATCHED
    request = simulator.spec.request(layout.named(values[0]))
    spent = scores["train/label_core_seconds"]
    results += [
        Result(f"labels: {options.labels} requests, failures counted", spent, "core-s"),
        Result("training, compilation counted", training, "core-s"),
        Result("surrogate, a request of a table", each * 1e6, "core-us"),
        Result("surrogate, a request alone", cost(lambda: surrogate.simulate(request), 20) * 1e6, "core-us"),
        Result("simulator, a request alone", cost(lambda: simulator.simulate(request), 20) * 1e6, "core-us"),
    ]
    some = values[:SOLVED]
    cheapest: tuple[str, float] | None = None
    for name, solve in solvers(problem, simulator).items():
        try:
            answers = np.stack([solve(row) for row in some])
            theirs = errors(labels[:SOLVED], answers, slices, floors)
            seconds = cost(partial(_each, solve, some), 2) / len(some)
        except Exception as error:  # a tolerance that fails on a request cannot be compared
            print(f"{problem}, {name}: {error}", file=sys.stderr)
            continue
        results.append(Result(f"solver, {name}: a request of a table", seconds * 1e6, "core-us"))
        if all(theirs[k] <= mine[k] for k in mine):
            cheapest = (name, seconds)
            results += [Result(f"solver of equal error, {name}: {k}", v, "1") for k, v in theirs.items()]
            break
    if problem == "robertson":
        for substeps in SUBSTEPS:
            answers = robertson_at_once(values, simulator.saved_times, substeps)
            theirs = errors(labels, answers, slices, floors)
            if np.isfinite(answers).all() and all(theirs[k] <= mine[k] for k in mine):
                seconds = cost(partial(robertson_at_once, many, simulator.saved_times, substeps)) / BATCHED
                results.append(Result(f"all requests at once, {substeps} steps: a request", seconds * 1e6, "core-us"))
                results += [Result(f"all requests at once: {k}", v, "1") for k, v in theirs.items()]
                if cheapest is None or seconds < cheapest[1]:
                    cheapest = (f"all requests at once, {substeps} steps", seconds)
                break
    if cheapest is None:
        return results
    results.append(Result(f"cheapest solver of equal error ({cheapest[0]}) over surrogate", cheapest[1] / each, "1"))
    count = break_even(spent + training, cheapest[1], each)
    if count is not None:
        results.append(Result("break-even: requests from which labels and training have paid", count, "requests"))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--labels", type=int, default=3000, help="requests that the solver labels (%(default)s)")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="which to run")
    parser.add_argument("--figure", type=Path, default=None, help="file for a picture of two ignitions")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the configuration")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    results = []
    for problem in options.problems:
        folder = (options.out / "kinetics" / problem).resolve()
        for r in compare(problem, folder, options, len(cores)):
            results.append(Result(f"{problem}: {r.name}", r.value, r.unit))
    report("kinetics", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
