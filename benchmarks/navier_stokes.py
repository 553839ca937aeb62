"""Compares an operator for 2D Navier-Stokes with the solver's own coarse grids, at equal error.

The problem is the vorticity on the unit torus with the forcing of Li et al. and viscosities of 1e-3 and 1e-4
(arXiv:2010.08895, section 5.3). Initial states come from their Gaussian random field, with the amplitude of their
published script, and are evolved for 10 time units. The next 20 time units are predicted on 64 x 64 points. The
reference is compared with a refinement of itself. The solver (exponential time differencing as in exponax, with
coefficients that keep its order) runs in batches on a ladder of coarser grids and longer time steps. The operator
works on a grid of its own, and its answers are resampled like those of every rung.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.common import Result, arguments, pin, report

POINTS, SPIN_UP, STEPS = 64, 10, 20
AMPLITUDE = 343.0
BATCHES = (1, 8, 64)
#: Points per side of the other grids on which the operator is evaluated.
GRIDS = (16, 24, 32, 48, 64, 96)
TEST_SEED, TRAIN_SEED = 1, 0


@dataclass(frozen=True)
class ViscosityCase:
    """Settings of the comparison at one viscosity.

    Attributes:
        viscosity: kinematic viscosity (dimensionless).
        reference, finer, labels: grid points per side and time step of the reference, of the refinement that checks the
            reference, and of the labels that the operator learns from.
        rungs: grid points per side and time step of each rung of the ladder.
        points: grid points per side of the operator.
    """

    viscosity: float
    reference: tuple[int, float]
    finer: tuple[int, float]
    labels: tuple[int, float]
    rungs: tuple[tuple[int, float], ...]
    points: int


CASES = {
    "1e-3": ViscosityCase(
        1e-3,
        reference=(96, 0.05),
        finer=(128, 0.025),
        labels=(64, 0.1),
        rungs=((12, 0.25), (16, 0.25), (16, 0.1), (24, 0.25), (24, 0.1), (32, 0.25), (32, 0.1)),
        points=24,
    ),
    "1e-4": ViscosityCase(
        1e-4,
        reference=(96, 0.0125),
        finer=(128, 0.00625),
        labels=(64, 0.025),
        rungs=((16, 0.1), (24, 0.1), (32, 0.1), (48, 0.05), (64, 0.025)),
        points=20,
    ),
}


def solver(case: ViscosityCase, points: int, dt: float, *, steps: int = STEPS, order: int = 4) -> Any:
    """The solver with one grid and time step."""
    from simulators.fluids.spectral.exponax import Exponax

    return Exponax(
        "navier_stokes_li",
        points,
        dim=2,
        save_dt=1.0,
        steps=steps,
        dt=dt,
        order=order,
        parameters={"viscosity": case.viscosity},
        courant=None,
    )


def initial_states(case: ViscosityCase, count: int, seed: int) -> Float[np.ndarray, "sample 1 x y"]:
    """Vorticity after the spin-up, on the grid of the reference."""
    from simulators.fluids.spectral.initial import MaternField
    from simulators.fluids.spectral.spin_up import SpunUp

    points = case.reference[0]
    spun = SpunUp(MaternField(amplitude=AMPLITUDE), solver(case, *case.reference, steps=SPIN_UP))
    rng = np.random.default_rng(seed)
    return np.concatenate([spun.sample(rng, min(32, count - s), points, 2) for s in range(0, count, 32)])


def train_operator(
    coarse: Float[np.ndarray, "sample time 1 x y"], folder: Path, seconds: float, overrides: Sequence[str]
) -> tuple[Any, float]:
    """Train the operator for `seconds` on trajectories on its grid; return it and the core-seconds of the training."""
    from hydra import compose, initialize_config_dir

    from benchmarks.field_tables import trajectory_table
    from data.settings import build
    from experiments.application.choices import CONF
    from surrogates.fields.fit import fit_field_surrogate
    from surrogates.fields.task import FieldTask
    from surrogates.learning.loop import TrainConfig

    shutil.rmtree(folder, ignore_errors=True)
    settings = ["study=fluids/navier_stokes", "data.file=none", f"train.max_seconds={seconds}", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", settings)
    valid_count = max(8, len(coarse) // 16)
    surrogate, result = fit_field_surrogate(
        trajectory_table(coarse[valid_count:]),
        trajectory_table(coarse[:valid_count]),
        FieldTask.model_settings(config.model),
        build(TrainConfig, config.train, where="train"),
        folder,
        progress=False,
    )
    return surrogate, result.core_seconds


def run_case(name: str, case: ViscosityCase, options: Any, cores: int) -> tuple[Any, dict[str, float]]:
    """Run the comparison at one viscosity; return it, the core-seconds of its parts, and the reference error."""
    from data.processes.processor import tree_seconds
    from experiments.comparison.contenders import Problem, Settings
    from experiments.comparison.ladder import self_check
    from experiments.comparison.result import compare
    from experiments.comparison.solver_comparison import (
        on_other_grids,
        peak,
        solved,
        solver_contender,
        surrogate_contender,
    )
    from simulators.fluids.spectral.resample import resample

    initial = initial_states(case, options.test, TEST_SEED)
    finest = solved(solver(case, *case.reference), initial, {}, case.reference[0])
    truth = np.asarray(resample(finest, POINTS, dim=2))
    few = slice(0, 4)
    difference = self_check(truth[few, 1:], solved(solver(case, *case.finer), initial[few], {}, POINTS)[:, 1:])
    start, labeller = initial_states(case, options.train, TRAIN_SEED), solver(case, *case.labels)
    solved(labeller, start[:32], {}, case.points)  # compile before the clock starts
    began = tree_seconds()
    labels = solved(labeller, start, {}, case.points)
    label_core_s = tree_seconds() - began
    folder = (options.out / "navier_stokes" / name).resolve()
    surrogate, training_core_s = train_operator(labels, folder, options.seconds, options.set)
    operator = surrogate_contender(
        surrogate,
        POINTS,
        name=f"FNO, {case.points}²",
        label_core_s=label_core_s,
        training_core_s=training_core_s,
        note=f"{options.train:,} trajectories, {training_core_s / 60:.1f} core-minutes of training",
    )
    contenders = [solver_contender(solver(case, *rung), POINTS) for rung in case.rungs]
    coarse = np.asarray(resample(initial, POINTS, dim=2))
    comparison = compare(
        f"2D Navier-Stokes, viscosity {name}, 20 time units on 64 x 64 points",
        [*contenders, operator],
        Problem(coarse, truth[:, 1:], scalar=peak, scalar_name="peak vorticity at the last time"),
        reference="{}², dt {:g}".format(*case.reference),
        reference_difference=difference,
        settings=Settings(cores=cores, batch_sizes=BATCHES, repeats=options.repeats),
    )
    tried = on_other_grids(surrogate, labeller.at(points=case.points), GRIDS, initial, finest[:, 1:], {})
    comparison = replace(comparison, resolution=tried)
    return comparison, {"labels": label_core_s, "training": training_core_s, "reference": difference}


def results_of(name: str, comparison: Any, spent: Mapping[str, float]) -> list[Result]:
    """Convert a comparison to results."""
    from experiments.comparison.break_even import accuracy_gain, break_even_of, speed_up

    points = comparison.points
    results = [Result(f"{name}: reference against its refinement, relative L2", spent["reference"], "1")]
    for p in comparison.rungs:
        results.append(Result(f"{name}: solver {p.name}: relative L2", p.error, "1"))
        results.append(Result(f"{name}: solver {p.name}: cost", 1e3 * p.core_seconds, "core-ms/trajectory"))
    for grid in comparison.resolution:
        if grid.surrogate is not None and np.isfinite(grid.solver):
            label = (
                f"{name}: operator on {grid.points} x {grid.points}{', its own' if grid.trained else ''}: relative L2"
            )
            results.append(Result.against(label, grid.surrogate, "1", "solver on that grid", grid.solver))
    for p in comparison.surrogates:
        gain, better = speed_up(p, points), accuracy_gain(p, points)
        pays = break_even_of(p, points)
        results += [
            Result(f"{name}: {p.name}: relative L2", p.error, "1"),
            Result(f"{name}: {p.name}: cost, batch of {p.batch}", 1e3 * p.core_seconds, "core-ms/trajectory"),
            Result(f"{name}: {p.name}: labels", spent["labels"], "core-s"),
            Result(f"{name}: {p.name}: training", spent["training"], "core-s"),
            Result(f"{name}: {p.name}: speed-up at equal error ({gain.relation})", gain.value, "1"),
            Result(
                f"{name}: {p.name}: solver's error over its own at equal cost ({better.relation})", better.value, "1"
            ),
            Result(f"{name}: {p.name}: Spearman of the peak vorticity", float(p.spearman or 0.0), "1"),
        ]
        if pays is not None and np.isfinite(pays.count):
            results.append(Result(f"{name}: {p.name}: pays from ({pays.relation})", pays.count, "trajectories"))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--viscosities", nargs="+", choices=CASES, default=list(CASES), help="viscosities to run (all)")
    parser.add_argument("--train", type=int, default=256, help="number of training trajectories (%(default)s)")
    parser.add_argument("--test", type=int, default=64, help="number of test trajectories (%(default)s)")
    parser.add_argument("--seconds", type=float, default=900.0, help="training time at each viscosity (%(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="number of timed rounds (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    from experiments.comparison.comparison_page import write_page

    results: list[Result] = []
    comparisons = []
    for name in options.viscosities:
        comparison, spent = run_case(name, CASES[name], options, len(cores))
        comparisons.append(comparison)
        folder = options.out / "navier_stokes" / name
        folder.mkdir(parents=True, exist_ok=True)
        comparison.write(folder)
        results += results_of(f"Navier-Stokes {name}", comparison, spent)
        report("navier_stokes", results, options.out, argv)
        write_page(comparisons, options.out / "navier_stokes" / "comparison.html")


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
