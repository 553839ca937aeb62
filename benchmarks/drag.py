"""Compares a surrogate of the drag of bodies with the solver that it learned from, and screens a million designs.

The cost includes labels, failed labels and training. The rate of the surrogate is measured in one process on the
requested cores. The cost of the solver is stated in core-seconds per body, at its default settings and for the cheapest
rung whose error on the held-out bodies, measured against the labels, is no larger than that of the surrogate.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, pin, report
from data.errors import InputError

#: Coarser settings of the solver, from cheap to expensive: factor on the default mesh size, and polynomial order.
RUNGS = ((32.0, 2), (16.0, 2), (8.0, 2), (4.0, 2), (2.0, 2), (1.0, 2), (2.0, 3), (1.0, 3))
#: Number of held-out bodies that each rung solves.
RUNG_BODIES = 10
TOP = 20
#: Number of rows on which the rate of the surrogate alone is measured.
RATE_ROWS = 262_144

#: A screen and its re-check, run in a separate process so that its memory can be measured.
SCREEN = """
import json, sys
from pathlib import Path
from experiments.screening.design_recheck import RecheckSettings, recheck_designs
from experiments.screening.designs import domain_ranges
from experiments.screening.library_screen import Objective, ScreenConfig, screen_library
from experiments.screening.designs import designs_drawn
from simulators.fluids.ngsolve.flow import NGSolveFlow
from surrogates.saved import load_surrogate

if __name__ == "__main__":
    surrogate, out = load_surrogate(Path(sys.argv[1])), Path(sys.argv[2])
    count, top, workers = map(int, sys.argv[3:6])
    best = Objective(minimize="drag")
    library = designs_drawn(surrogate.columns, domain_ranges(surrogate), count, 1)
    done = screen_library(surrogate, library, out, ScreenConfig(top_k=top, objective=best), progress=False)
    how = RecheckSettings(top=top, random=top, workers=workers)
    metrics = recheck_designs(surrogate, NGSolveFlow(), out, best, how, progress=False)
    (out / "screen_and_recheck.json").write_text(json.dumps({**done.metrics(), **metrics}))
"""


def label_bodies(folder: Path, count: int, workers: int, seed: int = 0) -> Path:
    """Label bodies with the solver at its default settings, resuming an earlier store, and return the store.

    Args:
        folder: folder of the store.
        count: number of bodies.
        workers: processes that solve.
        seed: of the series of bodies.

    Raises:
        InputError: the store holds more bodies than requested, so its cost would include others.
    """
    from data.store.records import RecordStore
    from simulators.campaigns.campaign import CampaignConfig, run_campaign
    from simulators.fluids.ngsolve.flow import NGSolveFlow
    from simulators.fluids.shapes import ShapeRanges, draw_bodies

    store = folder / "labels.zarr"
    if (store / "store.json").exists():
        with RecordStore.open(store) as records:
            if len(records) > count:
                raise InputError(f"holds {len(records)} bodies", where=str(store), remedy="Delete it, or ask for more")
    flow = NGSolveFlow()
    bodies = draw_bodies(flow, ShapeRanges(), count, seed)
    run_campaign(flow, bodies, store, CampaignConfig(workers=workers), total=count, progress=False)
    return store


def train_surrogate(
    store: Path, folder: Path, overrides: Sequence[str], targets: Sequence[str] = ("drag",)
) -> tuple[dict[str, float], float]:
    """Train a surrogate of `targets`, saved below `folder`; return its scores and the core-seconds of training."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.application.usage import cpu_seconds
    from experiments.stages.train import task_of, train_on
    from surrogates.learning.sample_task import SampleSets

    shutil.rmtree(folder, ignore_errors=True)
    settings = ["task=fluids/drag", f"data.file={store}", f"run.dir={folder}", "train.mlflow=false"]
    settings.append(f"data.target=[{','.join(targets)}]")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*settings, "train.checkpoint_every_s=null", *overrides])
    from data.parameters import read_parameters

    table, _ = read_parameters(store, list(targets))
    start = cpu_seconds()
    metrics = train_on(task_of(config), SampleSets(table, {}), folder, progress=False)
    return metrics, cpu_seconds() - start


def rate(surrogate: Any) -> tuple[float, float]:
    """Designs per second that the surrogate predicts in one process from a table in memory; core-seconds of each."""
    from data.processes.processor import tree_seconds

    box = surrogate.facts.domain
    table = np.random.default_rng(0).uniform(box.low, box.high, (RATE_ROWS, len(box.low)))
    surrogate.compile()
    times, costs = [], []
    for _ in range(3):
        start, spent = time.perf_counter(), tree_seconds()
        surrogate.predict_table(table)
        times.append(time.perf_counter() - start)
        costs.append(tree_seconds() - spent)
    return RATE_ROWS / min(times), min(costs) / RATE_ROWS


def cheaper_rung(store: Path, folder: Path, error: float) -> tuple[str, float, float] | None:
    """The cheapest coarser solver that is as close to the labels as the surrogate; None if there is none.

    Args:
        store: store of the labels.
        folder: run directory of the training, whose `split.json` names the held-out bodies.
        error: relative error of the surrogate.

    Returns:
        Its name, its relative error, and its core-seconds per body, both measured in this process.
    """
    from data.parameters import read_parameters
    from data.spec import SimulationError
    from simulators.fluids.ngsolve.flow import NGSolveFlow

    table, _ = read_parameters(store, ["drag"])
    rows = json.loads((folder / "split.json").read_text())["test"][:RUNG_BODIES]
    fine = NGSolveFlow()
    rungs = []
    for factor, order in RUNGS:
        flow = fine.with_mesh(maxh=fine.maxh * factor, order=order)
        errors, seconds = [], []
        try:
            for row in rows:
                request = flow.spec.request(table.layout.named(table.values[row]))
                start = time.process_time()
                drag = float(flow.simulate(request)["drag"])
                seconds.append(time.process_time() - start)
                errors.append(abs(drag / table.labels[row, 0] - 1))
        except SimulationError:
            continue  # a rung that fails on a body cannot be compared
        if np.mean(errors) <= error:
            # The median, because the first body also pays for loading libraries.
            rungs.append((f"P{order}, maxh {flow.maxh:g} m", float(np.mean(errors)), float(np.median(seconds))))
    return min(rungs, key=lambda f: f[2]) if rungs else None


def run_screen(surrogate: Path, out: Path, count: int, workers: int) -> dict[str, float]:
    """Run a fresh screen of drawn designs and its re-check; return the metrics of both."""
    shutil.rmtree(out, ignore_errors=True)
    script = out.with_suffix(".py")
    # A file rather than -c: the workers of a campaign import the main module again.
    script.write_text(SCREEN)
    line = [sys.executable, str(script), str(surrogate), str(out), str(count), str(TOP), str(workers)]
    subprocess.run(line, check=True)
    metrics: dict[str, float] = json.loads((out / "screen_and_recheck.json").read_text())
    return metrics


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--labels", type=int, default=400, help="number of bodies that the solver labels (%(default)s)")
    parser.add_argument("--candidates", type=int, default=1_000_000, help="number of designs to screen (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the configuration")
    parser.add_argument("--no-screen", action="store_true", help="only train and score")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    folder = (options.out / "drag").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store = label_bodies(folder, options.labels, len(cores))
    scores, training = train_surrogate(store, folder / "run", options.set)
    from experiments.screening.hit_rates import break_even
    from surrogates.saved import load_surrogate

    surrogate = load_surrogate(folder / "run" / "surrogate")
    per_second, each = rate(surrogate)
    labels = scores["train/label_core_seconds"]
    solver = labels / options.labels
    error = scores["test/relative_error"]
    count = break_even(labels + training, solver, each)
    results = [
        Result(f"drag: relative error on {scores['test/samples']:.0f} held-out bodies", error, "1"),
        Result("drag: Spearman's rank correlation on them", scores["test/spearman"], "1"),
        Result("drag: 90% intervals held", scores["test/coverage_90"], "1"),
        Result(f"labels: {options.labels} bodies, failures counted", labels, "core-s"),
        Result(f"labels that failed, of {options.labels}", scores["train/failed"], "1"),
        Result("training, compilation counted", training, "core-s"),
        Result(f"designs ranked in one process on {len(cores)} cores", per_second, "1/s"),
        Result("solver: a body", solver, "core-s"),
        Result("solver over surrogate, core-seconds a design", solver / each, "1"),
    ]
    rung = cheaper_rung(store, folder / "run", error)
    if rung is not None:
        name, off, seconds = rung
        results += [
            Result(f"solver of equal error ({name}): its relative error", off, "1"),
            Result(f"solver of equal error ({name}): a body", seconds, "core-s"),
            Result("solver of equal error over surrogate, core-seconds a design", seconds / each, "1"),
        ]
        cheap = break_even(labels + training, seconds, each)
        if cheap is not None:
            results.append(Result("break-even with the solver of equal error", cheap, "designs"))
    if count is not None:
        results.append(Result("break-even: designs from which labels and training have paid", count, "designs"))
    if not options.no_screen:
        metrics = run_screen(folder / "run" / "surrogate", folder / "screen", options.candidates, len(cores))
        what = f"screen of {options.candidates:,}"
        results += [
            Result(f"{what}: wall time", metrics["screen/seconds"], "s"),
            Result(f"{what}: start-up", metrics["screen/startup_seconds"], "s"),
            Result(
                f"{what}: designs a second, drawing and writing counted", metrics["screen/designs_per_second"], "1/s"
            ),
            Result(f"{what}: peak memory", metrics["screen/peak_memory_mb"], "MB"),
            Result("re-check: solved of the best", metrics["recheck/top/solved"], "1"),
        ]
        for key, label in (
            ("recheck/top/drag/relative_error", f"re-check: relative error of the best {TOP}"),
            ("recheck/random/drag/relative_error", f"re-check: relative error of {TOP} at random"),
            ("recheck/top/drag/coverage_90", "re-check: 90% intervals of the best held"),
            ("recheck/top/drag/best", "re-check: least drag of the best"),
            ("recheck/random/drag/best", "re-check: least drag of those at random"),
            ("recheck/top/beat_best_random", f"re-check: of the best {TOP}, below all at random"),
        ):
            if key in metrics:
                results.append(Result(label, metrics[key], "1"))
    report("drag", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
