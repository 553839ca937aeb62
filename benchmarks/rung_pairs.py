"""Trains a surrogate on its cheaper rung and the same network without it, at equal processor time, by kind.

Both sides have the same samples, parts, settings and seed. The side without the rung trains for as many more epochs as
the processor time of the rung, asked once a sample, allows.

Forecasts: daily fields over Iberia in 20 winters, on a linear model and on damped persistence, beside the linear
autoregression, damped persistence and climatology alone. Parameters: the curves of Robertson's problem, on a line
through the inputs. Drag: bodies in a channel, on NGSolve with a coarse mesh and order 2. Meshes: the flow around such
bodies at the vertices of their meshes, on NGSolve at order 1 and 2 on the same meshes, also stopped early.
Potentials: frames of ethanol, on GFN2-xTB. Darcy: neuraloperator's Darcy flow, on finite volumes on the same grid.
Fields: chaotic states of the Kuramoto-Sivashinsky equation, on the solver's own coarser grids. A training that is
finished in `--out` is not repeated. `benchmarks.rungs` is the same for molecular properties.
"""

from __future__ import annotations

import math
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import Result, arguments, data_file, pin, report
from benchmarks.field_pairs import darcy, fields
from benchmarks.mesh_pairs import RUNGS, meshes
from benchmarks.pair import Pair
from data.spec import content_hash

#: Leads of forecasts that are reported, in days.
LEADS = (1, 2, 3, 5, 10)


def forecasts(options: Namespace, folder: Path) -> list[Pair]:
    """Windows of a file of daily states, and the errors of the references on the tested winters."""
    from understudy.stages import windows

    source = data_file(options.data, "ncep_iberia_djf.nc", "weather")
    if not (folder / "windows").is_dir():
        windows(out=str(folder / "windows"), **{"source.path": str(source), "run.dir": str(folder / "reading")})
    channel = "mean_sea_level_pressure"
    errors = {f"sea-level pressure, day {d}": (f"test/rmse/{channel}/{24 * d}h", "Pa", 1.0) for d in LEADS}
    alone = reference_errors(folder / "windows", channel)
    settings = ["task=weather/forecasts", f"data.file={folder / 'windows'}", f"model.history={options.history}"]
    references = {system: {f"sea-level pressure, day {d}": v[d] for d in LEADS} for system, v in alone.items()}
    name = f"Forecasts over Iberia, {options.history} states"
    return [
        Pair(name, on, options.epochs or 50, settings, errors, references) for on in ("linear", "damped_persistence")
    ]


def reference_errors(store: Path, channel: str) -> dict[str, dict[int, float]]:
    """Root mean square errors of reference forecasts on the test part, by system and lead in days."""
    from data.sphere.window_store import WindowStore
    from surrogates.forecasts.autoregression import LinearAutoregression
    from surrogates.forecasts.references import ClimatologyForecast, DampedPersistence
    from surrogates.forecasts.scores import Protocol, plain, score
    from surrogates.forecasts.task import SCORED, ForecastData, split_in_time

    windows, last = WindowStore.open(store), max(LEADS)
    spans = split_in_time(len(windows), ForecastData(file=str(store)).parts)
    train, valid, climatology = spans["train"], spans["valid"], windows.climatology(spans["train"])
    systems: dict[str, Any] = {
        "linear autoregression": LinearAutoregression.fit(windows, train, valid, climatology, last),
        "damped persistence": DampedPersistence.fit(windows, train, climatology, last),
        "climatology": ClimatologyForecast(windows.layout, climatology),
    }
    scores = score(systems, Protocol(windows, spans["test"], last, SCORED), climatology)
    errors = {name: plain(scores, name, "test") for name in systems}
    return {name: {d: e[f"test/rmse/{channel}/{24 * d}h"] for d in LEADS} for name, e in errors.items()}


def parameters(options: Namespace, folder: Path) -> list[Pair]:
    """A store of Robertson's problem."""
    from understudy.stages import simulate

    store = folder / "robertson.zarr"
    count = {"sampling.count": 400, "out": str(store), "run.dir": str(folder / "robertson")}
    simulate("simulator=robertson", "sampling=robertson", **count)
    errors = {"typical error as a factor, minus 1": ("test/factor_error", "relative", 1.0)}
    settings = ["task=kinetics/robertson", f"data.file={store}", "model.ensemble=1"]
    return [Pair("Robertson's fractions, 280 labels", "linear", options.epochs or 150, settings, errors)]


def drag(options: Namespace, folder: Path) -> list[Pair]:
    """Bodies of NGSolve at its defaults, of which 36 are learned from."""
    from understudy.stages import simulate

    store = folder / "bodies.zarr"
    where = {"sampling.count": 90, "out": str(store), "run.dir": str(folder / "bodies")}
    simulate("simulator=ngsolve", "sampling=drag", **where)
    errors = {"mean relative error of drag": ("test/relative_error", "%", 100.0)}
    settings = ["task=fluids/drag", f"data.file={store}", "data.parts=[36,9,18,27]"]
    coarse = 'rung.settings=["simulator.order=2","simulator.maxh=0.4","simulator.body_maxh=0.04"]'
    return [Pair("Drag, 36 labels", "ngsolve", options.epochs or 100, settings, errors, rung=[coarse], line=_line)]


def _line(folder: Path) -> float:
    """Mean relative error, in %, of the line through the answers of the rung on the test part."""
    import numpy as np

    from data.json_files import read_plain
    from data.parameters import read_parameters
    from surrogates.parameters.surrogate import ParameterSurrogate

    surrogate = ParameterSurrogate.load(folder / "surrogate")
    table, _ = read_parameters(folder.parent.parent / "bodies.zarr", list(surrogate.targets))
    rows = read_plain(folder / "split.json", dict[str, list[int]], remedy="Remove the folder")["test"]
    test = table.take(np.array(rows))
    first = surrogate.facts.first_estimate(test.values, surrogate.ask_rung(test.values).values)
    return float(100 * np.abs(surrogate.facts.quantities.outputs(first) / test.labels - 1).mean())


def potentials(options: Namespace, folder: Path) -> list[Pair]:
    """Some frames of ethanol."""
    frames = {}
    for name, count in (("train", 60), ("test_MD", 100)):
        lines = data_file(options.data, f"rmd17_ethanol_{name}.xyz").read_text().splitlines(keepends=True)
        size = int(lines[0]) + 2
        frames[name] = folder / f"ethanol_{name}.xyz"
        frames[name].parent.mkdir(parents=True, exist_ok=True)
        frames[name].write_text("".join(lines[: count * size]))
    test = frames["test_MD"].stem
    errors = {"forces": (f"test/{test}/forces_mae_mev_per_angstrom", "meV/Angstrom", 1.0)}
    settings = [
        "task=molecules/potentials", f"data.train={frames['train']}", f"data.test=[{frames['test_MD']}]",
        "model=ace_small",
    ]  # fmt: skip
    return [Pair("Ethanol, 60 frames", "xtb", options.epochs or 60, settings, errors)]


KINDS: Mapping[str, Callable[[Namespace, Path], list[Pair]]] = {
    "darcy": darcy,
    "drag": drag,
    "fields": fields,
    "forecasts": forecasts,
    "meshes": meshes,
    "parameters": parameters,
    "potentials": potentials,
}


def trained(pair: Pair, on: str | None, epochs: int, folder: Path) -> Mapping[str, float]:
    """The metrics of a training, which is done unless its metrics are there."""
    from understudy.stages import Run, train

    if (folder / "metrics.json").is_file():
        return Run("train", folder).metrics
    rung = [] if on is None else [f"on={on}", *pair.rung]
    settings = [*pair.settings, *rung, f"train.epochs={epochs}", "train.mlflow=false", f"run.dir={folder}"]
    return train(*settings).metrics


def spent(metrics: Mapping[str, float]) -> float:
    """Processor time of a training and of the answers of its rung, s."""
    rung = metrics.get("on/core_seconds", metrics.get("baseline/core_seconds", 0.0))
    return metrics["train/core_seconds"] + rung


def compare(pair: Pair, folder: Path, *, more: bool = False) -> list[Result]:
    """Train both sides and compare them with each other and with the references.

    Args:
        pair: the pair.
        folder: directory of the trainings.
        more: whether the network alone is also trained on more labels.
    """
    standing = folder / f"on_{pair.on}_{content_hash(list(pair.rung))[:6]}_{pair.epochs}"
    above = trained(pair, pair.on, pair.epochs, standing)
    uncounted = 0.0 if pair.uncounted is None else pair.uncounted(standing)
    all_spent = spent(above) + uncounted
    longer = math.ceil(pair.epochs * all_spent / above["train/core_seconds"])
    without = folder / f"alone_{longer}"
    alone = trained(pair, None, longer, without)
    if pair.within:
        # What the rung took of the training is known once the network alone has been trained.
        longer = math.ceil(longer * all_spent / spent(alone))
        without = folder / f"alone_{longer}"
        alone = trained(pair, None, longer, without)
    title, results = f"{pair.name}, on {pair.on}", []
    for name, (metric, unit, factor) in pair.errors.items():
        head, value = f"{title}: {name}", factor * above[metric]
        results.append(Result.against(head, value, unit, "the same network alone", factor * alone[metric]))
        for system, by_name in pair.references.items():
            results.append(Result.against(head, value, unit, system, by_name[name]))
    for what, settings in pair.more.items() if more else ():
        rows = trained(replace(pair, settings=[*pair.settings, *settings]), None, longer, folder / f"more_{longer}")
        for name, (metric, unit, factor) in pair.errors.items():
            results.append(
                Result.against(
                    f"{title}: {name}", factor * above[metric], unit, f"alone, {what}", factor * rows[metric]
                )
            )
    if pair.line is not None:
        name, (metric, unit, factor) = next(iter(pair.errors.items()))
        line = pair.line(standing)
        results.append(Result.against(f"{title}: {name}", factor * above[metric], unit, pair.line_name, line))
    head = f"{title}: training, with the rung, {pair.epochs} epochs"
    results.append(Result.against(head, all_spent, "core-s", f"alone, {longer} epochs", spent(alone)))
    label = above.get("train/label_core_seconds")
    if above.get("on/requests") and label is not None:
        each = above["on/core_seconds"] / above["on/requests"]
        results.append(
            Result.against(f"{title}: an answer of the rung", each, "core-s", "a label", label / above["on/requests"])
        )
    if pair.answer is not None:
        results += paid_back(pair, standing, without, all_spent, spent(alone), label)
    return results


def paid_back(
    pair: Pair, standing: Path, without: Path, spent_above: float, spent_alone: float, labels: float | None
) -> list[Result]:
    """The cost of an answer on both sides, and after how many answers labels and training have paid.

    Args:
        pair: the pair.
        standing, without: directories of both trainings.
        spent_above, spent_alone: processor time of both, s.
        labels: that of all labels, s; None if it is unknown.
    """
    assert pair.answer is not None
    title = f"{pair.name}, on {pair.on}"
    costs = {"with the rung": pair.answer(standing), "alone": pair.answer(without)}
    results = [
        Result.against(
            f"{title}: an answer",
            1e3 * costs["with the rung"],
            "core-ms",
            "the same network alone",
            1e3 * costs["alone"],
        )
    ]
    if labels is None:
        return results
    label = labels / pair.labels
    results.append(
        Result.against(f"{title}: an answer", 1e3 * costs["with the rung"], "core-ms", "a label", 1e3 * label)
    )
    for (side, cost), training in zip(costs.items(), (spent_above, spent_alone), strict=True):
        if cost < label:
            name = f"{title}: answers after which labels and training have paid, {side}"
            results.append(Result(name, (labels + training) / (label - cost), "answers"))
    for rival, seconds in pair.rivals.items():
        mine = costs["with the rung"]
        results.append(Result.against(f"{title}: an answer", 1e3 * mine, "core-ms", rival, 1e3 * seconds))
        if mine < seconds:
            name = f"{title}: answers after which labels and training have paid, against {rival}"
            results.append(Result(name, (labels + spent_above) / (seconds - mine), "answers"))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=sorted(KINDS), help="kinds (all)")
    parser.add_argument("--epochs", type=int, default=None, help="epochs with the rung (by kind)")
    parser.add_argument("--history", type=int, default=2, help="past states of forecasters (%(default)s)")
    parser.add_argument(
        "--bodies", type=int, default=120, help="flows on meshes, of which 70%% are learned (%(default)s)"
    )
    parser.add_argument("--rungs", nargs="*", choices=list(RUNGS), default=[], help="only these rungs for meshes (all)")
    parser.add_argument("--more", action="store_true", help="also train the network alone on more labels (darcy)")
    parser.add_argument("--on", nargs="*", default=[], help="only these rungs (all)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the trainings")
    options = parser.parse_args(argv)
    pin(options.cores)
    # Each training compiles its own programs, so that none is cheaper for coming later.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    results: list[Result] = []
    for kind in options.kinds:
        folder = (options.out / "rung_pairs" / kind).resolve()
        for pair in KINDS[kind](options, folder):
            if not options.on or pair.on in options.on:
                pair = replace(pair, settings=[*pair.settings, *options.set])
                # Other settings have other folders, in which finished trainings are found again.
                results += compare(pair, folder / content_hash(list(pair.settings))[:12], more=options.more)
    report("rung_pairs", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
