"""Turbulent flow over a step below a rising ceiling: surrogates of its numbers and fields beside coarser meshes.

OpenFOAM's simpleFoam with the k-omega SST model on `simulator=openfoam_turbulent_step`, in which the height of the
step, the ceiling, the viscosity and the turbulence of the inflow vary. One surrogate learns drag and pressure drop,
another one velocity, pressure and turbulent energy in every cell: the cells have the same numbers in all runs, so that
no mesh is needed to answer. Both learn from the same runs, and stand on a line through the inputs.

What they compete with is the same solver on coarser meshes and with looser residual targets, interpolated to the cells
of the labels; a polynomial of second degree in the inputs shows what the networks add. Costs are processor times with
the start of programs, labels and training counted. `--study` solves Driver and Seegmiller's flow (AIAA Journal 1985,
23, 163; reattachment at 6.26 heights of the step) on a series of meshes instead. `make openfoam` installs OpenFOAM.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from benchmarks.common import Result, arguments, pin, report
from benchmarks.mesh_flow import least
from benchmarks.step_cells import StepCells, coarsened, turbulent_step
from data.errors import InputError
from data.processes.processor import tree_seconds

NUMBERS = ("step_drag", "wall_drag", "pressure_drop")
#: Fields, and their columns in the arrays of a mesh.
FIELDS = {"U": slice(0, 2), "p": slice(2, 3), "k": slice(3, 4)}
REATTACHMENT = "reattachment"
INPUTS = ("step", "ceiling", "viscosity", "intensity")
#: Sides of the cells of a rung over those of the labels, and its residual target.
RUNGS = ((1.0, 1e-4), (1.0, 1e-3), (1.4, 1e-4), (1.4, 1e-3), (2.0, 1e-4), (2.0, 1e-3), (2.8, 1e-3), (4.0, 1e-3))
#: Runs that are tested, that calibrate intervals, and of the tested ones those that every rung solves.
TESTED, CALIBRATED, SOLVED = 16, 10, 6
RECIPES = {
    "numbers": ["train.epochs=1500"],
    "fields": ["model.ensemble=3", "train.epochs=600", "train.validate_every=600"],
}
#: Driver and Seegmiller: a channel of eight heights of the step with a straight ceiling, whose boundary layer has grown
#: over a plate, at a Reynolds number of 37,500 of the height of the step; reattachment in heights of the step.
EXPERIMENT = {"height": 8.0, "run_up": 110.0, "run_up_grading": 0.01, "cells_run_up": 40, "cells_above": 34}
EXPERIMENT_INPUTS = {"step": 1.0, "ceiling": 8.0, "viscosity": 1 / 37_500, "intensity": 0.01}
MEASURED = 6.26
STUDY = (2.8, 2.0, 1.4, 1.0, 0.71)


@dataclass(frozen=True)
class StepRuns:
    """The runs of a campaign that converged.

    Attributes:
        meshes: cells and fields of each, with `NUMBERS` as scalars.
        rows: inputs of each, in the order of `INPUTS`.
        seconds: core-seconds of each run, those that failed counted.
        failed: number of runs that failed.
    """

    meshes: Sequence[Any]
    rows: Float[np.ndarray, "run 4"]
    seconds: Float[np.ndarray, " tried"]
    failed: int

    @property
    def cost(self) -> float:
        """Core-seconds of all runs."""
        return float(self.seconds.sum())

    def __len__(self) -> int:
        return len(self.meshes)


def label_runs(folder: Path, count: int, workers: int) -> StepRuns:
    """Run the campaign, resuming an earlier one."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.campaigns.sampled import draw_requests

    solver = turbulent_step()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("simulate", ["sampling=turbulent_step", f"sampling.count={count}"])
    return answered(solver, list(draw_requests(config.sampling, solver)[0]), folder / "labels.zarr", workers)


def answered(solver: Any, requests: Sequence[Any], store: Path, workers: int) -> StepRuns:
    """The answers to requests in a campaign, which resumes."""
    from data.costs import core_seconds
    from data.meshes.mesh_samples import read_meshes
    from data.store.records import RecordStore
    from simulators.campaigns.campaign import CampaignConfig, run_campaign

    run_campaign(solver, requests, store, CampaignConfig(workers=workers), progress=False, none_answered=True)
    with RecordStore.open(store) as records:
        dataset = records.dataset()
    seconds, rows = core_seconds(dataset, str(store)), np.stack([dataset[name].values for name in INPUTS], axis=1)
    try:
        samples, bad = read_meshes(store, list(FIELDS), list(NUMBERS))
    except InputError:
        # None converged.
        return StepRuns((), rows[:0], seconds, len(rows))
    left_out = {number for number, _ in bad}
    kept = [i for i in range(len(rows)) if i not in left_out]
    return StepRuns(samples.meshes, rows[kept], seconds, len(bad))


def tables(runs: StepRuns) -> dict[str, Any]:
    """The numbers of the runs, and their fields cell by cell, as tables that surrogates of parameters learn from."""
    from data.parameters import ParameterLayout, ParameterTable
    from data.spec import Coordinate, Variable

    spec = turbulent_step().spec
    # A decade of viscosities acts by its logarithm.
    values = np.column_stack([runs.rows[:, :2], np.log10(runs.rows[:, 2]), runs.rows[:, 3]])
    named = {v.name: v for v in spec.inputs}
    inputs = tuple(
        Variable("log10_viscosity", (), "1", "float64", "") if name == "viscosity" else named[name] for name in INPUTS
    )
    units = {v.name: v.units for v in spec.outputs}
    cells = len(runs.meshes[0].nodes)
    axes = (
        Coordinate("cell", tuple(float(i) for i in range(cells)), "1", "number of the cell"),
        Coordinate("component", ("x", "y"), "1", "component of a vector"),
    )
    outputs = {
        "numbers": tuple(Variable(name, (), units[name], "float64", name) for name in NUMBERS),
        "fields": tuple(
            Variable(name, ("cell", "component") if name == "U" else ("cell",), units[name], "float64", name)
            for name in FIELDS
        ),
    }
    fields = [{name: m.fields[:, c].squeeze() for name, c in FIELDS.items()} for m in runs.meshes]
    records = {
        "numbers": {name: np.array([m.scalars[k] for m in runs.meshes]) for k, name in enumerate(NUMBERS)},
        "fields": {name: np.stack([f[name] for f in fields]) for name in FIELDS},
    }
    by_kind = {}
    for kind, variables in outputs.items():
        layout = ParameterLayout(inputs, variables, axes if kind == "fields" else (), {})
        labels = layout.flat_outputs(records[kind])
        each = np.full(len(runs), runs.cost / len(runs))
        by_kind[kind] = ParameterTable(layout, values, labels, "", each, {})
    return by_kind


def train_surrogate(kind: str, table: Any, folder: Path, overrides: Sequence[str]) -> tuple[Any, dict[str, float], Any]:
    """Train on the numbers or the fields; return the surrogate, its scores, and the rows of each part."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.stages.train import task_of, train_on
    from surrogates.learning.sample_task import SampleSets
    from surrogates.saved import load_surrogate

    targets = ",".join(NUMBERS if kind == "numbers" else FIELDS)
    parts = f"[{len(table) - CALIBRATED - TESTED},0,{CALIBRATED},{TESTED}]"
    settings = [
        "task=fluids/drag", "on=linear", "model.harmonics=0", "model.products=true", f"data.file={folder}",
        f"data.target=[{targets}]", f"data.parts={parts}", f"run.dir={folder}", "train.mlflow=false",
        "train.checkpoint_every_s=null",
    ]  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*settings, *RECIPES[kind], *overrides])
    scores = train_on(task_of(config), SampleSets(table, {}), folder, progress=False)
    rows = {name: np.array(part) for name, part in json.loads((folder / "split.json").read_text()).items()}
    return load_surrogate(folder / "surrogate"), scores, rows


def polynomial(
    inputs: Float[np.ndarray, "run 4"], labels: Float[np.ndarray, "run target"], asked: Float[np.ndarray, "place 4"]
) -> Float[np.ndarray, "place target"]:
    """Least squares with all products of at most two inputs, the viscosity by its logarithm."""

    def products(rows: np.ndarray) -> np.ndarray:
        columns = rows.copy()
        columns[:, 2] = np.log(columns[:, 2])
        columns = (columns - mean) / scale
        first, second = np.triu_indices(columns.shape[1])
        return np.concatenate([np.ones((len(rows), 1)), columns, columns[:, first] * columns[:, second]], axis=1)

    logged = np.column_stack([inputs[:, :2], np.log(inputs[:, 2]), inputs[:, 3]])
    mean, scale = logged.mean(axis=0), logged.std(axis=0)
    return products(asked) @ np.linalg.lstsq(products(inputs), labels, rcond=None)[0]


@dataclass(frozen=True)
class StepAnswers:
    """Numbers and fields of some runs, from whatever method.

    Attributes:
        numbers: (run, number of `NUMBERS`).
        fields: (run, cell of the labels, channel of `FIELDS`).
    """

    numbers: Float[np.ndarray, "run number"]
    fields: Float[np.ndarray, "run cell channel"]

    def errors(self, truth: Sequence[Any], rows: Float[np.ndarray, "run 4"]) -> dict[str, float]:
        """Mean errors: of numbers over their mean size, relative L2 of fields, reattachment relative to the truth."""
        true = np.array([m.scalars for m in truth])
        off = np.abs(self.numbers - true).mean(axis=0) / np.abs(true).mean(axis=0)
        errors = {name: float(off[k]) for k, name in enumerate(NUMBERS)}
        for name, columns in FIELDS.items():
            each = []
            for mesh, field in zip(truth, self.fields, strict=True):
                weight, reference = mesh.volumes[:, None], mesh.fields[:, columns]
                gap = (weight * (field[:, columns] - reference) ** 2).sum() / (weight * reference**2).sum()
                each.append(np.sqrt(gap))
            errors[name] = float(np.mean(each))
        lengths = reattachments([m.fields for m in truth], truth, rows)
        gaps = np.abs(self.reattachment(truth, rows) / lengths - 1)
        return errors | {REATTACHMENT: float(gaps.mean())}

    def reattachment(self, truth: Sequence[Any], rows: Float[np.ndarray, "run 4"]) -> Float[np.ndarray, " run"]:
        """In heights of the step."""
        return reattachments(self.fields, truth, rows)


def reattachments(
    fields: Sequence[np.ndarray] | np.ndarray, meshes: Sequence[Any], rows: Float[np.ndarray, "run 4"]
) -> Float[np.ndarray, " run"]:
    """The reattachment of fields on the cells of the labels, in heights of the step."""
    constants = turbulent_step().case.constants
    return np.array(
        [
            StepCells(constants, row[0], row[1]).reattachment(mesh.nodes, field[:, :2])
            for field, mesh, row in zip(fields, meshes, rows, strict=True)
        ]
    )


def solved(
    factor: float, residual: float, rows: Float[np.ndarray, "run 4"], truth: Sequence[Any], folder: Path
) -> tuple[StepAnswers | None, StepRuns]:
    """Answers of the solver on another mesh, interpolated to the cells of the labels, and its runs.

    There are no answers unless all runs converge: a rung that fails cannot be compared.
    """
    solver = turbulent_step(coarsened(factor) | {"residual": residual})
    requests = [solver.spec.request(dict(zip(INPUTS, row.tolist(), strict=True))) for row in rows]
    runs = answered(solver, requests, folder / f"rung-{factor:g}-{residual:g}.zarr", 1)
    # A store of an earlier split holds other runs too.
    places = [np.flatnonzero((runs.rows == row).all(axis=1)) for row in rows]
    if not all(map(len, places)):
        return None, runs
    meshes = [runs.meshes[place[0]] for place in places]
    fields = []
    for mesh, row, fine in zip(meshes, rows, truth, strict=True):
        cells = StepCells(solver.case.constants, row[0], row[1])
        fields.append(cells.interpolated(mesh.nodes, mesh.fields, fine.nodes))
    return StepAnswers(np.array([m.scalars for m in meshes]), np.stack(fields)), runs


def study() -> list[Result]:
    """Reattachment and skin friction in the experiment of Driver and Seegmiller on finer and finer meshes."""
    results, length = [], EXPERIMENT["run_up"]
    # Prandtl and Schlichting, for a plate that is turbulent from its front on.
    plate = 0.455 / np.log10(length / EXPERIMENT_INPUTS["viscosity"]) ** 2.58
    for factor in STUDY:
        solver = turbulent_step(EXPERIMENT | coarsened(factor, EXPERIMENT))
        start = tree_seconds()
        answer = solver.simulate(solver.spec.request(EXPERIMENT_INPUTS))
        seconds = tree_seconds() - start
        cells = StepCells(solver.case.constants, EXPERIMENT_INPUTS["step"], EXPERIMENT_INPUTS["ceiling"])
        nodes = answer["nodes"].values
        name, log = f"cells {factor:g} times as long ({len(nodes):,})", json.loads(answer.attrs["log"])
        reattached = cells.reattachment(nodes, answer["U"].values)
        friction = float(answer["run_up_drag"]) / length
        results += [
            Result.against(f"{name}: reattachment, heights of the step", reattached, "1", "experiment", MEASURED),
            Result.against(f"{name}: skin friction of the run-up", friction, "1", "flat plate", float(plate)),
            Result(f"{name}: drag of the step", float(answer["step_drag"]), "1"),
            Result(f"{name}: drag of all walls", float(answer["wall_drag"]), "1"),
            Result(f"{name}: a run, {log['simpleFoam']['iterations']} iterations", seconds, "core-s"),
        ]
    return results


def compare(runs: StepRuns, folder: Path, overrides: Sequence[str]) -> list[Result]:
    """Train both surrogates and compare them with the ladder of the solver and with a polynomial."""
    from experiments.screening.hit_rates import break_even

    by_kind, results = tables(runs), []
    answers, costs, training, scores = {}, {}, {}, {}
    for kind, table in by_kind.items():
        surrogate, scores[kind], parts = train_surrogate(kind, table, folder / kind, overrides)
        training[kind] = scores[kind]["train/core_seconds"]
        test = parts["test"]
        answers[kind] = surrogate.predict_columns(table.values[test])[""]
        many = np.resize(table.values, (4096 if kind == "numbers" else 256, len(INPUTS)))
        surrogate.predict_columns(many)
        costs[kind] = least(partial(surrogate.predict_columns, many)) / len(many)
    rows, truth = runs.rows[test], [runs.meshes[i] for i in test]
    learned = np.concatenate([parts["train"], parts["calibration"]])
    layout = by_kind["fields"].layout

    def by_cell(columns: np.ndarray) -> np.ndarray:
        named = layout.named_outputs(columns)
        return np.concatenate([named[name].reshape(*named[name].shape[:2], -1) for name in FIELDS], axis=2)

    mine = StepAnswers(answers["numbers"], by_cell(answers["fields"]))
    simple = {k: polynomial(runs.rows[learned], t.labels[learned], rows) for k, t in by_kind.items()}
    plain = StepAnswers(simple["numbers"], by_cell(simple["fields"])).errors(truth, rows)
    errors, label = mine.errors(truth, rows), runs.cost / (len(runs) + runs.failed)
    reattached = reattachments([m.fields for m in truth], truth, rows)
    results += [
        Result(f"runs: {len(runs) + runs.failed}, of which {runs.failed} failed", runs.cost, "core-s"),
        Result(f"a run on the {len(truth[0].nodes):,} cells of the labels", label, "core-s"),
        Result("tested runs: reattachment from, heights of the step", float(reattached.min()), "1"),
        Result("tested runs: reattachment to, heights of the step", float(reattached.max()), "1"),
    ]
    for name, error in errors.items():
        what = f"surrogates, {len(test)} tested runs: error of {name}"
        results.append(Result.against(what, error, "1", "polynomial of degree 2", plain[name]))
    for name in NUMBERS:
        for key, text in (("spearman", "rank correlation"), ("coverage_90", "90% intervals held")):
            results.append(Result(f"surrogates: {text} of {name}", scores["numbers"][f"test/{name}/{key}"], "1"))
    ranks = spearmanr(mine.reattachment(truth, rows), reattached).statistic
    results.append(Result("surrogates: rank correlation of reattachment", float(ranks), "1"))
    for name in FIELDS:
        coverage = scores["fields"][f"test/{name}/coverage_90"]
        results.append(Result(f"surrogates: 90% intervals of {name} held, of all cells", coverage, "1"))
    for kind, seconds in training.items():
        results.append(Result(f"{kind}: training, compilation counted", seconds, "core-s"))
        results.append(Result(f"{kind}: an answer, many at a time", 1e3 * costs[kind], "core-ms"))
    first = min(SOLVED, len(test))
    same = StepAnswers(mine.numbers[:first], mine.fields[:first]).errors(truth[:first], rows[:first])
    ladder: list[tuple[str, dict[str, float], float]] = []
    for factor, residual in RUNGS:
        name = f"solver, cells {factor:g} times as long, residuals of {residual:g}"
        rung, tried = solved(factor, residual, rows[:first], truth[:first], folder)
        seconds = float(tried.seconds.mean())
        if rung is None:
            results.append(Result(f"{name}: runs that fail, of {first}", tried.failed, "1"))
            continue
        off = rung.errors(truth[:first], rows[:first])
        ladder.append((name, off, seconds))
        results += [Result(f"{name}: error of {what}", value, "1") for what, value in off.items()]
        results.append(Result(f"{name}: a run", seconds, "core-s"))
    ladder.append(("solver as for the labels", dict.fromkeys(errors, 0.0), label))
    for kind, group in (("numbers", NUMBERS), ("fields", (*FIELDS, REATTACHMENT))):
        for what in group:
            name, _, seconds = min((r for r in ladder if r[1][what] <= same[what]), key=lambda r: r[2])
            ratio = seconds / costs[kind]
            results.append(Result(f"{what}: {name}, which errs no more, over the surrogate", ratio, "1"))
            count = break_even(runs.cost + training[kind], seconds, costs[kind])
            if count is not None:
                results.append(Result(f"{what}: pays from, against {name}", count, "answers"))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=64, help="number of runs of the solver (%(default)s)")
    parser.add_argument("--study", action="store_true", help="only the study of meshes beside an experiment")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the trainings")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    folder = (options.out / "turbulent_step").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = study() if options.study else compare(label_runs(folder, options.runs, len(cores)), folder, options.set)
    report("turbulent_step", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
