"""Compares a mixture of trained forecasters of the dry core of Held and Suarez with its members and with their mean.

A campaign simulates runs of the core, or resumes them. One network of each kind (spherical operator, convolution, mesh)
learns the 24 h step from all runs but the last, for the same time each; the end of the last run but one is the
validation part, to which the weights of the mixture are fitted; the last run is forecast. The error of a lead is the
mean over channels of the RMSE over that of climatology. Beside each network alone stand the network blended with
simpler forecasts, as `understudy train` blends each by default, and the plain mean of the networks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, pin, report
from benchmarks.distillation import stage
from benchmarks.held_suarez import simulate_core

#: Settings of each network beside those of the study.
NETWORKS = {
    "sfno": ("model=sfno",),
    "conv": ("model=latlon_conv", "model.network.patch=1"),
    "mesh": ("model=icosahedral_mesh", "model.network.refinements=2"),
}
MIXTURE, MEAN = "mixture", "plain mean"


class Mean:
    """The plain mean of several forecasts."""

    def __init__(self, forecasters: Sequence[Any]) -> None:
        self.forecasters, self.history = forecasters, max(one.history for one in forecasters)

    def forecast_arrays(self, history: np.ndarray, times: np.ndarray, steps: int, **_: Any) -> np.ndarray:
        """See `surrogates.forecasts.references.Forecasts`."""
        every = [one.forecast_arrays(history[:, -one.history :], times, steps) for one in self.forecasters]
        return np.asarray(np.mean(every, axis=0), np.float32)


def results_of(errors: dict[str, np.ndarray], names: Sequence[str], hours: float, head: str = "") -> list[Result]:
    """Errors by lead, and ratios of the mixture's to those of the best network, of the best blend and of the mean.

    Args:
        errors: name of a system -> its error at each lead, over that of climatology.
        names: names of the networks; their blends are called "NAME, blended".
        hours: hours of a step.
        head: beginning of each label.
    """
    at = {f"day {hours * (k + 1) / 24:g}": k for k in range(len(errors[MIXTURE]))}
    results = [
        Result(f"{head}{name}, {day}: error over that of climatology", float(values[k]), "1")
        for name, values in errors.items()
        for day, k in at.items()
    ]
    others = {
        "the best network": np.min([errors[name] for name in names], axis=0),
        "the best blended network": np.min([errors[f"{name}, blended"] for name in names], axis=0),
        "their plain mean": errors[MEAN],
    }
    for what, values in others.items():
        ratio = errors[MIXTURE] / values
        results += [Result(f"{head}mixture over {what}, {day}", float(ratio[k]), "1") for day, k in at.items()]
        results.append(Result(f"{head}mixture over {what}, largest ratio of all days", float(ratio.max()), "1"))
    return results


def errors_by_lead(systems: dict[str, Any], protocol: Any, climatology: Any) -> dict[str, np.ndarray]:
    """Mean over channels of the RMSE of each system over that of climatology, at each lead."""
    from surrogates.forecasts.references import ClimatologyForecast
    from surrogates.forecasts.scores import score

    usual = ClimatologyForecast(protocol.store.layout, climatology)
    rmse = score({**systems, "climatology": usual}, protocol, climatology)["rmse"].isel(region=0)
    return {name: (rmse.sel(system=name) / rmse.sel(system="climatology")).mean("channel").values for name in systems}


def core_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the runs of the core, which several benchmarks share."""
    parser.add_argument("--truncation", type=int, default=21, help="largest wavenumber of the core (%(default)s)")
    parser.add_argument("--layers", type=int, default=12, help="layers of the core (%(default)s)")
    parser.add_argument("--runs", type=int, default=4, help="runs of the core; the last is forecast (%(default)s)")
    parser.add_argument("--days", type=int, default=2000, help="days of each run (%(default)s)")
    parser.add_argument("--spin-up", type=int, default=150, help="days before each (%(default)s)")
    parser.add_argument("--valid", type=int, default=400, help="states of the validation part (%(default)s)")


def dry_core(options: argparse.Namespace, workers: int) -> tuple[Any, list[int]]:
    """Windows of runs of the core, made or resumed, and their parts: the last run is the test.

    Args:
        options: see `core_arguments`.
        workers: processes of the campaign.
    """
    from data.sphere.window_store import WindowStore
    from experiments.forecasting.campaign_states import CampaignStates
    from simulators.atmosphere.core_windows import core_windows

    folder = (options.out / "dry_core").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    asked = ["sampling=seeds", f"sampling.count={options.runs}", f"simulator.days={options.days}"]
    asked += [f"simulator.truncation={options.truncation}", f"simulator.layers={options.layers}"]
    records = simulate_core(folder / "core", workers, [*asked, f"simulator.spin_up_days={options.spin_up}"])
    if not (folder / "windows" / "windows.json").exists():
        core_windows(records, CampaignStates(str(records)).core(), folder / "windows")
    store = WindowStore.open(folder / "windows")
    last = store.segments[-1][0]
    return store, [last - options.valid, options.valid, 0, len(store) - last]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    core_arguments(parser)
    parser.add_argument("--seconds", type=float, default=900.0, help="training time of each network (%(default)s)")
    parser.add_argument("--scored", type=int, default=150, help="forecasts that are scored (%(default)s)")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="networks (all)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the trainings")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    from surrogates.forecasts.forecast_mixture import without_blend
    from surrogates.forecasts.references import DampedPersistence, Persistence
    from surrogates.forecasts.scores import Protocol
    from surrogates.forecasts.surrogate import ForecastSurrogate

    folder = (options.out / "forecast_mixture").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store, parts = dry_core(options, len(cores))
    last = len(store) - parts[3]
    shared = [f"data.file={store.path}", f"data.parts={parts}".replace(" ", "")]
    study = ["study=weather/held_suarez", f"model.truncation={options.truncation + 1}"]
    study += [f"train.max_seconds={options.seconds}", *options.set]
    members: dict[str, Any] = {}
    for name in options.networks:
        stage("train", [*study, *NETWORKS[name], *shared, f"run.dir={folder / name}"])
        members[name] = ForecastSurrogate.load(folder / name / "surrogate")
    named = f"model.members=[{','.join(str(folder / name) for name in members)}]"
    metrics = stage(
        "train", ["model=forecast_mixture", "data=forecasts", *shared, named, f"run.dir={folder / 'mixed'}"]
    )
    alone = {name: without_blend(member) for name, member in members.items()}
    mixture = ForecastSurrogate.load(folder / "mixed" / "surrogate")
    steps, train = mixture.facts.config.steps, (0, parts[0])
    climatology = store.climatology(train)
    systems: dict[str, Any] = {
        **alone,
        **{f"{name}, blended": member for name, member in members.items()},
        MEAN: Mean(list(alone.values())),
        MIXTURE: mixture,
        "damped persistence": DampedPersistence.fit(store, train, climatology, steps),
        "persistence": Persistence(),
    }
    if mixture.blend is not None and mixture.blend.linear is not None:
        systems["linear autoregression"] = mixture.blend.linear
    protocol = Protocol(store, (last, len(store)), steps, options.scored)
    results = results_of(errors_by_lead(systems, protocol, climatology), list(members), store.layout.step_hours)
    for name, member in members.items():
        cost = 1e3 * metrics[f"mixture/core_seconds_each/{name}"]
        results.append(Result(f"{name}: training", member.scores["train/core_seconds"], "core-s"))
        results.append(Result(f"{name}: forecast of {steps} steps", cost, "core-ms"))
    spent = metrics["train/core_seconds"] - sum(m.scores["train/core_seconds"] for m in members.values())
    results += [
        Result(f"mixture: weight of {key.rpartition('/')[2]}", value, "1")
        for key, value in metrics.items()
        if key.startswith("mixture/weight/")
    ]
    results += [
        Result("labels", store.label_cost(), "core-s"),
        Result("mixture: fitting its weights", spent, "core-s"),
        Result("mixture: gate, a forecast", 1e3 * metrics["mixture/gate_core_seconds_each"], "core-ms"),
        Result("mixture: gate, share of the cost of a forecast", metrics["mixture/gate_share"], "1"),
    ]
    report("forecast_mixture", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
