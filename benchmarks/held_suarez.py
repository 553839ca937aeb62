"""Compares forecasters of the dry core of Held and Suarez with reference forecasts, coarser cores, and the core itself.

A campaign simulates runs of the core at T21 with 12 layers, or resumes them, each from its own seed and after its own
spin-up. The forecaster of the 24 h step learns from all runs but the last, and forecasts the last. Costs include
labels, training and inference. A second network has noise as an input; it is trained on the fair CRPS at grid points,
and then half as long again with the CRPS of spherical harmonics added. Then its climate is adjusted in free runs.
Before and after the adjustment its ensemble is scored on the same forecasts, and members run freely for years so that
their climate can be compared with that of the core. In each of `--rounds` before the adjustment, the core answers
states to which the forecaster drifts in long runs, and the forecaster also learns from these answers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import Result, arguments, pin, report
from data.files import write_json

VARIABLES = ("temperature", "u_component_of_wind", "v_component_of_wind")


def simulate_core(store: Path, workers: int, settings: Sequence[str]) -> Path:
    """Run a campaign of the core and return its store."""
    from hydra import compose, initialize_config_dir

    from experiments.application.choices import CONF
    from experiments.application.stage import instantiate
    from experiments.campaigns.sampled import draw_requests
    from simulators.campaigns.campaign import CampaignConfig, run_campaign

    settings = ["simulator=held_suarez", "inputs=null", *settings]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("simulate", settings)
    core = instantiate(config.simulator)
    requests, count = draw_requests(config.sampling, core)
    run_campaign(core, requests, store, CampaignConfig(workers=workers, timeout_s=14400), total=count, progress=False)
    return store


def answer_drifted(drifted: Path, folder: Path, workers: int, count: int) -> Path:
    """Windows of five-day runs of the core from some of the states to which a forecaster drifted."""
    from experiments.forecasting.campaign_states import CampaignStates
    from simulators.atmosphere.core_windows import core_windows

    settings = ["sampling=windows", f"sampling.count={count}", f"sampling.initial.path={drifted}", "simulator.days=5"]
    records = simulate_core(
        folder / "answers", workers, [*settings, "simulator.start=state", "simulator.spin_up_days=0"]
    )
    core_windows(records, CampaignStates(str(records)).core(), folder / "also")
    return folder / "also"


def ratios(evaluation: Any, system: str, head: str) -> list[Result]:
    """Largest ratio, over levels and lead times, of a system's errors to those of each reference, by variable."""
    rmse = evaluation.scores["rmse"].isel(region=0)
    results = []
    for name in ("persistence", "climatology", "linear_inverse_model"):
        for variable in VARIABLES:
            at = evaluation.layout.index(variable)
            ratio = (rmse.sel(system=system) / rmse.sel(system=name)).values[:, at]
            label = f"held_suarez: {head}{variable}: largest ratio of errors to {name}, 1 to 10 days"
            results.append(Result(label, float(ratio.max()), "1"))
    return results


def chance(store: Any, days: float, mirror: bool) -> list[Result]:
    """Mean distance between the climate of some days of the core and the climate of its other runs."""
    import numpy as np

    from experiments.forecasting.long_runs import runs_apart

    pairs = runs_apart(store, round(days * 24 / store.layout.step_hours), mirror)
    weights = store.layout.grid.weights[:, 0]
    results: list[Result] = []
    for variable in VARIABLES[:2]:
        at = store.layout.index(variable)
        distances: dict[str, list[float]] = {}
        for run, others in pairs:
            offs = {k: v[at] for k, v in run.off(others, weights).items()} | run.section_off(others, weights, at)
            for key, off in offs.items():
                distances.setdefault(key, []).append(np.abs(off).mean())
        for key, values in distances.items():
            label = (
                f"held_suarez: {days:g} days of the core and its other runs, {variable}: {key.replace('_', ' ')} off"
            )
            results.append(Result(label, float(np.mean(values)), "1"))
    return results


def climate(evaluation: Any, metrics: Mapping[str, float], head: str) -> list[Result]:
    """Days that free runs stay in the climatological range, and their climate errors beside another core run."""
    if evaluation.long is None:
        return []
    ended = evaluation.long.left or evaluation.long.days
    count = len(evaluation.long.ends)
    results = [
        Result(
            f"held_suarez: {head}days of {evaluation.long.days:g} within the climatological range, least", ended, "days"
        ),
        Result(f"held_suarez: {head}rollouts of {count} that stayed within it", float(evaluation.long.stayed), "1"),
    ]
    for variable in VARIABLES[:2]:
        for key in ("section_mean", "section_contrast", "section_variance", "mean", "mean_in_spreads", "variance"):
            whole = key.startswith("section")
            for suffix, words in (("", "all levels" if whole else "mean of levels"), ("_most", "worst level")):
                ours, core_run = (metrics.get(f"{h}/{variable}/{key}_off{suffix}") for h in ("long", "long_held"))
                if ours is not None:
                    label = f"held_suarez: {head}long run, {variable}: {key.replace('_', ' ')} off, {words}"
                    results.append(Result.against(label, ours, "1", "the core's other run", core_run))
    return results


def probabilistic(evaluation: Any, head: str) -> list[Result]:
    """Ratio of an ensemble's fair CRPS to the mean absolute errors of references, and its spread over its error."""
    one = evaluation.scores.isel(region=0)
    results = []
    for variable in VARIABLES:
        at = evaluation.layout.index(variable)
        crps = one["crps"].sel(system="forecast").values[:, at]
        for name in ("climatology", "linear_inverse_model"):
            ratio = float((crps / one["mae"].sel(system=name).values[:, at]).max())
            results.append(
                Result(f"held_suarez: {head}{variable}: largest ratio of CRPS to that of {name}", ratio, "1")
            )
        spread = one["spread_skill"].sel(system="forecast").values[:, at]
        results += [
            Result(f"held_suarez: {head}{variable}: spread over error, least", float(spread.min()), "1"),
            Result(f"held_suarez: {head}{variable}: spread over error, most", float(spread.max()), "1"),
        ]
    return results


def costs(evaluation: Any, cores: int) -> list[Result]:
    """Cost and error of a forecast beside coarser cores, its break-even, and simulated years per minute."""
    from experiments.comparison.break_even import accuracy_gain, break_even_of, speed_up

    comparison, results = evaluation.comparison, []
    for point in comparison.rungs:
        results += [
            Result(f"held_suarez: core {point.name}: error", point.error, "spread"),
            Result(f"held_suarez: core {point.name}: cost", point.core_seconds, "core-s/forecast"),
        ]
    for point in comparison.surrogates:
        gain, better = speed_up(point, comparison.points), accuracy_gain(point, comparison.points)
        pays = break_even_of(point, comparison.points)
        results += [
            Result(f"held_suarez: {point.name}: error", point.error, "spread"),
            Result(f"held_suarez: {point.name}: cost", point.core_seconds, "core-s/forecast"),
            Result("held_suarez: labels and training", point.up_front, "core-s"),
            Result(f"held_suarez: speed-up at equal error ({gain.relation})", gain.value, "1"),
            Result(f"held_suarez: core's error over its own at equal cost ({better.relation})", better.value, "1"),
        ]
        if pays is not None:
            results.append(Result(f"held_suarez: pays from ({pays.relation})", pays.count, "forecasts"))
    for batch, (ours, theirs) in evaluation.speed.items():
        label = f"held_suarez: simulated years a minute, {batch} at a time, {cores} cores"
        results.append(Result.against(label, ours, "1", "the core", theirs))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=4, help="runs of the core; the last one is forecast (%(default)s)")
    parser.add_argument("--days", type=int, default=2000, help="days of each run (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=900.0, help="training time of the deterministic forecaster, or 0 (%(default)s)"
    )
    parser.add_argument(
        "--tune-seconds", type=float, default=600.0, help="training time over longer rollouts after that (%(default)s)"
    )
    parser.add_argument(
        "--crps-seconds", type=float, default=1800.0, help="training time of the ensemble, or 0 (%(default)s)"
    )
    parser.add_argument("--members", type=int, default=16, help="members of the ensemble (%(default)s)")
    parser.add_argument("--long-days", type=float, default=1000.0, help="length of the long runs in days (%(default)s)")
    parser.add_argument("--long-starts", type=int, default=8, help="number of long runs (%(default)s)")
    parser.add_argument(
        "--answers", type=int, default=500, help="drifted states that the core answers per round (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=0, help="rounds of drift, answers and training (%(default)s)")
    parser.add_argument(
        "--adjust-days",
        type=float,
        default=3000.0,
        help="days of free runs that adjust the climate, or 0 (%(default)s)",
    )
    parser.add_argument(
        "--scored", type=int, default=100, help="forecasts on which the ensemble is scored (%(default)s)"
    )
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=[1, 64],
        help="batch sizes at which the speed is measured (%(default)s)",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    parser.add_argument(
        "--crps-set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the ensemble's configuration"
    )
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    from hydra import compose, initialize_config_dir

    from data.sphere.window_store import WindowStore
    from experiments.application.choices import CONF
    from experiments.forecasting.campaign_states import CampaignStates
    from experiments.forecasting.drift import Drift
    from experiments.forecasting.forecast_evaluation import evaluate_forecaster
    from experiments.stages.train import task_of, train_on
    from simulators.atmosphere.core_windows import core_windows
    from surrogates.forecasts.surrogate import ForecastSurrogate
    from surrogates.forecasts.task import ForecastTask, TrainingWindows

    folder = (options.out / "held_suarez").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    seeds = ["sampling=seeds", f"sampling.count={options.runs}", f"simulator.days={options.days}"]
    records = simulate_core(folder / "core", len(cores), [*seeds, "simulator.spin_up_days=150"])
    if not (folder / "windows" / "windows.json").exists():
        core_windows(records, CampaignStates(str(records)).core(), folder / "windows")
    store = WindowStore.open(folder / "windows")
    last = store.segments[-1][0]
    # The end of the last run but one selects the weights, and the beginning of the last run calibrates.
    parts = [last - 100, 100, 150, len(store) - last - 150]
    overrides = ["study=weather/held_suarez", f"data.file={folder / 'windows'}", f"data.parts={parts}"]
    overrides += ["train.mlflow=false", *options.set]
    long = [f"forecasts.long_days={options.long_days}", f"forecasts.long_starts={options.long_starts}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        mirror = bool(compose("train", overrides).model.mirror)
    results = chance(store, options.long_days, mirror)

    def train_forecaster(into: Path, more: Sequence[str], init: ForecastSurrogate | None) -> ForecastSurrogate:
        if not (into / "surrogate" / "surrogate.json").exists():
            with initialize_config_dir(str(CONF), version_base="1.3"):
                config = compose("train", [*overrides, *more])
            task = task_of(config)
            assert isinstance(task, ForecastTask)
            train_on(replace(task, init=init), TrainingWindows(store), into, progress=False)
        return ForecastSurrogate.load(into / "surrogate")

    def ensemble(name: str, head: str) -> list[Result]:
        evaluation, metrics = evaluate_forecaster(
            ForecastSurrogate.load(folder / name / "surrogate"), folder / name / "surrogate",
            evaluation_settings(["forecasts=held_out", *long, f"forecasts.members={options.members}",
                     f"forecasts.starts={options.scored}"]),
            folder / name,
        )  # fmt: skip
        write_json(folder / name / "metrics.json", metrics)
        return [
            *ratios(evaluation, "forecast", head),
            *probabilistic(evaluation, head),
            *climate(evaluation, metrics, head),
        ]

    def evaluation_settings(asked: Sequence[str]) -> Any:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("evaluate", ["surrogate=none", *asked, f"forecasts.file={folder / 'windows'}"]).forecasts

    if options.crps_seconds:
        noisy = ["model.noise_dims=8", "model.loss.draws=2", "model.loss.unroll=3", "train.batch_size=8"]
        noisy += ["train.ema_decay=0.998", *options.crps_set]
        spread = train_forecaster(
            folder / "ensemble_first", [f"train.max_seconds={options.crps_seconds}", *noisy], None
        )
        slow = [f"train.max_seconds={options.crps_seconds * 1.5:g}", "train.learning_rate=1e-3", *noisy]
        slow += ["model.loss.spectral_weight=1", "model.keep_means=true"]
        slow += ["model.loss.unroll_from=0.7", "model.loss.unroll_full=0.85"]
        drawn = train_forecaster(folder / "ensemble", slow, spread)
        results += ensemble("ensemble", f"ensemble of {options.members}, ")
        also: list[str] = []
        for count in range(1, options.rounds + 1):
            into, before = folder / f"round_{count}", folder / (f"round_{count - 1}" if count > 1 else "ensemble")
            drift = Drift(
                str(before / "surrogate"), str(folder / "windows"), runs=32, days=300, every=10, seed=count - 1
            )
            drift.write(into / "drifted")
            also.append(str(answer_drifted(into / "drifted", into, len(cores), options.answers)))
            aside = [*slow, f"data.also={also}", "train.learning_rate=5e-4"]
            drawn = train_forecaster(into, aside, drawn)
            results += ensemble(into.name, f"ensemble of {options.members}, answers where it drifts, round {count}, ")
        if options.adjust_days:
            # With no training steps, only the adjustment after training is fitted, to the network as it is.
            adjustment = [*slow, "train.max_seconds=0", f"model.climate.days={options.adjust_days}"]
            drawn = train_forecaster(folder / "adjusted", adjustment, drawn)
            results += ensemble("adjusted", f"ensemble of {options.members}, adjusted, ")
        results.append(
            Result("held_suarez: ensemble: training", drawn.scores["train/core_seconds"], "core-s"),
        )
        results.append(
            Result("held_suarez: ensemble: labels", drawn.scores["train/label_core_seconds"], "core-s"),
        )
    if options.seconds:
        begun = train_forecaster(folder / "first", [f"train.max_seconds={options.seconds}"], None)
        longer = [f"train.max_seconds={options.tune_seconds}", "train.learning_rate=5e-4", "model.loss.unroll=6"]
        longer += ["model.loss.unroll_from=0", "model.loss.unroll_full=0", "model.loss.input_noise=0.05"]
        forecaster = train_forecaster(folder / "run", longer, begun)
        asked = ["forecasts=held_suarez", f"forecasts.core={records}", *long, f"forecasts.batches={options.batches}"]
        evaluation, metrics = evaluate_forecaster(
            forecaster, folder / "run" / "surrogate", evaluation_settings(asked), folder
        )
        write_json(folder / "metrics.json", metrics)
        results += [
            *ratios(evaluation, "forecast", ""),
            *ratios(evaluation, "regressed", "drawn towards climatology, "),
        ]
        results += [*costs(evaluation, len(cores)), *climate(evaluation, metrics, "")]
    report("held_suarez", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
