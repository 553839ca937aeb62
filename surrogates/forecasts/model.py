"""An ensemble of networks that advances states of the atmosphere by one step.

A network sees the anomalies of some past states from the usual states of their hours, in units of their spread, with
static fields and the sun's light. Its outputs are the increments of the anomalies in a step, in units of their typical
size. With an increment of 0 a forecast keeps its anomaly while the usual state follows the time, which is persistence
where there is no daily cycle. A model that stands on a linear step begins from the anomaly of that step instead, which
is among the inputs of its networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from data.sphere.weather_layout import WeatherLayout
from surrogates.forecasts.lead_blend import LeadBlendFacts, LeadBlendModule
from surrogates.forecasts.linear_step import LinearStepFacts, LinearStepModule
from surrogates.forecasts.networks.architectures import ARCHITECTURES, SphereConfig, SphereShape
from surrogates.forecasts.networks.harmonic_statistics import average_pairs, coefficient_mask
from surrogates.forecasts.networks.harmonics import Harmonics
from surrogates.forecasts.networks.layers import Usual
from surrogates.forecasts.sun import SOLAR_CONSTANT, insolation, later, year_phase
from surrogates.learning.nn.ensemble import apply_members, stack_members
from surrogates.learning.normalise import refuse_not_positive, refuse_unlike

Numbers = tuple[float, ...]
#: In an adjusted climate: relative excess of the energy of a harmonic over its mean beyond which its damping is
#: constant; and damping per day of the zonal means of a channel, and of all waves, if their energy is twice its mean.
MOST_EXCESS, ZONAL_RATE, WAVES_RATE = 20.0, 0.02, 0.1


@dataclass(frozen=True)
class ForecastScale:
    """Scales of the channels, and which states are usual.

    Attributes:
        std: standard deviation of the anomalies of each channel, in its unit.
        increment_std: root mean square of what the networks learn of a step, in the unit of each channel: the increment
            of the anomalies, or what a linear step leaves of it.
        hours: hours of the day that have usual states of their own; (0,) if all share one.
        day: steps of a day if the usual state is that of the days before; 0 if it is a table of the training.
        day_weights: weights of yesterday, of the day before it, and so on; their sum is 1.
        seasons: whether networks see the time of year; in less than a year it would identify each day.
        mean_kept: share of the area mean of an anomaly of each channel that is left after a step, if networks may not
            change area means; empty if they may.
    """

    std: Numbers
    increment_std: Numbers
    hours: tuple[int, ...]
    day: int = 0
    day_weights: Numbers = (1.0,)
    seasons: bool = True
    mean_kept: Numbers = ()

    def __post_init__(self) -> None:
        refuse_unlike(std=self.std, increment_std=self.increment_std)
        refuse_not_positive(std=self.std, increment_std=self.increment_std)
        if not self.hours or not all(0 <= hour < 24 for hour in self.hours) or not 0 <= self.day <= 10_000:
            raise ValueError("hours must lie within 0 and 23, and day within 0 and 10,000")
        if self.mean_kept:
            refuse_unlike(std=self.std, mean_kept=self.mean_kept)

    @property
    def before(self) -> int:
        """Number of steps that the usual state reaches back."""
        return self.day * len(self.day_weights)


class ForecastModel(nnx.Module):
    """Networks of one shape with different initial weights, stacked along the first axis of each weight.

    Args:
        config: settings of each network.
        layout: layout of the states.
        scale: scales of the channels.
        usual: usual states at each of the hours of `scale`, in the units of the channels.
        static: static fields, each with mean 0 and standard deviation 1.
        members: number of networks.
        history: number of past anomalies that a network sees, the present one included.
        noise: length of the noise vector that conditions every block; 0 for none.
        keep_mass: whether a step keeps the area mean of surface pressure.
        sun: whether networks see the sun's light and the time of year, where times are dates.
        damping: share of the anomaly of a channel that is left after a step in which the network adds nothing.
        truncation: largest total wavenumber of what a step adds, such as that of the core that made the states; higher
            ones would be noise that grows. None keeps all.
        adjusted: whether a correction of the climate, initially 0, follows each step; see
            `surrogates.forecasts.adjustment`. It needs a truncation.
        on: the linear step on which it stands; None for persistence with `damping`.
        forcing: variables that networks see and do not change.
        diagnostic: variables that networks forecast and do not see.
        blend: the simpler forecasts with which those of a surrogate are blended; its steps do not use them.
        rngs: random keys of the initial weights.
    """

    def __init__(
        self,
        config: SphereConfig,
        layout: WeatherLayout,
        scale: ForecastScale,
        usual: Float[np.ndarray, "hour latitude longitude channel"],
        static: Float[np.ndarray, "latitude longitude static"],
        rngs: nnx.Rngs,
        *,
        members: int = 1,
        history: int = 1,
        noise: int = 0,
        keep_mass: bool = False,
        sun: bool = True,
        damping: float = 1.0,
        truncation: int | None = None,
        adjusted: bool = False,
        on: LinearStepFacts | None = None,
        forcing: tuple[str, ...] = (),
        diagnostic: tuple[str, ...] = (),
        blend: LeadBlendFacts | None = None,
    ) -> None:
        self.layout, self.scale = layout, scale
        self.members, self.history, self.noise = members, history, noise
        self.sun, self.damping = sun and layout.calendar, damping
        self.harmonics = None if truncation is None else Harmonics(layout.grid, truncation)
        self.pressure = layout.index("surface_pressure") if keep_mass else []
        self.forcing = [k for name in forcing for k in layout.index(name)]
        self.diagnostic = [k for name in diagnostic for k in layout.index(name)]
        self.usual = Usual(jnp.asarray(usual))
        self.static = Usual(jnp.asarray(static)) if static.shape[-1] else None
        channels = len(layout.channels)
        self.first = None if on is None else LinearStepModule(on, (*layout.grid.shape, channels), history)
        self.blend = None if blend is None else LeadBlendModule(blend, (*layout.grid.shape, channels))
        states = history + (on is not None)
        inputs = states * channels + static.shape[-1] + (2 + 2 * scale.seasons if self.sun else 0)
        shape = SphereShape(layout.grid, inputs, channels, noise)

        self.networks = stack_members(lambda rngs: ARCHITECTURES.network(config, shape, rngs), members, rngs)
        waves = (0 if truncation is None else truncation + 1, len(layout.channels))
        self.shift = Usual(jnp.zeros(waves)) if adjusted else None
        self.growth = Usual(jnp.zeros((waves[0], *waves))) if adjusted else None
        self.energy = Usual(jnp.ones((waves[0], *waves))) if adjusted else None
        self.saturation = Usual(jnp.zeros((waves[0], *waves))) if adjusted else None

    @property
    def frames(self) -> int:
        """Number of past states that a step needs, the present one included."""
        return self.history + self.scale.before

    @property
    def step_s(self) -> int:
        """Seconds from one state to the next."""
        return round(self.layout.step_hours * 3600)

    def __call__(
        self,
        past: Float[Array, "member batch frame latitude longitude channel"],
        days: Int[Array, " batch"],
        seconds: Int[Array, " batch"],
        noise: Float[Array, "member batch noise"] | None = None,
    ) -> Float[Array, "member batch latitude longitude channel"]:
        """The next state of each member.

        Args:
            past: states of each member, the present one last.
            days, seconds: universal time of the present state; see `sun.clock`.
            noise: standard normal numbers.
        """
        forcings = self._forcings(days, seconds)

        def advance(one: Any, past: Array, noise: Array | None) -> Array:
            if self.scale.day:
                first = self.scale.before
                usual = [self._days_before(past, first + k) for k in range(self.history)]
                to_come = self._days_before(past, first + self.history)
            else:
                usual = [self.usual_at(days, seconds, -k) for k in range(self.history - 1, -1, -1)]
                to_come = self.usual_at(days, seconds, 1)
            frames = past[:, self.scale.before :]
            anomalies = [frames[:, k] - usual[k] for k in range(self.history)]
            if self.diagnostic:
                anomalies = [a.at[..., jnp.asarray(self.diagnostic)].set(0.0) for a in anomalies]
            estimate = self._first(anomalies, days, seconds)
            return self._advance(one, past[:, -1], anomalies, estimate, to_come, forcings, noise)

        new: Array = apply_members(self.networks, self.members, advance, past, noise)
        return new

    def _first(
        self, anomalies: list[Float[Array, "batch latitude longitude channel"]], days: Array, seconds: Array
    ) -> Float[Array, "batch latitude longitude channel"]:
        """The anomalies to which a step leads if the networks add nothing."""
        if self.first is None:
            kept = self.damping * anomalies[-1]
            at = jnp.asarray(self.forcing, jnp.int32)
            return kept.at[..., at].set(anomalies[-1][..., at]) if self.forcing else kept
        to_come, _ = later(days, seconds, self.step_s)
        return self.first(anomalies, year_phase(to_come) * float(self.scale.seasons))

    def _advance(
        self,
        one: Any,
        present: Float[Array, "batch latitude longitude channel"],
        anomalies: list[Float[Array, "batch latitude longitude channel"]],
        first: Float[Array, "batch latitude longitude channel"],
        to_come: Float[Array, "batch latitude longitude channel"],
        forcings: list[Array],
        noise: Array | None,
    ) -> Float[Array, "batch latitude longitude channel"]:
        std, step = jnp.asarray(self.scale.std), jnp.asarray(self.scale.increment_std)
        seen = [a / std for a in (anomalies if self.first is None else [*anomalies, first])]
        wide = [jnp.broadcast_to(k, (present.shape[0], *k.shape[1:])) for k in forcings]
        gain = one(jnp.concatenate([*seen, *wide], axis=-1), noise)
        if self.harmonics is not None:
            added = self.harmonics.forward(gain)
            if self.shift is not None:
                added += self._adjustment(added + self.harmonics.forward(first / step))
            gain = self.harmonics.backward(added)
        anomaly = first + gain * step
        area = jnp.asarray(self.layout.grid.weights, jnp.float32)[None, ..., None]
        if self.scale.mean_kept:
            kept = jnp.asarray(self.scale.mean_kept)
            anomaly += jnp.mean((kept * anomalies[-1] - anomaly) * area, axis=(1, 2), keepdims=True)
        if self.forcing:
            at = jnp.asarray(self.forcing)
            anomaly = anomaly.at[..., at].set(first[..., at])
        new = to_come + anomaly
        if self.pressure:
            at = jnp.asarray(self.pressure)
            # The mean is of differences, because that of values near 100,000 Pa loses digits in float32.
            lost = jnp.mean((present[..., at] - new[..., at]) * area, axis=(1, 2), keepdims=True)
            new = new.at[..., at].add(lost)
        return new

    def _adjustment(
        self, whole: Float[Array, "batch order degree channel"]
    ) -> Float[Array, "batch order degree channel"]:
        """The correction after a step that leads to the coefficients `whole`; see `surrogates.forecasts.adjustment`."""
        assert self.harmonics is not None
        shift, growth, energy, saturation = (
            jnp.asarray(v[...]) for v in (self.shift, self.growth, self.energy, self.saturation) if v is not None
        )
        square, days = average_pairs(whole**2), self.layout.step_hours / 24
        excess = saturation * jnp.clip(square / energy - 1, None, MOST_EXCESS)
        # Relative excess of the energy of the zonal means of each channel, and of all its waves together.
        counts = jnp.asarray(coefficient_mask(self.harmonics)).at[0, 0].set(0.0)
        strength = [
            (square * counts)[:, part].sum(axis=(1, 2)) / (energy * counts)[part].sum(axis=(0, 1)) - 1
            for part in (slice(0, 1), slice(1, None))
        ]
        zonal = jnp.minimum(ZONAL_RATE * strength[0], 1.0)[:, None, None]
        waves = jnp.minimum(WAVES_RATE * strength[1].mean(axis=-1), 1.0)[:, None, None, None]
        excess = excess.at[:, :1].add(zonal * days).at[:, 1:].add(waves * days)
        # Area means are not changed.
        change = jnp.expm1((growth - excess) * counts)[:, self.harmonics.orders] * whole
        return change.at[:, 0].add(shift)

    def _days_before(self, past: Array, at: int) -> Float[Array, "batch latitude longitude channel"]:
        """The weighted mean of the states one day, two days and so on before the frame `at`."""
        weights = self.scale.day_weights
        return sum(w * past[:, at - self.scale.day * (k + 1)] for k, w in enumerate(weights))  # type: ignore[return-value]

    def usual_at(self, days: Array, seconds: Array, steps: int) -> Float[Array, "batch latitude longitude channel"]:
        """The usual states `steps` steps later, from the table."""
        table = jnp.asarray(self.usual[...])
        if len(self.scale.hours) == 1:
            return table[jnp.zeros(days.shape[0], jnp.int32)]
        _, second = later(days, seconds, steps * self.step_s)
        return table[jnp.searchsorted(jnp.asarray(self.scale.hours), second // 3600)]

    def _forcings(self, days: Array, seconds: Array) -> list[Array]:
        """Inputs beside the states: static fields, the sun's light now and a step later, and the time of year."""
        fields = [] if self.static is None else [self.static[...][None]]
        if self.sun:
            grid = self.layout.grid
            where = (np.asarray(grid.latitude), np.asarray(grid.longitude))
            light = [insolation(*later(days, seconds, k * self.step_s), *where) for k in (0, 1)]
            fields.append(jnp.stack(light, axis=-1) / SOLAR_CONSTANT)
            if self.scale.seasons:
                phase = year_phase(days)[:, None, None]
                fields.append(jnp.broadcast_to(phase, (days.shape[0], *grid.shape, 2)))
        return fields


def rollout(
    model: ForecastModel,
    past: Float[Array, "member batch frame latitude longitude channel"],
    days: Int[Array, " batch"],
    seconds: Int[Array, " batch"],
    key: jax.Array,
    steps: int,
) -> tuple[tuple[Array, Array, Array], Float[Array, "lead member batch latitude longitude channel"]]:
    """Forecast some steps in one scan, with new noise in each step.

    Returns:
        The states and the time that the next step begins from, and the states of all steps.
    """

    def advance(carry: tuple[Array, Array, Array], step_key: jax.Array) -> tuple[tuple[Array, Array, Array], Array]:
        past, days, seconds = carry
        noise = jax.random.normal(step_key, (*past.shape[:2], model.noise)) if model.noise else None
        new = model(past, days, seconds, noise)
        past = jnp.concatenate([past[:, :, 1:], new[:, :, None]], axis=2)
        return (past, *later(days, seconds, model.step_s)), new

    return jax.lax.scan(advance, (past, days, seconds), jax.random.split(key, steps))
