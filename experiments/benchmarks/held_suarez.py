"""The dry core of Held and Suarez: a forecaster of its 24 h step beside references, coarser cores, and the core.

Runs of the core at T21 with 12 layers are simulated (or gone on with) as a campaign, each from its own seed after its
spin-up; all but the last are learned from, the last is what is forecast. Labels, training and inference are counted.
A second network sees noise and is trained on the fair CRPS of points, then for half as long again on that of spherical
harmonics too. Then its climate is adjusted in free runs. Before and after, its ensemble is scored on the same
forecasts, and members of it run for years, whose climate is held against the core's. In each of `--rounds` before the
adjustment, states that it drifts to in long runs are answered by the core, and it learns from these answers too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import write_json
from experiments.benchmarks.common import Result, arguments, pin, report

VARIABLES = ("temperature", "u_component_of_wind", "v_component_of_wind")


def labelled(store: Path, workers: int, given: Sequence[str]) -> Path:
    """The store of a campaign of the core."""
    from hydra import compose, initialize_config_dir

    from experiments.sampled import draw_requests
    from experiments.stage import CONF, instantiate
    from simulators.campaign import CampaignConfig, run_campaign

    given = ["simulator=held_suarez", "inputs=null", *given]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("simulate", given)
    core = instantiate(config.simulator)
    requests, count = draw_requests(config.sampling, core)
    run_campaign(core, requests, store, CampaignConfig(workers=workers, timeout_s=14400), total=count, progress=False)
    return store


def answered(drifted: Path, folder: Path, workers: int, count: int) -> Path:
    """Windows of what the core does in five days from some of the states that a forecaster drifted to."""
    from experiments.windows import Campaign
    from simulators.weather.core_windows import core_windows

    given = ["sampling=windows", f"sampling.count={count}", f"sampling.initial.path={drifted}", "simulator.days=5"]
    records = labelled(folder / "answers", workers, [*given, "simulator.start=state", "simulator.spin_up_days=0"])
    core_windows(records, Campaign(str(records)).core(), folder / "also")  # type: ignore[arg-type]
    return folder / "also"


def ratios(found: Any, system: str, head: str) -> list[Result]:
    """Largest ratio of a system's errors to those of each reference, over levels and leads, by variable."""
    rmse = found.scores["rmse"].isel(region=0)
    results = []
    for name in ("persistence", "climatology", "linear_inverse_model"):
        for variable in VARIABLES:
            at = found.layout.index(variable)
            ratio = (rmse.sel(system=system) / rmse.sel(system=name)).values[:, at]
            label = f"held_suarez: {head}{variable}: largest ratio of errors to {name}, 1 to 10 days"
            results.append(Result(label, float(ratio.max()), "1"))
    return results


def chance(store: Any, days: float, mirror: bool) -> list[Result]:
    """How far the climate of some days of the core is from that of its other runs, mean over runs (and levels)."""
    import numpy as np

    from experiments.weather.stability import runs_apart

    pairs = runs_apart(store, round(days * 24 / store.layout.step_hours), mirror)
    weights = store.layout.grid.weights[:, 0]
    results: list[Result] = []
    for variable in VARIABLES[:2]:
        at = store.layout.index(variable)
        found: dict[str, list[float]] = {}
        for run, others in pairs:
            offs = {k: v[at] for k, v in run.off(others, weights).items()} | run.section_off(others, weights, at)
            for key, off in offs.items():
                found.setdefault(key, []).append(np.abs(off).mean())
        for key, values in found.items():
            label = (
                f"held_suarez: {days:g} days of the core and its other runs, {variable}: {key.replace('_', ' ')} off"
            )
            results.append(Result(label, float(np.mean(values)), "1"))
    return results


def climate(found: Any, metrics: Mapping[str, float], head: str) -> list[Result]:
    """How long runs of its own go on, and how far their climate is off, beside the core's own other run."""
    if found.long is None:
        return []
    ended = found.long.left or found.long.days
    count = len(found.long.ends)
    results = [
        Result(f"held_suarez: {head}days of {found.long.days:g} within the climatological range, least", ended, "days"),
        Result(f"held_suarez: {head}rollouts of {count} that stayed within it", float(found.long.stayed), "1"),
    ]
    for variable in VARIABLES[:2]:
        for key in ("section_mean", "section_contrast", "section_variance", "mean", "mean_in_spreads", "variance"):
            whole = key.startswith("section")
            for suffix, words in (("", "all levels" if whole else "mean of levels"), ("_most", "worst level")):
                ours, held = (metrics.get(f"{h}/{variable}/{key}_off{suffix}") for h in ("long", "long_held"))
                if ours is not None:
                    label = f"held_suarez: {head}long run, {variable}: {key.replace('_', ' ')} off, {words}"
                    results.append(Result.against(label, ours, "1", "the core's other run", held))
    return results


def probabilistic(found: Any, head: str) -> list[Result]:
    """Fair CRPS of an ensemble beside the mean absolute errors of references, and its spread over its error."""
    one = found.scores.isel(region=0)
    results = []
    for variable in VARIABLES:
        at = found.layout.index(variable)
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


def costs(found: Any, cores: int) -> list[Result]:
    """A forecast beside coarser cores, what it has to earn back, and simulated years a minute beside the core."""
    from experiments.comparison.frontier import accuracy_gain, break_even_of, speed_up

    comparison, results = found.comparison, []
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
    for batch, (ours, theirs) in found.speed.items():
        label = f"held_suarez: simulated years a minute, {batch} at a time, {cores} cores"
        results.append(Result.against(label, ours, "1", "the core", theirs))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=4, help="of the core; the last is forecast (%(default)s)")
    parser.add_argument("--days", type=int, default=2000, help="of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=900.0, help="of training, or 0 (%(default)s)")
    parser.add_argument("--tune-seconds", type=float, default=600.0, help="of longer rollouts after it (%(default)s)")
    parser.add_argument(
        "--crps-seconds", type=float, default=1800.0, help="of an ensemble's training, or 0 (%(default)s)"
    )
    parser.add_argument("--members", type=int, default=16, help="of the ensemble (%(default)s)")
    parser.add_argument("--long-days", type=float, default=1000.0, help="of the long runs (%(default)s)")
    parser.add_argument("--long-starts", type=int, default=8, help="long runs (%(default)s)")
    parser.add_argument("--answers", type=int, default=500, help="of the core to drifted states (%(default)s)")
    parser.add_argument("--rounds", type=int, default=0, help="of drift, answers and training (%(default)s)")
    parser.add_argument("--adjust-days", type=float, default=3000.0, help="of free runs, or 0 (%(default)s)")
    parser.add_argument("--scored", type=int, default=100, help="forecasts of the ensemble (%(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="states at a time (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our configuration")
    parser.add_argument("--crps-set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the ensemble's")
    given = parser.parse_args(argv)
    cores = pin(given.cores)
    from hydra import compose, initialize_config_dir

    from data.windows import WindowStore
    from experiments.forecasts import WindowData, train_on_windows, weather_config
    from experiments.stage import CONF, build
    from experiments.weather.drift import Drift
    from experiments.weather.evaluate import evaluate_forecaster
    from experiments.windows import Campaign
    from simulators.weather.core_windows import core_windows
    from surrogates.train import TrainConfig
    from surrogates.weather.forecaster import Forecaster

    folder = (given.out / "held_suarez").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    seeds = ["sampling=seeds", f"sampling.count={given.runs}", f"simulator.days={given.days}"]
    records = labelled(folder / "core", len(cores), [*seeds, "simulator.spin_up_days=150"])
    if not (folder / "windows" / "windows.json").exists():
        core_windows(records, Campaign(str(records)).core(), folder / "windows")  # type: ignore[arg-type]
    store = WindowStore.open(folder / "windows")
    last = store.segments[-1][0]
    # The end of the last run but one chooses the weights, the beginning of the last one calibrates.
    parts = [last - 100, 100, 150, len(store) - last - 150]
    overrides = ["experiment=weather/held_suarez", f"data.file={folder / 'windows'}", f"data.parts={parts}"]
    overrides += ["train.mlflow=false", *given.set]
    long = [f"forecasts.long_days={given.long_days}", f"forecasts.long_starts={given.long_starts}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        mirror = bool(compose("train", overrides).surrogate.mirror)
    results = chance(store, given.long_days, mirror)

    def trained(into: Path, more: Sequence[str], init: Forecaster | None) -> Forecaster:
        if not (into / "surrogate" / "surrogate.json").exists():
            with initialize_config_dir(str(CONF), version_base="1.3"):
                config = compose("train", [*overrides, *more])
            data, recipe = build(WindowData, config.data, where="data"), build(TrainConfig, config.train, where="train")
            train_on_windows(store, data, weather_config(config.surrogate), recipe, into, init=init, progress=False)
        return Forecaster.load(into / "surrogate")

    def ensemble(name: str, head: str) -> list[Result]:
        found, metrics = evaluate_forecaster(
            Forecaster.load(folder / name / "surrogate"), folder / name / "surrogate",
            applied(["forecasts=held_out", *long, f"forecasts.members={given.members}",
                     f"forecasts.starts={given.scored}"]),
            folder / name,
        )  # fmt: skip
        write_json(folder / name / "metrics.json", metrics)
        return [*ratios(found, "forecast", head), *probabilistic(found, head), *climate(found, metrics, head)]

    def applied(asked: Sequence[str]) -> Any:
        with initialize_config_dir(str(CONF / "apply"), version_base="1.3"):
            return compose("evaluate", ["surrogate=none", *asked, f"forecasts.file={folder / 'windows'}"]).forecasts

    if given.crps_seconds:
        noisy = ["surrogate.noise_dims=8", "surrogate.draws=2", "surrogate.unroll=3", "train.batch_size=8"]
        noisy += ["train.ema_decay=0.998", *given.crps_set]
        spread = trained(folder / "ensemble_first", [f"train.max_seconds={given.crps_seconds}", *noisy], None)
        slow = [f"train.max_seconds={given.crps_seconds * 1.5:g}", "train.learning_rate=1e-3", *noisy]
        slow += ["surrogate.spectral_weight=1", "surrogate.keep_means=true"]
        slow += ["surrogate.unroll_from=0.7", "surrogate.unroll_full=0.85"]
        drawn = trained(folder / "ensemble", slow, spread)
        results += ensemble("ensemble", f"ensemble of {given.members}, ")
        also: list[str] = []
        for count in range(1, given.rounds + 1):
            into, before = folder / f"round_{count}", folder / (f"round_{count - 1}" if count > 1 else "ensemble")
            drift = Drift(
                str(before / "surrogate"), str(folder / "windows"), runs=32, days=300, every=10, seed=count - 1
            )
            drift.write(into / "drifted")
            also.append(str(answered(into / "drifted", into, len(cores), given.answers)))
            aside = [*slow, f"data.also={also}", "train.learning_rate=5e-4"]
            drawn = trained(into, aside, drawn)
            results += ensemble(into.name, f"ensemble of {given.members}, answers where it drifts, round {count}, ")
        if given.adjust_days:
            # No step of training: what follows the steps is found for the network as it is.
            held = [*slow, "train.max_seconds=0", f"surrogate.adjust_days={given.adjust_days}"]
            drawn = trained(folder / "adjusted", held, drawn)
            results += ensemble("adjusted", f"ensemble of {given.members}, adjusted, ")
        results.append(
            Result("held_suarez: ensemble: training", drawn.scores["train/core_seconds"], "core-s"),
        )
        results.append(
            Result("held_suarez: ensemble: labels", drawn.scores["train/label_core_seconds"], "core-s"),
        )
    if given.seconds:
        begun = trained(folder / "first", [f"train.max_seconds={given.seconds}"], None)
        longer = [f"train.max_seconds={given.tune_seconds}", "train.learning_rate=5e-4", "surrogate.unroll=6"]
        longer += ["surrogate.unroll_from=0", "surrogate.unroll_full=0", "surrogate.input_noise=0.05"]
        forecaster = trained(folder / "run", longer, begun)
        asked = ["forecasts=held_suarez", f"forecasts.core={records}", *long, f"forecasts.batches={given.batches}"]
        found, metrics = evaluate_forecaster(forecaster, folder / "run" / "surrogate", applied(asked), folder)
        write_json(folder / "metrics.json", metrics)
        results += [*ratios(found, "forecast", ""), *ratios(found, "regressed", "drawn towards climatology, ")]
        results += [*costs(found, len(cores)), *climate(found, metrics, "")]
    report("held_suarez", results, given.out, argv)


if __name__ == "__main__":
    from experiments.benchmarks.common import run

    sys.exit(run(main))
