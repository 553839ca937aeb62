"""Adjust a trained forecaster so that its free runs keep the climate of the states that it learned from.

Small errors of single steps add up in a long run: zonal means drift, and waves of some scales carry too much or too
little energy. Forecasts of a few days hardly show it; free runs do. Free runs are therefore stepped side by side, and
statistics over all of them control two corrections that follow each step. The first adds a constant to zonal means, as
the flux correction of coupled models does (Sausen, Barthel and Hasselmann 1988, doi:10.1007/BF01053472). The second is
a growth rate of the spherical harmonics of anomalies by order and degree; where it is negative it damps, as the
scale-selective diffusion of spectral models does. A harmonic that is stronger than its mean is damped more and a weaker
one less, each by itself and all waves together (the saturation of Landau and Stuart; Stuart 1960,
doi:10.1017/S002211206000116X), so that slow growth in the network saturates.

The constant and the growth rate are updated by the error of their own statistic (stochastic approximation; Robbins and
Monro 1951, doi:10.1214/aoms/1177729586) and averaged over the last third of the runs (Polyak and Juditsky 1992,
doi:10.1137/0330046). The networks do not change, and what a step adds to a state still depends on that state alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.errors import InputError
from data.json_files import reading
from data.plain import from_plain
from data.processes.processor import tree_seconds
from data.sphere.weather_layout import VARIABLES
from data.sphere.window_store import WindowStore
from data.terminal import progress_bar
from simulators.precision import jit_float32
from surrogates.forecasts.facts import ClimateSettings, ForecastFacts
from surrogates.forecasts.model import ForecastModel, rollout
from surrogates.forecasts.networks.harmonic_statistics import (
    FAINTEST,
    average_pairs,
    coefficient_mask,
    gain_energy,
    mean_energy,
)
from surrogates.forecasts.networks.layers import Usual
from surrogates.forecasts.sun import clock
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.checkpoints import NOTE, RESTORE, load_arrays, read_note, save_arrays
from surrogates.learning.devices import is_first
from surrogates.learning.interrupt import BrokenOff, Interrupt

#: Time T of each integral controller: an error of 1 for a day changes what a day adds by 1 / T^2. T is MEMORIES times
#: the memory of the controlled quantity, from the correlation of successive states, within these bounds in days: a
#: shorter T would oscillate, a longer one would not converge. In the first third of the runs the controller of zonal
#: means has a proportional part too, 2 / T.
MEMORIES, LEAST_DAYS, MOST_DAYS = 3.0, 10.0, 40.0
#: Damping of a harmonic with twice its mean energy, as a natural logarithm: over its memory, and at most in a day.
SATURATION, MOST_SATURATION = 0.3, 0.02
#: Rates of the controllers in the second and in the last third of the runs, relative to the first.
SLOWER = 0.4, 0.1
#: Bounds of the growth of a harmonic in a step, as a natural logarithm, and of the relative error of its energy.
LEAST_GROWTH, MOST_GROWTH, MOST_ERROR = -2.0, 0.2, 2.0
#: How far beyond the extremes of the training data a run may get before it is restarted, in units of their range.
MARGIN = 0.25
#: Steps that are compiled as one, and seconds between checkpoints.
CHUNK, SAVE_EVERY_S = 20, 60.0


@dataclass(frozen=True)
class SpectralClimate:
    """Spectral statistics of anomalies, in units of the increment of a step.

    Attributes:
        zonal: mean of the coefficients of order 0.
        energy: mean square of the coefficients by zonal wavenumber (see `average_pairs`), for order 0 about the mean.
    """

    zonal: Float[np.ndarray, "degree channel"]
    energy: Float[np.ndarray, "order degree channel"]

    @staticmethod
    def of(model: ForecastModel, store: WindowStore, part: tuple[int, int]) -> SpectralClimate:
        """Statistics of the states of a part of a store."""
        measure = jit_float32(lambda states, days, seconds: _normalised_coefficients(model, states, days, seconds))
        zonal, energy, count = np.zeros(()), np.zeros(()), 0
        for rows, states in store.blocks(part):
            z = np.asarray(measure(jnp.asarray(states), *map(jnp.asarray, clock(store.times[rows]))), np.float64)
            zonal = zonal + z[:, 0].sum(axis=0)
            energy = energy + average_pairs(z**2).sum(axis=0)
            count += len(states)
        zonal, energy = zonal / count, energy / count
        energy[0] -= zonal**2
        return SpectralClimate(zonal, energy)


@dataclass(frozen=True)
class Adjusted:
    """A forecaster with an adjusted climate, and the cost of the adjustment.

    Attributes:
        forecaster: the adjusted forecaster.
        seconds: wall time of all sessions.
        core_seconds: processor time of all sessions.
        restarts: number of restarts of runs that had left the climatological range.
    """

    forecaster: ForecastSurrogate
    seconds: float
    core_seconds: float
    restarts: int


class _Carry(NamedTuple):
    past: Float[Array, "member run frame latitude longitude channel"]
    days: Array
    seconds: Array
    shift: Float[Array, "degree channel"]
    integral: Float[Array, "degree channel"]
    growth: Float[Array, "order degree channel"]
    shifts: Float[Array, "degree channel"]
    growths: Float[Array, "order degree channel"]
    restarts: Array


@dataclass(frozen=True)
class _Checkpoint:
    """The entries that a resumed adjustment reads from the note of its checkpoint."""

    identity: dict[str, Any]
    done: int
    seconds: float
    core_seconds: float = 0.0


class _Target(NamedTuple):
    zonal: Array
    energy: Array
    times: Float[Array, "order degree channel"]
    faint: Float[Array, " channel"]
    counts: Float[Array, "order degree channel"]
    low: Array
    high: Array


def adjust_climate(
    forecaster: ForecastSurrogate,
    store: WindowStore,
    part: tuple[int, int],
    days: float,
    runs: int,
    run_dir: Path | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Adjusted:
    """Adjust the climate of a forecaster in free runs; resumes from the checkpoint in `run_dir` if there is one.

    Args:
        forecaster: a trained forecaster with a truncation, not adjusted before.
        store: the states that it learned from.
        part: [start, stop) of the states that the runs begin from and whose climate is the target.
        days: length of the runs; the corrections converge in the first two thirds and are averaged over the last.
        runs: number of runs side by side.
        run_dir: gets `adjustment/`, a checkpoint, whose note counts the restarts.
        seed: seed of the noise of a forecaster that has noise.
        progress: whether to show a bar.

    Raises:
        InputError: the part is too short, runs leave the climatological range as soon as they begin, or the checkpoint
            was made with other settings.
        KeyboardInterrupt: Ctrl-C; raised after a checkpoint was written.
    """
    config = replace(forecaster.facts.config, climate=ClimateSettings(float(days), runs))
    unbanded = forecaster.with_facts(bands=None)
    starts = store.starts(unbanded.history, part)
    if len(starts) < runs:
        raise InputError(
            f"{len(starts)} states to begin from, {runs} runs", where="model.climate.runs", remedy="Ask for fewer"
        )
    starts = starts[np.linspace(0, len(starts) - 1, runs).round().astype(int)]
    model = replace(unbanded.facts, config=config).model()
    assert model.harmonics is not None
    _, state = nnx.split(model)
    fresh = nnx.to_pure_dict(state)
    merged = {**fresh, **nnx.to_pure_dict(nnx.state(unbanded.model))}
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, merged))
    nnx.update(model, state)
    facts = unbanded.facts
    truth = SpectralClimate.of(model, store, part)
    dt = model.layout.step_hours / 24
    gains = gain_energy(model.harmonics, store, part, np.array(model.scale.increment_std))
    target = _target(model, truth, gains, dt, facts)
    past = jnp.asarray(store.read(starts, unbanded.history))
    times = store.times[starts + unbanded.history - 1]
    carry = _begin(model, past, times)
    steps = max(1, round(days / dt / (3 * CHUNK))) * 3 * CHUNK
    identity = {"forecaster": unbanded.fingerprint, "steps": steps, "runs": runs, "seed": seed, "part": list(part)}
    identity["states"] = store.fingerprint
    done, before, core_before = 0, 0.0, 0.0
    folder = None if run_dir is None else run_dir / "adjustment"
    if folder is not None and folder.is_dir():
        note = read_note(folder)
        with reading(folder / NOTE, remedy=RESTORE):
            checkpoint = from_plain(
                _Checkpoint, {name: note[name] for name in (f.name for f in fields(_Checkpoint)) if name in note}
            )
        if checkpoint.identity != identity:
            raise InputError(
                "the adjustment here was made with other settings", where=str(folder),
                remedy="Give the same settings to resume it, or another run.dir",
            )  # fmt: skip
        carry = jax.tree.map(jnp.asarray, load_arrays(folder, carry))
        done, before, core_before = checkpoint.done, checkpoint.seconds, checkpoint.core_seconds
    graph, weights = nnx.split(model)
    first = (past, *map(jnp.asarray, clock(times)))
    advance = jit_float32(partial(_advance, graph, steps, dt), donate_argnums=3)
    key, began, saved, processor = jax.random.key(seed), time.perf_counter(), time.perf_counter(), tree_seconds()

    def spent() -> tuple[float, float]:
        return before + time.perf_counter() - began, core_before + tree_seconds() - processor

    def keep() -> None:
        if folder is not None and is_first():
            seconds, core_seconds = spent()
            counts = {"done": done, "seconds": seconds, "core_seconds": core_seconds, "restarts": int(carry.restarts)}
            save_arrays(folder, carry, {"identity": identity, **counts})

    show = progress and is_first()
    with progress_bar("adjusting the climate", steps, done=done, show=show) as bar, Interrupt() as interrupt:
        while done < steps:
            restarts = int(carry.restarts)
            carry = advance(weights, target, first, carry, jax.random.fold_in(key, done), done)
            done += CHUNK
            if int(carry.restarts) - restarts > runs * CHUNK / 2:
                raise InputError(
                    "the runs leave the climatological range at once", where="surrogate",
                    remedy="Train longer, or with model.loss.unroll above 1",
                )  # fmt: skip
            bar.update(done)
            if interrupt.asked:
                keep()
                raise BrokenOff
            if time.perf_counter() - saved > SAVE_EVERY_S:
                keep()
                saved = time.perf_counter()
    keep()
    last = steps // 3
    assert model.shift is not None
    assert model.growth is not None
    model.shift[...], model.growth[...] = carry.shifts / last, carry.growths / last
    adjusted = ForecastSurrogate(model, replace(facts, config=config))
    return Adjusted(adjusted, *spent(), int(carry.restarts))


def _target(
    model: ForecastModel, truth: SpectralClimate, gains: np.ndarray, dt: float, facts: ForecastFacts
) -> _Target:
    assert model.harmonics is not None
    zonal = truth.zonal
    if facts.config.mirror:
        # Where the hemispheres are statistically alike, zonal means are even about the equator, and those of northward
        # components odd. Any other part of a record is chance.
        odd = np.array([VARIABLES[c.variable].odd for c in model.layout.channels])
        zonal = np.where((model.harmonics.degrees[:, None] % 2 == 1) == odd, zonal, 0.0)
    counts = np.broadcast_to(coefficient_mask(model.harmonics), truth.energy.shape).copy()
    # Area means (order and degree 0) are left out, because not every forecaster may change them.
    counts[0, 0] = 0.0
    correlation = np.clip(1 - gains / (2 * np.maximum(truth.energy, 1e-30)), 0.05, 0.999)
    memory = -dt / np.log(correlation)
    times = np.clip(MEMORIES * memory, LEAST_DAYS, MOST_DAYS)
    saturation = np.minimum(SATURATION / memory, MOST_SATURATION) * dt * counts
    faint = np.maximum(FAINTEST * mean_energy(model.harmonics, truth.energy), 1e-12)
    low, high = np.array(facts.low), np.array(facts.high)
    room = MARGIN * (high - low)
    assert model.energy is not None
    assert model.saturation is not None
    model.energy[...] = jnp.asarray(np.maximum(truth.energy, faint), jnp.float32)
    model.saturation[...] = jnp.asarray(saturation, jnp.float32)
    wide = (zonal, truth.energy, times, faint, counts, low - room, high + room)
    return _Target(*(jnp.asarray(v, jnp.float32) for v in wide))


def _begin(model: ForecastModel, past: Array, times: np.ndarray) -> _Carry:
    assert model.shift is not None
    assert model.growth is not None
    shift, growth = jnp.zeros_like(model.shift[...]), jnp.zeros_like(model.growth[...])
    days, seconds = map(jnp.asarray, clock(times))
    wide = jnp.array(jnp.broadcast_to(past, (model.members, *past.shape)))
    none = shift.copy(), growth, shift.copy(), growth.copy(), jnp.zeros((), jnp.int32)
    return _Carry(wide, days, seconds, shift, *none)


def _advance(
    graph: Any,
    steps: int,
    dt: float,
    weights: Any,
    target: _Target,
    first: tuple[Array, Array, Array],
    carry: _Carry,
    key: Array,
    done: Array,
) -> _Carry:
    """`CHUNK` steps of all runs; each step updates the corrections by the error that it shows."""

    def step(carry: _Carry, item: tuple[Array, Array]) -> tuple[_Carry, None]:
        number, step_key = item
        model = nnx.merge(graph, weights)
        model.shift, model.growth = Usual(carry.shift), Usual(carry.growth)
        (past, days, seconds), _ = rollout(model, carry.past, carry.days, carry.seconds, step_key, 1)
        new = past[:, :, -1]
        least, most = new.min(axis=(2, 3)), new.max(axis=(2, 3))
        stays = (jnp.isfinite(least) & jnp.isfinite(most) & (least >= target.low) & (most <= target.high)).all((0, 2))
        z = _normalised_coefficients(
            model, new.reshape(-1, *new.shape[2:]), *(jnp.tile(v, model.members) for v in (days, seconds))
        )
        share = jnp.tile(stays, model.members) / jnp.maximum(stays.sum() * model.members, 1)
        z = jnp.where(share[:, None, None, None] > 0, z.at[:, 0].add(-target.zonal), 0.0)
        off = -jnp.einsum("r,rlc->lc", share, z[:, 0]) * target.counts[0]
        energy = average_pairs(jnp.einsum("r,rmlc->mlc", share, z**2)[None])[0]
        error = 1 - (energy + target.faint) / (target.energy + target.faint)
        error = jnp.clip(error, -MOST_ERROR, MOST_ERROR) * target.counts
        third = number // (steps // 3)
        rate = jnp.asarray([1.0, *SLOWER])[third] * dt**2
        integral = carry.integral + rate / target.times[0] ** 2 * off
        shift = integral + jnp.where(third == 0, 2 * dt / target.times[0], 0.0) * off
        growth = jnp.clip(carry.growth + rate / target.times**2 * error, LEAST_GROWTH, MOST_GROWTH)
        # If no run stayed within the range, the step has no statistics and the corrections stay.
        seen = stays.any()
        moved, before = (shift, integral, growth), (carry.shift, carry.integral, carry.growth)
        shift, integral, growth = (jnp.where(seen, a, b) for a, b in zip(moved, before, strict=True))
        kept = (third == 2).astype(jnp.float32)
        wide = stays[None, :, None, None, None, None]
        return _Carry(
            jnp.where(wide, past, first[0][None]), jnp.where(stays, days, first[1]),
            jnp.where(stays, seconds, first[2]), shift, integral, growth, carry.shifts + kept * shift,
            carry.growths + kept * growth, carry.restarts + (~stays).sum().astype(jnp.int32),
        ), None  # fmt: skip

    return jax.lax.scan(step, carry, (done + jnp.arange(CHUNK), jax.random.split(key, CHUNK)))[0]


def _normalised_coefficients(
    model: ForecastModel, states: Float[Array, "row latitude longitude channel"], days: Array, seconds: Array
) -> Float[Array, "row order degree channel"]:
    """Spectral coefficients of anomalies, in units of the increment of a step."""
    assert model.harmonics is not None
    anomalies = states - model.usual_at(days, seconds, 0)
    return model.harmonics.forward(anomalies / jnp.asarray(model.scale.increment_std))
