"""Compares a network that corrects a coarse solver with the solver's own grids, at equal error.

The solver (exponential time differencing as in exponax) steps on a coarse grid, a small network adds what that grid
misses, and training goes through several steps of both (Um et al. 2020, arXiv:2007.00016; Kochkov et al. 2021,
arXiv:2102.01010). It learns from a fine solver and is compared, in batches as it is, with a ladder of the solver's own
grids and time steps, against a reference that is compared with its refinement. Answers are ten times as long as the
trajectories over which training unrolls, so that errors at each time show how they grow; the solver's cost at equal
error is read off the ladder at each of these times. Labels and training count in the number of trajectories after which
the surrogate has paid.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.common import Result, arguments, pin, report
from benchmarks.corrector_cases import CASES, CorrectorCase, Rung

BATCHES = (1, 8)
TEST_SEED, TRAIN_SEED, VALID_SEED = 1, 0, 2


def initial_states(case: CorrectorCase, count: int, seed: int, rung: Rung) -> Float[np.ndarray, "sample channel *x"]:
    """States after the spin-up, on the grid of a rung."""
    from experiments.comparison.solver_comparison import solved
    from simulators.fluids.spectral import initial
    from simulators.fluids.spectral.spin_up import SpunUp

    name, settings = case.initial
    early = case.early or rung
    channels = len(case.solver(rung, steps=1).spec.coordinate("channel").values)
    spun = SpunUp(getattr(initial, name)(**settings), case.solver(early, steps=1, save_dt=case.spin_up))
    draws = [
        spun.sample(np.random.default_rng([seed, start]), min(16, count - start), early[0], case.dim, channels)
        for start in range(0, count, 16)
    ]
    states = np.concatenate(draws)
    if case.settle:
        states = solved(case.solver(rung, steps=1, save_dt=case.settle), states, {}, rung[0])[:, -1]
    return states


@dataclass(frozen=True)
class Coarse:
    """The solver on which the network stands; a `surrogates.learning.rung.Rung` that is never asked for answers."""

    simulator: Any
    outputs: tuple[str, ...] = ()

    def ask(self, *_: Any, **__: Any) -> Any:
        """Refuse: training steps the solver, and asks it for no answer."""
        raise RuntimeError("this solver is stepped in training, and is not asked for answers")


def train(
    case: CorrectorCase,
    labels: Float[np.ndarray, "sample time channel *x"],
    valid: Float[np.ndarray, "sample time channel *x"],
    folder: Path,
    epochs: int,
    overrides: Sequence[str],
) -> tuple[Any, float]:
    """Train the surrogate, or resume its training in a folder; return it and the core-seconds of its training."""
    from hydra import compose, initialize_config_dir

    from benchmarks.field_tables import trajectory_table
    from data.settings import build
    from experiments.application.choices import CONF
    from surrogates.fields.fit import fit_field_surrogate
    from surrogates.fields.task import FieldTask
    from surrogates.learning.loop import TrainConfig

    network = [f"model.network.{key}={value}" for key, value in case.network.items()]
    settings = [
        *("task=fluids/trajectories", "model=corrector", "data.file=none", "train.mlflow=false"),
        *(f"train.epochs={epochs}", "train.batch_size=8", "train.learning_rate=3e-3", "model.network.activation=relu"),
        *(f"model.loss.unroll={case.unroll}", "model.loss.unroll_from=0.7", "model.loss.unroll_full=0.85"),
        f"model.corrections={case.corrections}",
        *(*network, *overrides),
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", settings)
    surrogate, result = fit_field_surrogate(
        trajectory_table(labels, length=case.length, save_dt=case.save_dt),
        trajectory_table(valid, length=case.length, save_dt=case.save_dt),
        FieldTask.model_settings(config.model),
        build(TrainConfig, config.train, where="train"),
        folder,
        on=Coarse(case.solver(case.coarse, steps=case.label_steps)),
        progress=False,
    )
    return surrogate, result.core_seconds


def contender(surrogate: Any, case: CorrectorCase, label_core_s: float, training_core_s: float) -> Any:
    """The surrogate, answering on the grid and over the time of the comparison."""
    import jax.numpy as jnp

    from experiments.comparison.contenders import Contender
    from simulators.precision import jit_float32

    @jit_float32
    def run(initial: Any, parameters: Any) -> Any:
        start = jnp.moveaxis(initial, 1, -1)
        nothing = jnp.zeros((*start.shape[:-1], 0))
        states = surrogate.predict_traced(start, nothing, jnp.zeros((len(start), 0)), case.steps)
        return jnp.moveaxis(states, -1, 2)[:, 1:]

    return Contender(
        f"corrected {name_of(case.coarse)}",
        "surrogate",
        run,
        label_core_seconds=label_core_s,
        training_core_seconds=training_core_s,
    )


def name_of(rung: Rung) -> str:
    """The name of a rung, such as "solver 32 points dt 0.1 dealias 0.67"."""
    points, dt, dealias = rung
    return f"solver {points} points dt {dt:g} dealias {dealias:.2g}"


def errors_in_time(
    contenders: Sequence[Any], case: CorrectorCase, initial: np.ndarray, truth: np.ndarray, times: Sequence[int]
) -> dict[str, dict[int, float]]:
    """By contender, the relative L2 error at each of some times, mean over trajectories; infinite after a blow-up."""
    errors: dict[str, dict[int, float]] = {}
    axes = tuple(range(1, truth.ndim - 1))
    size = min(16, len(initial))
    for one in contenders:
        answer = np.concatenate([np.asarray(one.run(initial[s : s + size], {})) for s in range(0, len(initial), size)])
        errors[one.name] = {}
        for t in times:
            exact = np.asarray(truth[:, t - 1], np.float64)
            apart = np.sqrt(np.sum(np.square(answer[:, t - 1] - exact), axis=axes))
            whole = np.sqrt(np.sum(np.square(exact), axis=axes))
            value = float(np.mean(apart / whole))
            errors[one.name][t] = value if np.isfinite(value) else float("inf")
    return errors


def run_case(name: str, case: CorrectorCase, options: Any, cores: int) -> tuple[Any, list[Result]]:
    """Run the comparison for one equation; return it and its results."""
    from data.processes.processor import tree_seconds
    from experiments.comparison.contenders import Problem, Settings
    from experiments.comparison.ladder import self_check
    from experiments.comparison.result import compare
    from experiments.comparison.solver_comparison import peak, solved, solver_contender
    from simulators.fluids.spectral.resample import resample

    initial = initial_states(case, options.test, TEST_SEED, case.reference)
    truth = solved(case.solver(case.reference, steps=case.steps), initial, {}, case.points)
    few = slice(0, 4)
    checked = case.solver(case.finer, steps=case.unroll)
    difference = self_check(truth[few, 1 : case.unroll + 1], solved(checked, initial[few], {}, case.points)[:, 1:])
    began = tree_seconds()
    labeller = case.solver(case.labels, steps=case.label_steps)
    count = options.train + options.valid
    labels = solved(labeller, initial_states(case, count, TRAIN_SEED, case.labels), {}, case.points)
    label_core_s = tree_seconds() - began
    folder = (options.out / "corrector" / name).resolve()
    surrogate, training_core_s = train(
        case, labels[options.valid :], labels[: options.valid], folder, options.epochs, options.set
    )
    start = np.asarray(resample(initial, case.points, dim=case.dim))
    contenders = [
        replace(solver_contender(case.solver(rung, steps=case.steps), case.points), name=name_of(rung))
        for rung in case.rungs
    ]
    contenders.append(contender(surrogate, case, label_core_s, training_core_s))
    comparison = compare(
        f"{name}, {case.steps * case.save_dt:g} time units on {case.points} points along each side",
        contenders,
        Problem(start, truth[:, 1:], scalar=peak, scalar_name="largest value at the last time"),
        reference=name_of(case.reference),
        reference_difference=difference,
        settings=Settings(cores=cores, batch_sizes=BATCHES, trials=1, repeats=options.repeats),
    )
    times = sorted({1, case.unroll, 2 * case.unroll, 5 * case.unroll, case.steps})
    errors = errors_in_time(contenders, case, start, truth[:, 1:], times)
    return comparison, [
        Result(f"{name}: reference against its refinement, relative L2", difference, "1"),
        Result(f"{name}: labels", label_core_s, "core-s"),
        Result(f"{name}: training", training_core_s, "core-s"),
        *results_of(name, case, comparison, errors),
    ]


def results_of(name: str, case: CorrectorCase, comparison: Any, errors: dict[str, dict[int, float]]) -> list[Result]:
    """What was measured of each contender, and the factors at equal error, at each time and over all times."""
    from experiments.comparison.break_even import break_even_of, speed_up

    results: list[Result] = []

    def add_error(what: str, value: float) -> None:
        # A blow-up has no error to state.
        is_finite = bool(np.isfinite(value))
        results.append(
            Result(f"{what}{'' if is_finite else ': answers that are not finite'}", value if is_finite else 1.0, "1")
        )

    for p in comparison.points:
        results.append(
            Result(f"{name}: {p.name}: cost, batch of {p.batch}", 1e3 * p.core_seconds, "core-ms/trajectory")
        )
        for t, error in errors[p.name].items():
            add_error(f"{name}: {p.name}: relative L2 at time {t * case.save_dt:g}", error)
        add_error(f"{name}: {p.name}: relative L2 over all times", p.error)
    times = list(next(iter(errors.values())))
    spans: list[tuple[str, Any]] = [(f"at time {t * case.save_dt:g}", t) for t in times]
    for words, t in [*spans, ("over all times", None)]:
        points = [p if t is None else replace(p, error=errors[p.name][t]) for p in comparison.points]
        ours = next(p for p in points if p.kind == "surrogate")
        if not np.isfinite(ours.error):
            add_error(f"{name}: corrected {words}", ours.error)
            continue
        gain, pays = speed_up(ours, points), break_even_of(ours, points)
        results.append(Result(f"{name}: corrected: factor at equal error {words} ({gain.relation})", gain.value, "1"))
        if pays is not None and np.isfinite(pays.count):
            results.append(
                Result(f"{name}: corrected: pays {words} from ({pays.relation})", pays.count, "trajectories")
            )
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=list(CASES)[:1], help="equations to run (the first)"
    )
    parser.add_argument("--train", type=int, default=32, help="number of training trajectories (%(default)s)")
    parser.add_argument("--valid", type=int, default=4, help="number of validation trajectories (%(default)s)")
    parser.add_argument("--test", type=int, default=8, help="number of test trajectories (%(default)s)")
    parser.add_argument("--epochs", type=int, default=24, help="passes over the labels (%(default)s)")
    parser.add_argument(
        "--coarse", type=float, nargs=3, metavar=("POINTS", "DT", "KEPT"), help="solver to correct (that of each case)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="number of timed rounds (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    from experiments.comparison.comparison_page import write_page

    results: list[Result] = []
    comparisons = []
    for name in options.cases:
        case = CASES[name] if options.coarse is None else CASES[name].correcting(*options.coarse)
        comparison, measured = run_case(name, case, options, len(cores))
        comparisons.append(comparison)
        results += measured
        report("corrector", results, options.out, argv)
        write_page(comparisons, options.out / "corrector" / "comparison.html")


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
