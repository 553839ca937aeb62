"""Score a forecaster as WeatherBench does, with reference forecasts, and write the scores and the page."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.files import atomic_directory, write_json
from data.reading_summary import Reading
from data.settings import build, existing_file
from data.sphere.window_store import WindowStore
from data.terminal import progress_bar
from experiments.application.stage import show_readings
from experiments.forecasting import forecast_figures
from experiments.forecasting.evaluation_figures import add_figures
from experiments.forecasting.external_forecasts import ExternalForecasts, opened_forecasts
from experiments.forecasting.forecast_page import Evaluation, count_certain, count_wins, write_page
from experiments.forecasting.long_runs import long_run
from experiments.forecasting.reference_states import AskedStates, ReferenceStates, reference_states
from experiments.forecasting.system_names import DEFAULT_REFERENCES, EXTERNAL, NAMES, REFERENCES
from experiments.forecasting.truth import truth_windows
from surrogates.forecasts.references import Regressed, leads
from surrogates.forecasts.request_checks import refuse_beyond, refuse_other_times, whole_number
from surrogates.forecasts.scores import CLIMATE, Protocol, ensemble_metrics, plain, score
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.overlap import UNSEEN

#: Least number of members of a climatological ensemble, if the training has enough states.
CLIMATE_MEMBERS = 10
PAGE = "forecast.html"


@dataclass(frozen=True)
class ForecastEvaluation:
    """Settings of an evaluation, the keys of `forecasts`.

    Attributes:
        file: windows with the truth: those of the surrogate's training, or others of the same kind; or a file of
            states, of which windows are written into the run's directory.
        external: forecasts from elsewhere, in Zarr or NetCDF along time, prediction_timedelta and optionally number,
            with the names of WeatherBench 2; they are scored beside those of the surrogate, or alone with
            surrogate=null.
        names: name of a variable or dim in that file -> its name in WeatherBench 2.
        training: path of the windows of the training, if they have been moved.
        train, valid: [start, stop) of the states in the windows of the training that references are made of; None for
            the parts of the training.
        test: [start, stop) of the states of `file` to forecast; None for the test part of the training if `file` holds
            its windows, else all.
        steps: number of leads; None for that of the surrogate.
        starts: number of forecasts, spread evenly over the test part; None for all.
        members: members of the ensemble of a forecaster with noise.
        regressed: whether to score also the forecast regressed towards climatology, fitted to the validation part.
        references: names of `experiments.forecasting.system_names.REFERENCES`.
        channels: labels of the channels with figures of their own; empty for a choice of them.
        long_days: length of long rollouts in days; 0 for none.
        long_starts: number of long rollouts, from states spread evenly over the test part.
        core: store of the campaign that made the states, for the comparison with coarser truncations.
        truncations: truncations of that comparison.
        compared_steps: number of leads of that comparison.
        compared: number of forecasts of that comparison.
        compared_batches: batch sizes of that comparison.
        batches: batch sizes for the simulated years per minute.

    Raises:
        InputError: a count is out of range.
    """

    file: str = MISSING
    external: str | None = None
    names: dict[str, str] | None = None
    training: str | None = None
    train: list[int] | None = None
    valid: list[int] | None = None
    test: list[int] | None = None
    steps: int | None = None
    starts: int | None = 200
    members: int = 1
    regressed: bool = True
    references: list[str] = field(default_factory=lambda: list(DEFAULT_REFERENCES))
    channels: list[str] = field(default_factory=list)
    long_days: float = 0.0
    long_starts: int = 1
    core: str | None = None
    truncations: list[int] = field(default_factory=list)
    compared_steps: int = 5
    compared: int = 16
    compared_batches: list[int] = field(default_factory=lambda: [1, 8])
    batches: list[int] = field(default_factory=lambda: [1, 16])

    def __post_init__(self) -> None:
        for name in ("steps", "starts", "members", "long_starts", "compared_steps", "compared"):
            if getattr(self, name) is not None:
                whole_number(getattr(self, name), f"forecasts.{name}")
        if not self.long_days >= 0:
            raise InputError(f"must be 0 or more, got {self.long_days:g}", where="forecasts.long_days")


def evaluate_forecaster(
    forecaster: ForecastSurrogate | None, directory: Path | None, node: DictConfig, run_dir: Path
) -> tuple[Evaluation, dict[str, float]]:
    """Score a forecaster, and write `scores.zarr`, `scores.json` and the page.

    Args:
        forecaster: forecaster to score; None to score forecasts from elsewhere alone.
        directory: directory of the saved forecaster, with the references of its training; `split.json` is in it or
            beside it.
        node: configuration; see `ForecastEvaluation`.
        run_dir: directory for the files.

    Raises:
        InputError: the parts of the training are not known, or the states have another layout.
    """
    settings = build(ForecastEvaluation, node, where="forecasts")
    readings: list[Reading] = []
    elsewhere = None if settings.external is None else existing_file(settings.external, "forecasts.external")
    layout = None if forecaster is None else forecaster.layout
    forecasts = None if elsewhere is None else opened_forecasts(elsewhere, settings.names)
    file = existing_file(settings.file, "forecasts.file")
    training = None if settings.training is None else existing_file(settings.training, "forecasts.training")
    store = truth_windows(file, run_dir / "truth", layout, forecasts, readings, training)
    if forecaster is not None:
        forecaster.layout.refuse_other_states(store.layout, settings.file, "those of the surrogate")
        forecaster.refuse_members(settings.members)
    external = None
    if elsewhere is not None:
        external = ExternalForecasts.open(elsewhere, store, settings.steps, settings.names)
    main: Any = external if forecaster is None else forecaster
    if main is None:
        raise InputError("nothing to score", where="surrogate", remedy="Give surrogate=DIR or forecasts.external=FILE")
    if forecaster is None and (settings.long_days or settings.core is not None):
        raise InputError("forecasts from a file cannot be continued", where="forecasts.long_days", remedy="Set it to 0")
    asked = AskedStates(settings.training, settings.train, settings.valid, settings.test)
    learned = reference_states(asked, store, forecaster, directory)
    if settings.long_days and learned.windows is None:
        raise InputError(
            "the climate of the training is not available", where="forecasts.long_days",
            remedy="Give the windows of its training as forecasts.training=WINDOWS, or set it to 0",
        )  # fmt: skip
    test, climatology = learned.test, learned.climatology
    members = settings.members if external is None or forecaster is not None else external.members
    if external is not None:
        only, reading = external.starts(store, test, settings.starts)
        readings.insert(0, reading)
        steps = external.steps[-1]
        protocol = Protocol(store, test, steps, settings.starts, only=only, leads=external.steps)
    else:
        assert forecaster is not None
        steps = forecaster.facts.config.steps if settings.steps is None else settings.steps
        protocol = Protocol(store, test, steps, settings.starts)
    first = protocol.starts(main.history)
    if forecaster is not None:
        facts, extremes = forecaster.facts, np.array([store.statistics.low, store.statistics.high])[:, None, None]
        unlike = refuse_beyond(extremes, facts) + refuse_other_times(store.times[first], steps, facts)
        learned.notes += [f"Mind that {text}." for text in unlike]
        learned.notes += [
            f"{name} is an input of the forecaster and not forecast: its errors are those of an anomaly that it keeps."
            for name in facts.config.forcing
        ]
    with progress_bar("forecasts", None) as bar:
        systems: dict[str, Any] = {"forecast": main}
        if external is not None and forecaster is not None:
            systems[EXTERNAL] = external
        if settings.regressed and forecaster is not None:
            if learned.windows is None or not len(learned.windows.starts(forecaster.history + steps, learned.valid)):
                learned.notes.append(
                    f"The forecast regressed towards climatology is left out: no {forecaster.history + steps} states "
                    "that follow one another are available of the validation part."
                )
            else:
                systems["regressed"] = Regressed.fit(
                    forecaster, learned.windows, learned.valid, climatology, steps, members=members
                )
        valid_times = leads(store.times[first], store.layout, steps)
        most = members if external is None else max(members, external.members)
        systems |= learned.references(settings.references, store.layout, steps, main.history, most, valid_times)
        for name in [n for n, s in systems.items() if n in REFERENCES and s.history > main.history]:
            try:
                protocol.starts(systems[name].history)
            except InputError:
                del systems[name]
                learned.notes.append(f"The {NAMES[name]} is left out: no forecast has as many states before it.")
        longest = max(s.history for s in systems.values())
        batches = -(-len(protocol.starts(longest)) // protocol.batch)
        bar.update(total=len(systems) * batches)
        several = {"forecast": members} if members > 1 else {}
        if EXTERNAL in systems and external is not None and external.members > 1:
            several[EXTERNAL] = external.members
        if (climate := systems.get(CLIMATE)) is not None:
            several[CLIMATE] = min(max(most, CLIMATE_MEMBERS), climate.most_members(valid_times))
        scores = score(
            systems, protocol, climatology, members=several, precipitation=learned.precipitation,
            bounds=True, advance=bar.advance,
        )  # fmt: skip
    apart = _apart(main, protocol, learned, members)
    if external is not None and scores.attrs["forecasts"] < readings[0].used:
        unseen = readings[0].used - int(scores.attrs["forecasts"])
        readings[0] = readings[0].without(["no state before its first lead that other systems begin from"] * unseen)
    scores.attrs |= {"states": store.fingerprint, "notes": learned.notes}
    if forecaster is not None:
        scores.attrs["surrogate"] = forecaster.fingerprint
    show_readings([_reading(settings.file, store, learned), *readings], run_dir)
    _write_scores(scores, run_dir)
    shown = _shown(settings.channels, store)
    evaluation = Evaluation(store.layout, scores, shown, notes=learned.notes, members=members)
    # Bands were calibrated at every step, so that they do not apply to the leads of a file.
    bands = None if forecaster is None or protocol.leads is not None else forecaster.facts.bands
    add_figures(evaluation, main, protocol, bands)
    if settings.long_days and forecaster is not None:
        first = first[np.unique(np.linspace(0, len(first) - 1, max(1, settings.long_starts)).round().astype(int))]
        run = evaluation.long = long_run(
            forecaster, store, first.tolist(), settings.long_days, learned.train, test, learned=learned.windows
        )
        if run.climate is not None:
            for k in shown[:4]:
                channel = store.layout.channels[k]
                label = (
                    f"{forecast_figures.title(channel, store.layout)} ({forecast_figures.units(channel, store.layout)})"
                )
                means = run.climate.mean[:, k], run.truth.mean[:, k]
                evaluation.zonal.append(forecast_figures.zonal_means(*means, store.layout.grid, label, f"zonal-{k}"))
    if settings.core is not None and forecaster is not None:
        from experiments.forecasting.campaign_states import CampaignStates
        from experiments.forecasting.core_comparison import SteppingCore, compare_with_core, years_per_minute

        core = CampaignStates(settings.core).core()
        if not isinstance(core, SteppingCore):
            raise InputError("only the primitive equations have a ladder", where="forecasts.core")
        cores = len(os.sched_getaffinity(0))
        evaluation.comparison = compare_with_core(
            forecaster, core, store, test, tuple(settings.truncations), steps=settings.compared_steps,
            requests=settings.compared, cores=cores, batch_sizes=tuple(settings.compared_batches),
        )  # fmt: skip
        evaluation.comparison.write(run_dir)
        state = store.read(np.array([test[0]]), 1)[0, 0]
        evaluation.speed = {b: years_per_minute(forecaster, core, state, b) for b in settings.batches}
    write_page(evaluation, run_dir / PAGE)
    return evaluation, _metrics(evaluation) | apart


def _apart(main: Any, protocol: Protocol, learned: ReferenceStates, members: int) -> dict[str, float]:
    """Errors on the states that were not learned from, if the training learned from some of the scored states."""
    if learned.free is None or not len(protocol.store.starts(main.history + protocol.steps, learned.free)):
        return {}
    several = {"forecast": members} if members > 1 else {}
    rest = replace(protocol, part=learned.free)
    metrics = plain(score({"forecast": main}, rest, learned.climatology, members=several), "forecast", UNSEEN)
    return {k: v for k, v in metrics.items() if "/rmse/" in k}


def _reading(source: str, store: WindowStore, learned: ReferenceStates) -> Reading:
    """The reading of the windows: which states are forecast, and notes on the references."""
    low, high = learned.test
    layout = store.layout
    left_out = {"outside of the part that is forecast": len(store) - (high - low)} if high - low < len(store) else {}
    return Reading(
        source, "windows", "states", len(store), high - low,
        {"channels": ", ".join(c.label for c in layout.channels), "step": f"{layout.step_hours:g} h"},
        left_out, assumed=tuple(learned.notes),
    )  # fmt: skip


def _shown(labels: list[str], store: WindowStore) -> list[int]:
    """Channels with figures: those in `labels`, by default a high, a middle and a low level of each variable."""
    names = [c.label for c in store.layout.channels]
    strange = [name for name in labels if name not in names]
    if strange:
        raise InputError(
            f"no channel {strange[0]!r}", where="forecasts.channels", remedy=f"There are {', '.join(names)}"
        )
    if labels:
        return [names.index(name) for name in labels]
    positions: list[int] = []
    for variable in store.layout.variables:
        channels = store.layout.index(variable)
        positions += (
            sorted({channels[len(channels) // 4], channels[len(channels) // 2], channels[-1]})
            if len(channels) > 3
            else channels
        )
    return positions


def _write_scores(scores: xr.Dataset, run_dir: Path) -> None:
    """Write `scores.zarr`, and `scores.json` with the same numbers."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with atomic_directory(run_dir / "scores.zarr") as temporary:
        scores.to_zarr(temporary, mode="w", consolidated=False, zarr_format=2)
    hours = forecast_figures.lead_hours(scores)
    flat = {}
    for name, array in scores.data_vars.items():
        if "system" not in array.dims:
            continue
        for system in scores["system"].values:
            values = array.sel(system=system)
            values = values.dropna("channel", how="all").dropna("region", how="all")
            if not values.size or not np.isfinite(values.values).all():
                continue
            flat[f"{system}/{name}"] = {
                str(region): {
                    str(c): dict(
                        zip(
                            [f"{h:g}h" for h in hours],
                            map(float, values.sel(region=region, channel=c).values),
                            strict=True,
                        )
                    )
                    for c in values["channel"].values
                }
                for region in values["region"].values
            }
    notes = list(scores.attrs.get("notes", ()))
    write_json(run_dir / "scores.json", {"forecasts": int(scores.attrs["forecasts"]), "notes": notes, "scores": flat})


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    metrics = plain(evaluation.scores, "forecast", "forecast")
    if EXTERNAL in evaluation.scores["system"].values:
        metrics |= plain(evaluation.scores, EXTERNAL, EXTERNAL)
    metrics = {k: v for k, v in metrics.items() if "/rmse/" in k}
    for system, head in (("forecast", "beaten"), ("regressed", "beaten_regressed")):
        if system in evaluation.scores["system"].values:
            for name, (wins, total) in count_wins(evaluation.scores, system).items():
                metrics[f"{head}/{name}"] = wins / total
    metrics |= {f"beaten_for_certain/{n}": w / t for n, (w, t) in count_certain(evaluation.scores).items()}
    metrics |= ensemble_metrics(evaluation.scores)
    metrics |= {f"external/{k}": v for k, v in ensemble_metrics(evaluation.scores, EXTERNAL).items()}
    run = evaluation.long
    if run is not None:
        metrics["long/days"] = run.days if run.left is None else run.left
        metrics["long/runs"] = float(len(run.ends))
        metrics["long/stable"] = run.stayed / len(run.ends)
        for head, climate in (("long", run.climate), ("long_held", run.unseen)):
            if climate is None:
                continue
            weights = evaluation.layout.grid.weights[:, 0]
            for variable in evaluation.layout.variables:
                section = climate.section_off(run.truth, weights, evaluation.layout.index(variable))
                errors = {f"{head}/{variable}/{k}_off": abs(v) for k, v in section.items()}
                metrics |= {k: v for k, v in errors.items() if np.isfinite(v)}
            for key, values in climate.off(run.truth, weights).items():
                for variable in evaluation.layout.variables:
                    sizes = np.abs(values[evaluation.layout.index(variable)])
                    if np.isfinite(sizes).all():
                        metrics[f"{head}/{variable}/{key}_off"] = float(sizes.mean())
                        metrics[f"{head}/{variable}/{key}_off_most"] = float(sizes.max())
    for batch, (ours, theirs) in evaluation.speed.items():
        metrics[f"speed/{batch}/forecast_years_per_minute"] = ours
        metrics[f"speed/{batch}/core_years_per_minute"] = theirs
    metrics |= {f"bands/{k}": v for k, v in evaluation.band_coverage.items()}
    return metrics
