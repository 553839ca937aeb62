"""Score a forecaster as WeatherBench does, beside its references, and write scores and the page."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from omegaconf import MISSING, DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.errors import InputError
from data.files import write_json
from data.windows import WindowStore
from experiments.reporting.style import Drawing
from experiments.stage import build, existing_file
from experiments.weather import figures
from experiments.weather.report import NAMES, OURS, Evaluation, beaten, write_page
from experiments.weather.scores import Protocol, ensemble_metrics, plain, score
from experiments.weather.stability import long_run
from surrogates.weather.forecaster import Forecaster
from surrogates.weather.metrics import zonal_spectrum
from surrogates.weather.references import (
    Forecasts,
    LinearAutoregression,
    LinearInverseModel,
    Persistence,
    Regressed,
    Usually,
)
from surrogates.weather.seeps import climates

Part = tuple[int, int]
#: Forecasts that maps, spectra and bands are taken of at most.
MAPPED = 40
PAGE = "forecast.html"


@dataclass(frozen=True)
class ForecastEvaluation:
    """The keys of `forecasts`.

    Attributes:
        file: windows with the truth.
        train, valid, test: [start, stop) of the states of each part; None: those of the surrogate's training.
        steps: leads; None for those of the surrogate.
        starts: forecasts, spread evenly over the test part; None for all.
        members: of the ensemble, for a forecaster that sees noise.
        regressed: also score the forecast drawn towards climatology, as far as the validation part says.
        references: of `REFERENCES`.
        channels: labels of the channels with figures of their own; empty for some.
        long_days: of long rollouts; 0 for none.
        long_starts: how many of them, from states spread evenly over the test part.
        core: the store of the campaign that made the states, for the comparison with coarser truncations.
        truncations: of that comparison.
        compared_steps: leads of that comparison.
        compared: forecasts of that comparison.
        compared_batches: states at a time in it.
        batches: states at a time for the simulated years a minute.
    """

    file: str = MISSING
    train: list[int] | None = None
    valid: list[int] | None = None
    test: list[int] | None = None
    steps: int | None = None
    starts: int | None = 200
    members: int = 1
    regressed: bool = True
    references: list[str] = field(default_factory=lambda: ["persistence", "climatology", "linear_inverse_model"])
    channels: list[str] = field(default_factory=list)
    long_days: float = 0.0
    long_starts: int = 1
    core: str | None = None
    truncations: list[int] = field(default_factory=list)
    compared_steps: int = 5
    compared: int = 16
    compared_batches: list[int] = field(default_factory=lambda: [1, 8])
    batches: list[int] = field(default_factory=lambda: [1, 16])


def references(
    names: list[str], store: WindowStore, train: Part, valid: Part, steps: int, history: int
) -> dict[str, Forecasts]:
    """What the forecast is held against.

    Raises:
        InputError: a name is unknown.
    """
    strange = [n for n in names if n not in NAMES or n in OURS]
    if strange:
        raise InputError(
            f"no reference {strange[0]!r}", where="forecasts.references",
            remedy=f"There are {', '.join(n for n in NAMES if n not in OURS)}",
        )  # fmt: skip
    climatology = store.climatology(train)
    made: dict[str, Forecasts] = {}
    for name in names:
        if name == "persistence":
            made[name] = Persistence()
        elif name == "climatology":
            made[name] = Usually(store.layout, climatology)
        elif name == "linear_inverse_model":
            made[name] = LinearInverseModel.fit(store, train, valid, climatology, steps)
        else:
            made[name] = LinearAutoregression.fit(store, train, valid, climatology, steps, max(2, history))
    return made


def evaluate_forecaster(
    forecaster: Forecaster, directory: Path, node: DictConfig, run_dir: Path
) -> tuple[Evaluation, dict[str, float]]:
    """Score, and write `scores.zarr`, `scores.json` and the page.

    Args:
        forecaster: what is scored.
        directory: where it was saved, beside the `split.json` of its training.
        node: see `ForecastEvaluation`.
        run_dir: gets the files.

    Raises:
        InputError: parts are not known, or the states are not those of its layout.
    """
    settings = build(ForecastEvaluation, node, where="forecasts")
    store = WindowStore.open(existing_file(settings.file, "forecasts.file"))
    if store.layout.channels != forecaster.layout.channels or store.layout.grid != forecaster.layout.grid:
        raise InputError("its channels or grid are not those of the surrogate", where=settings.file)
    train, valid, test = (_part(name, settings, directory) for name in ("train", "valid", "test"))
    steps = settings.steps or forecaster.facts.config.steps
    protocol = Protocol(store, test, steps, settings.starts)
    climatology = store.climatology(train)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        systems: dict[str, Any] = {"forecast": forecaster}
        if settings.regressed:
            systems["regressed"] = Regressed.fit(forecaster, store, valid, climatology, steps)
        systems |= references(settings.references, store, train, valid, steps, forecaster.history)
        longest = max(s.history for s in systems.values())
        batches = -(-len(protocol.starts(longest)) // protocol.batch)
        task = bar.add_task("forecasts", total=len(systems) * batches)
        members = {"forecast": settings.members} if settings.members > 1 else None
        wet = climates(store.layout, (states for _, states in store.blocks(train)))
        found = score(
            systems, protocol, climatology, members=members, precipitation=wet, advance=lambda: bar.advance(task)
        )
    found.attrs |= {"surrogate": forecaster.fingerprint, "states": store.fingerprint}
    _write_scores(found, run_dir)
    shown = _shown(settings.channels, store)
    evaluation = Evaluation(store.layout, found, shown)
    _draw(evaluation, forecaster, protocol)
    if settings.long_days:
        first = protocol.starts(forecaster.history)
        first = first[np.unique(np.linspace(0, len(first) - 1, max(1, settings.long_starts)).round().astype(int))]
        run = evaluation.long = long_run(forecaster, store, first.tolist(), settings.long_days, train, test)
        if run.climate is not None:
            for k in shown[:4]:
                channel = store.layout.channels[k]
                label = f"{figures.title(channel, store.layout)} ({figures.units(channel)})"
                means = run.climate.mean[:, k], run.truth.mean[:, k]
                evaluation.zonal.append(figures.zonal_means(*means, store.layout.grid, label, f"zonal-{k}"))
    if settings.core is not None:
        from experiments.weather.costs import compare_with_core, years_per_minute
        from experiments.windows import Campaign
        from simulators.weather.dycore import DynamicalCore

        core = Campaign(settings.core).core()
        if not isinstance(core, DynamicalCore):
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
    return evaluation, _metrics(evaluation)


def _part(name: str, settings: ForecastEvaluation, directory: Path) -> Part:
    given = getattr(settings, name)
    if given is not None:
        return int(given[0]), int(given[1])
    return part_of_training(directory, name, f"forecasts.{name}")


def part_of_training(directory: Path, name: str, key: str) -> Part:
    """[start, stop) of a part of the states that a forecaster was trained on.

    Args:
        directory: where it was saved, in or beside the `split.json` of its training.
        name: of the part.
        key: of the configuration that would say it too.

    Raises:
        InputError: there is no `split.json`.
    """
    for folder in (directory, directory.parent):
        if (folder / "split.json").is_file():
            low, high = json.loads((folder / "split.json").read_text())[name]
            return int(low), int(high)
    raise InputError("which states it was trained on is not known", where=key, remedy="Give [start,stop]")


def _shown(labels: list[str], store: WindowStore) -> list[int]:
    """Channels with figures: those asked for, else one in the middle, one high and one low of each variable."""
    known = [c.label for c in store.layout.channels]
    strange = [name for name in labels if name not in known]
    if strange:
        raise InputError(
            f"no channel {strange[0]!r}", where="forecasts.channels", remedy=f"There are {', '.join(known)}"
        )
    if labels:
        return [known.index(name) for name in labels]
    found: list[int] = []
    for variable in store.layout.variables:
        own = store.layout.index(variable)
        found += sorted({own[len(own) // 4], own[len(own) // 2], own[-1]}) if len(own) > 3 else own
    return found


def _draw(evaluation: Evaluation, forecaster: Forecaster, protocol: Protocol) -> None:
    """Maps, spectra, bands and the animation, from some of the forecasts."""
    store, steps = protocol.store, protocol.steps
    layout, grid = store.layout, store.layout.grid
    starts = protocol.starts(forecaster.history)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(MAPPED, len(starts))).round().astype(int))]
    states = store.read(starts - forecaster.history + 1, forecaster.history + steps)
    past, truth = states[:, : forecaster.history], states[:, forecaster.history :]
    given = np.concatenate(
        [
            forecaster.forecast_arrays(past[a : a + 8], store.times[starts[a : a + 8]], steps)[:, 0]
            for a in range(0, len(starts), 8)
        ]
    )
    hours = figures.lead_hours(evaluation.scores)
    said_as = figures.lead_words(hours)
    middle = steps // 2
    for k in evaluation.shown[:4]:
        channel = layout.channels[k]
        words, measure = figures.title(channel, layout), figures.units(channel)
        off = np.sqrt(((given[:, middle, ..., k] - truth[:, middle, ..., k]) ** 2).mean(axis=0))
        drawing = figures.error_map(off, grid, measure, f"map-{k}")
        drawing = Drawing(drawing.name, f"{words.capitalize()}, lead {said_as[middle]}", drawing.xml)
        evaluation.maps.append(drawing)
        if grid.periodic:
            leads = sorted({0, middle, steps - 1})
            said = {f"forecast, lead {said_as[i]}": zonal_spectrum(given[:, i], grid).mean(axis=0)[:, k] for i in leads}
            came = zonal_spectrum(truth.reshape(-1, *truth.shape[2:]), grid).mean(axis=0)[:, k]
            drawing = figures.spectra(came, said, measure, f"spectra-{k}")
            evaluation.spectra.append(Drawing(drawing.name, words.capitalize(), drawing.xml))
    k = evaluation.shown[0]
    frames = np.unique(np.linspace(0, steps - 1, min(steps, 12)).round().astype(int))
    evaluation.animation = figures.animation(
        given[0, frames, ..., k], truth[0, frames, ..., k], grid, [said_as[i] for i in frames],
        figures.units(layout.channels[k]), figures.title(layout.channels[k], layout).capitalize(),
    )  # fmt: skip
    bands = forecaster.facts.bands
    if bands is not None and len(bands.sigma) >= steps:
        half = bands.half_width(steps)[None, :, None, None]
        inside = (np.abs(given - truth) <= half) * grid.weights[..., None]
        share = inside.mean(axis=(2, 3)) >= (1 - bands.alpha) * grid.weights.mean()
        for i in sorted({0, middle, steps - 1}):
            evaluation.bands_held = {**evaluation.bands_held, said_as[i]: float(share[:, i].mean())}


def _write_scores(found: xr.Dataset, run_dir: Path) -> None:
    """`scores.zarr`, and `scores.json` with the same numbers."""
    run_dir.mkdir(parents=True, exist_ok=True)
    found.to_zarr(run_dir / "scores.zarr", mode="w", consolidated=False, zarr_format=2)
    hours = figures.lead_hours(found)
    flat = {}
    for name, array in found.data_vars.items():
        if "system" not in array.dims:
            continue
        for system in found["system"].values:
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
    write_json(run_dir / "scores.json", {"forecasts": int(found.attrs["forecasts"]), "scores": flat})


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    metrics = plain(evaluation.scores, "forecast", "forecast")
    metrics = {k: v for k, v in metrics.items() if "/rmse/" in k}
    for system, head in (("forecast", "beaten"), ("regressed", "beaten_regressed")):
        if system in evaluation.scores["system"].values:
            for name, (wins, total) in beaten(evaluation.scores, system).items():
                metrics[f"{head}/{name}"] = wins / total
    metrics |= ensemble_metrics(evaluation.scores)
    run = evaluation.long
    if run is not None:
        metrics["long/days"] = run.days if run.left is None else run.left
        metrics["long/runs"] = float(len(run.ends))
        metrics["long/stable"] = run.stayed / len(run.ends)
        for head, climate in (("long", run.climate), ("long_held", run.held)):
            if climate is None:
                continue
            weights = evaluation.layout.grid.weights[:, 0]
            for variable in evaluation.layout.variables:
                section = climate.section_off(run.truth, weights, evaluation.layout.index(variable))
                found = {f"{head}/{variable}/{k}_off": abs(v) for k, v in section.items()}
                metrics |= {k: v for k, v in found.items() if np.isfinite(v)}
            for key, values in climate.off(run.truth, weights).items():
                for variable in evaluation.layout.variables:
                    own = np.abs(values[evaluation.layout.index(variable)])
                    if np.isfinite(own).all():
                        metrics[f"{head}/{variable}/{key}_off"] = float(own.mean())
                        metrics[f"{head}/{variable}/{key}_off_most"] = float(own.max())
    for batch, (ours, theirs) in evaluation.speed.items():
        metrics[f"speed/{batch}/forecast_years_per_minute"] = ours
        metrics[f"speed/{batch}/core_years_per_minute"] = theirs
    metrics |= {f"bands/{k}": v for k, v in evaluation.bands_held.items()}
    return metrics
