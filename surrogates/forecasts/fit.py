"""Train a `ForecastSurrogate`: usual states and scales, networks, and adjustment of their climate."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float

from data.errors import InputError
from data.processes.processor import tree_seconds
from data.sphere.statistics import Moments
from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore
from surrogates.forecasts.adjustment import adjust_climate
from surrogates.forecasts.batches import WindowBatches
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.linear_step import Anomalies, LinearStep, fit_linear_step, left_over
from surrogates.forecasts.loss import ForecastLoss
from surrogates.forecasts.model import ForecastModel, ForecastScale
from surrogates.forecasts.networks.harmonic_statistics import gain_units
from surrogates.forecasts.networks.harmonics import Harmonics
from surrogates.forecasts.request_checks import times_learned
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.devices import data_mesh
from surrogates.learning.loop import FitResult, TrainConfig, fit

Part = tuple[int, int]
#: Days that a training has to cover for networks to see the time of year.
YEAR = 360


def usual_states(
    store: WindowStore, part: Part, kind: str
) -> tuple[Float[np.ndarray, "hour latitude longitude channel"], tuple[int, ...]]:
    """Usual states, from which anomalies are differences, and the hours of the day that they belong to.

    Raises:
        InputError: usual states by hour are asked for, and the states have no dates.
    """
    shape = (*store.layout.grid.shape, len(store.layout.channels))
    if kind in ("none", "day"):
        mean = np.array(store.statistics_of(part).mean, np.float32)
        return np.broadcast_to(mean, (1, *shape)).copy(), (0,)
    if kind == "hour" and not store.layout.calendar:
        raise InputError("the states have no dates", where="model.usual", remedy="Set it to mean")
    hours: list[int] = [0]
    of = np.zeros(part[1] - part[0], int)
    if kind == "hour":
        stamp = store.times[part[0] : part[1]].astype("datetime64[h]").astype(int) % 24
        hours = sorted(set(stamp.tolist()))
        of = np.searchsorted(hours, stamp)
    total, count = np.zeros((len(hours), *shape)), np.zeros(len(hours))
    for rows, states in store.blocks(part):
        for index, state in zip(of[rows.start - part[0] : rows.stop - part[0]], states, strict=True):
            total[index] += state
            count[index] += 1
    return (total / count[:, None, None, None]).astype(np.float32), tuple(hours)


def scale_of(
    store: WindowStore, part: Part, usual: np.ndarray, hours: tuple[int, ...], config: ForecastConfig
) -> ForecastScale:
    """Scales of anomalies and of their increments in a step.

    Raises:
        InputError: anomalies are differences from the day before, and a day is no whole number of steps.
    """
    moments = Moments(len(store.layout.channels))
    span = (store.times[part[1] - 1] - store.times[part[0]]) / np.timedelta64(1, "D")
    seasons = bool(store.layout.calendar and span >= YEAR)
    if config.usual == "day":
        day = round(24 / store.layout.step_hours)
        if day < 1 or abs(day * store.layout.step_hours - 24) > 1e-6:
            raise InputError(
                f"steps of {store.layout.step_hours:g} h make no day", where="model.usual", remedy="Set it to mean"
            )
        weights, last = config.day_weights, -2
        for start in store.starts(day * len(weights) + 1, part):
            if start != last + 1:
                moments.new_segment()
            window = store.read(np.array([start]), day * len(weights) + 1)[0]
            before = sum(w * window[-1 - day * (k + 1)] for k, w in enumerate(weights))
            moments.add(window[-1:] - before)
            last = start
        statistics = moments.statistics()
        return ForecastScale(statistics.std, statistics.increment_std, (0,), day, weights, seasons)
    begins = {a for a, _ in store.segments}
    for rows, states in store.blocks(part):
        if rows.start in begins:
            moments.new_segment()
        stamp = store.times[rows].astype("datetime64[h]").astype(int) % 24
        at = np.searchsorted(hours, stamp) if len(hours) > 1 else np.zeros(len(states), int)
        moments.add(states - usual[at])
    statistics = moments.statistics()
    return ForecastScale(statistics.std, statistics.increment_std, hours, seasons=seasons)


def slow_parts(
    store: WindowStore, part: Part, usual: Float[np.ndarray, "hour latitude longitude channel"], hours: tuple[int, ...]
) -> tuple[Float[np.ndarray, "latitude channel"], Float[np.ndarray, " channel"]]:
    """Root mean square increment of zonal means in a step, and the share of an area mean's anomaly that a step keeps.

    The share is the regression coefficient of the area mean of an anomaly on that of the previous state, within 0 and
    1.
    """
    weights = store.layout.grid.weights
    area = weights[:, 0] / weights[:, 0].sum()
    squares = np.zeros((len(area), len(store.layout.channels)))
    products, variances = np.zeros((2, squares.shape[1]))
    steps = 0
    begins = {a for a, _ in store.segments}
    last = np.zeros((0, *squares.shape))
    for rows, states in store.blocks(part):
        stamp = store.times[rows].astype("datetime64[h]").astype(int) % 24
        at = np.searchsorted(hours, stamp) if len(hours) > 1 else np.zeros(len(states), int)
        zonal = (states - usual[at]).mean(axis=2, dtype=np.float64)
        if rows.start not in begins:
            zonal = np.concatenate([last, zonal])
        mean = np.einsum("tlc,l->tc", zonal, area)
        squares += np.square(np.diff(zonal, axis=0)).sum(axis=0)
        products += (mean[1:] * mean[:-1]).sum(axis=0)
        variances += np.square(mean[:-1]).sum(axis=0)
        steps += len(zonal) - 1
        last = zonal[-1:]
    size = np.sqrt(squares / max(steps, 1))
    typical = np.sqrt(np.mean(size**2, axis=0))
    # Where a zonal mean does not change, the unit of its error is a small share of the typical one.
    return np.maximum(size, np.where(typical > 0, 1e-3 * typical, 1.0)), np.clip(
        products / np.where(variances > 0, variances, 1.0), 0.0, 1.0
    )


def fit_forecast_surrogate(
    store: WindowStore,
    train: Part,
    valid: Part | None,
    config: ForecastConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    also: tuple[WindowStore, ...] = (),
    weights: tuple[float, ...] = (),
    init: ForecastSurrogate | None = None,
    on: str | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[ForecastSurrogate, FitResult]:
    """Train a forecaster on a record of states; its bands are calibrated afterwards.

    Args:
        store: the states.
        train, valid: [start, stop) of the states of each part; windows lie within them.
        config: settings, networks and loss.
        training: training recipe.
        run_dir: directory of checkpoints and history; with the same directory a run is resumed.
        also: further windows to learn from. Usual states, scales and the range of the climate come from `train` alone,
            because the further states may be ones that the simulator itself never reaches.
        weights: weight in the loss of the windows of the record and of each of `also`; 1 where empty.
        init: a forecaster whose weights and scales training starts from, such as for longer rollouts; the new one
            stands on the same linear step.
        on: the linear step on which it is to stand, one of `linear_step.NAMES`; None for none. Its fit is part of the
            processor time.
        mesh: devices that share each batch; None for all of them.
        progress: whether to show a progress bar.

    Raises:
        InputError: a part has no window of the needed length, or a setting does not suit the states.
    """
    layout = store.layout
    for other in also:
        layout.refuse_other_states(other.layout, "data.also", "those of data.file")
    if config.keep_mass and "surface_pressure" not in layout.variables:
        raise InputError("no surface_pressure in the states", where="model.keep_mass", remedy="Set it to false")
    usual, hours = usual_states(store, train, config.usual)
    if config.mirror:
        _refuse_unlike_halves(store)
        usual = (usual + layout.mirror(usual)) / 2
    _refuse_unknown(config, layout, on)
    statistics, scale = store.statistics_of(train), scale_of(store, train, usual, hours, config)
    if config.diagnostic:
        # A step begins from nothing there, so that the size of what networks learn is that of the anomaly.
        alone = {k for name in config.diagnostic for k in layout.index(name)}
        sizes = [s if k in alone else i for k, (s, i) in enumerate(zip(scale.std, scale.increment_std, strict=True))]
        scale = replace(scale, increment_std=tuple(sizes))
    zonal_unit = None
    if config.loss.zonal_weight or config.keep_means:
        zonal_unit, kept = slow_parts(store, train, usual, hours)
        if config.mirror:
            zonal_unit = np.sqrt((zonal_unit**2 + zonal_unit[::-1] ** 2) / 2)
        scale = replace(scale, mean_kept=tuple(kept.tolist())) if config.keep_means else scale
    if init is not None:
        layout.refuse_other_states(init.layout, "tune.surrogate", "those of data.file")
        if init.facts.config.climate.days:
            raise InputError(
                "its climate is adjusted", where="tune.surrogate", remedy="Give the forecaster before the adjustment"
            )
        scale = replace(init.facts.scale, mean_kept=scale.mean_kept)
    first, began, processor = None, time.perf_counter(), tree_seconds()
    if on is not None and init is None:
        first, scale = stand(on, Anomalies(store, train, usual, hours, scale.seasons), scale, config)
    extra = time.perf_counter() - began, tree_seconds() - processor
    spectral_unit = None
    if config.loss.spectral_weight and config.truncation is not None:
        harmonics = Harmonics(layout.grid, config.truncation)
        spectral_unit = gain_units(harmonics, store, train, np.array(scale.increment_std))
    try:
        loss = ForecastLoss.of(
            config.loss, layout, zonal_unit, spectral_unit, noisy=config.noise_dims > 0, forcing=config.forcing
        )
    except ValueError as error:
        raise InputError(str(error), where="model.loss") from error
    # The climate is adjusted once the networks are trained, so training begins without the adjustment.
    plain = replace(config, climate=replace(config.climate, days=0.0))
    stands = init.facts.first if init is not None else None if first is None else first.facts
    facts = ForecastFacts(plain, layout, scale, store.fingerprint, statistics.low, statistics.high, first=stands)
    if layout.calendar:
        hours_of_day, months = times_learned(store.times[train[0] : train[1]])
        facts = replace(facts, times_of_day=hours_of_day, months=months)
    static = store.static
    spread = static.std(axis=(0, 1)) if static.shape[-1] else np.zeros(0)
    static = (static - static.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1.0) if static.shape[-1] else static
    mesh = mesh or data_mesh()
    size = -(-training.batch_size // mesh.size) * mesh.size
    frames = config.history + facts.scale.before
    unroll = config.loss.unroll
    learn = WindowBatches(
        store, train, size, frames, unroll, training.seed, mirror=config.mirror, also=also, weights=weights
    )
    # Windows that overlap would add little to a validation.
    check = None if valid is None else WindowBatches(store, valid, size, frames, unroll, None, unroll)
    for batches, name in ((learn, "training"), (check, "validation")):
        if batches is not None and not len(batches.starts):
            raise InputError(
                f"the {name} part has no {frames + unroll} states that follow one another",
                where="data.parts",
                remedy="Give it more, or lower model.history or model.loss.unroll",
            )
    model = facts.model(usual, static.astype(np.float32), training.seed)
    if init is not None:
        _take_over(model, init)
    if first is not None and model.first is not None:
        model.first.take(first)
    result = fit(model, loss, learn, check, training, run_dir, mesh=mesh, progress=progress)
    result = replace(result, seconds=result.seconds + extra[0], core_seconds=result.core_seconds + extra[1])
    assert isinstance(result.model, ForecastModel)
    forecaster = ForecastSurrogate(result.model, facts)
    if config.climate.days:
        adjusted = adjust_climate(
            forecaster, store, train, config.climate.days, config.climate.runs, run_dir, seed=training.seed,
            progress=progress,
        )  # fmt: skip
        forecaster, result = (
            adjusted.forecaster,
            replace(
                result,
                seconds=result.seconds + adjusted.seconds,
                core_seconds=result.core_seconds + adjusted.core_seconds,
            ),
        )
    return forecaster, result


def stand(
    name: str, anomalies: Anomalies, scale: ForecastScale, config: ForecastConfig
) -> tuple[LinearStep, ForecastScale]:
    """Fit the linear step on which a forecaster is to stand, and the scale of what it leaves.

    Raises:
        InputError: other settings say what a step begins from.
    """
    if config.usual == "day":
        raise InputError("a linear step needs usual states of the training", where="on", remedy="Set on=null")
    if config.damping != 1:
        raise InputError(
            f"{name} has a damping of its own", where="model.damping", remedy="Leave it out, or set on=null"
        )
    step = fit_linear_step(name, anomalies, config.history)
    left = left_over(step, anomalies, config.history, len(scale.std))
    return step, replace(scale, increment_std=left)


def _refuse_unknown(config: ForecastConfig, layout: WeatherLayout, on: str | None) -> None:
    """Refuse forcings and diagnostic variables that are not among the states, or leave nothing to forecast.

    Raises:
        InputError: names the variable.
    """
    for key, names in (("forcing", config.forcing), ("diagnostic", config.diagnostic)):
        if strange := [name for name in names if name not in layout.variables]:
            raise InputError(
                f"no variable {strange[0]!r} in the states", where=f"model.{key}",
                remedy=f"There are {', '.join(layout.variables)}",
            )  # fmt: skip
    if not {*layout.variables} - {*config.forcing, *config.diagnostic}:
        raise InputError(
            "no variable is left that is forecast and fed back", where="model.forcing", remedy="Leave out some"
        )
    if config.diagnostic and on is not None:
        raise InputError(
            "a linear step sees all variables, diagnostic ones too", where="on", remedy="Set on=null, or no diagnostic"
        )


def _refuse_unlike_halves(store: WindowStore) -> None:
    """Refuse states that do not allow mirroring at the equator.

    Raises:
        InputError: the grid, a variable or a static field is not symmetric, or there are seasons.
    """
    remedy = "Set it to false"
    try:
        store.layout.mirror(np.zeros((*store.layout.grid.shape, len(store.layout.channels)), np.float32))
    except ValueError as error:
        raise InputError(str(error), where="model.mirror", remedy=remedy) from error
    static = store.static
    apart = np.abs(static - static[::-1]).max(axis=(0, 1)) > 1e-3 * np.abs(static).max(axis=(0, 1))
    if apart.any():
        name = store.layout.static[int(apart.argmax())]
        raise InputError(f"{name} tells the hemispheres apart", where="model.mirror", remedy=remedy)
    if store.layout.calendar:
        raise InputError(
            "the states have dates, and seasons tell the hemispheres apart", where="model.mirror", remedy=remedy
        )


def _take_over(model: ForecastModel, init: ForecastSurrogate) -> None:
    """Copy the weights, usual states and static fields of a forecaster into a model.

    Raises:
        InputError: the networks differ.
    """
    _, state = nnx.split(model)
    fresh, trained = nnx.to_pure_dict(state), nnx.to_pure_dict(nnx.state(init.model))
    # The blend belongs to the trained forecasts; the new ones get one of their own.
    trained.pop("blend", None)
    shapes = [
        {jax.tree_util.keystr(k): x.shape for k, x in jax.tree_util.tree_leaves_with_path(v)} for v in (fresh, trained)
    ]
    if shapes[0] != shapes[1]:
        raise InputError("its network is another", where="tune.surrogate", remedy="Give the settings of its training")
    nnx.replace_by_pure_dict(state, trained)
    nnx.update(model, state)
