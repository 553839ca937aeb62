"""The loss of a forecast unrolled over several steps: of one forecast, or of an ensemble drawn from one network.

Errors are in units of the typical increment of a step, and weighted by the area of the cell and by the channel. Errors
of zonal means may be added to the loss, in units of their own increments: zonal means change slowly, so that their
errors are small at single points and still add up in a long run. The spherical harmonics of errors may be added too,
each in units of its own increment (as in Bonev et al. 2025, arXiv:2507.12144): errors of faint harmonics hardly show at
single points and change the spectrum in a long run. The loss of one forecast is the mean square error, that of an
ensemble the fair CRPS of members that see different noise (Lang et al. 2024, arXiv:2412.15832; Alet et al. 2025,
arXiv:2506.10772). Each step gets the forecast of the step before as its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.plain import FLAT
from data.sphere.weather_layout import PRESSURE_UNITS, WeatherLayout
from surrogates.forecasts.batches import ForecastBatch
from surrogates.forecasts.crps import fair_crps
from surrogates.forecasts.model import ForecastModel
from surrogates.forecasts.sun import later
from surrogates.learning.step import Stats

LEVEL_WEIGHTS = ("equal", "mass")


@dataclass(frozen=True)
class ForecastLossSettings:
    """Settings of the loss, which do not depend on the states.

    Attributes:
        unroll: number of forecast steps of a window.
        unroll_from, unroll_full: shares of training at which the second step begins to count, and from which all do.
        draws: number of members of which training computes the fair CRPS, where the network has noise.
        input_noise: standard deviation of noise on the first states, in units of the increment of a step.
        level_weights: "equal", or "mass" for weights in proportion to pressure (or sigma), as the mass of air.
        variable_weights: weights of variables where they are not 1.
        zonal_weight: weight of zonal means, relative to points.
        spectral_weight: weight of spherical harmonics, relative to points; the model needs a truncation.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    unroll: int = 1
    unroll_from: float = 0.3
    unroll_full: float = 0.7
    draws: int = 2
    input_noise: float = 0.0
    level_weights: str = "equal"
    variable_weights: dict[str, float] = field(default_factory=dict)
    zonal_weight: float = 0.0
    spectral_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.unroll < 1 or self.draws < 1 or min(self.input_noise, self.zonal_weight, self.spectral_weight) < 0:
            raise ValueError("unroll and draws must be 1 or more, input_noise and weights 0 or more")
        if not 0 <= self.unroll_from <= self.unroll_full <= 1:
            raise ValueError("0 <= unroll_from <= unroll_full <= 1 must hold")
        if self.level_weights not in LEVEL_WEIGHTS:
            raise ValueError(f"level_weights must be one of {', '.join(LEVEL_WEIGHTS)}, got {self.level_weights!r}")

    def channel_weights(self, layout: WeatherLayout) -> tuple[float, ...]:
        """The weight of each channel; their mean is 1.

        Raises:
            ValueError: a weight names a variable that is not among the channels.
        """
        strange = [v for v in self.variable_weights if v not in layout.variables]
        if strange:
            raise ValueError(f"variable_weights names {strange[0]}; there are {', '.join(layout.variables)}")
        weights = np.array([float(self.variable_weights.get(c.variable, 1.0)) for c in layout.channels])
        if self.level_weights == "mass":
            top = 1000.0 if layout.level_units == PRESSURE_UNITS else 1.0
            weights *= np.array([1.0 if c.level is None else c.level / top for c in layout.channels])
        return tuple((weights / weights.mean()).tolist())


@dataclass(frozen=True)
class ForecastLoss:
    """The loss that training minimises.

    Attributes:
        settings: settings of the loss; `draws` is 1 for the mean square error, and `channel_weights` replace those of
            levels and variables.
        channel_weights: weight of each channel; their mean is 1.
        zonal_unit: unit of the errors of zonal means, by latitude and channel; 1 if empty.
        spectral_unit: unit of the errors of harmonics, by zonal wavenumber, total wavenumber and channel; 1 if empty.
    """

    settings: ForecastLossSettings = field(default_factory=lambda: ForecastLossSettings(draws=1), metadata=FLAT)
    channel_weights: tuple[float, ...] = ()
    zonal_unit: tuple[tuple[float, ...], ...] = ()
    spectral_unit: tuple[tuple[tuple[float, ...], ...], ...] = ()

    @classmethod
    def of(
        cls,
        settings: ForecastLossSettings,
        layout: WeatherLayout,
        zonal_unit: Float[np.ndarray, "latitude channel"] | None = None,
        spectral_unit: Float[np.ndarray, "wavenumber degree channel"] | None = None,
        *,
        noisy: bool = False,
        forcing: Sequence[str] = (),
    ) -> Self:
        """The loss with these settings on states with a layout.

        Args:
            settings: settings of the loss.
            layout: layout of the states.
            zonal_unit: unit of the errors of zonal means.
            spectral_unit: unit of the errors of spherical harmonics.
            noisy: whether the network has noise, so that it makes an ensemble of `draws` members.
            forcing: variables that are not forecast, whose errors do not count.

        Raises:
            ValueError: a weight names a variable that is not among the channels.
        """
        # Checkpoints hold the weights of channels alone, so that one and the same loss has one description.
        reduced = replace(settings, level_weights="equal", variable_weights={})
        return cls(
            reduced if noisy else replace(reduced, draws=1),
            _without(settings.channel_weights(layout), [k for name in forcing for k in layout.index(name)]),
            () if zonal_unit is None else tuple(map(tuple, zonal_unit.tolist())),
            () if spectral_unit is None else tuple(tuple(map(tuple, wave)) for wave in spectral_unit.tolist()),
        )

    def step_weights(self, progress: jax.Array) -> Float[Array, " step"]:
        """Weight of each step at this share of training: 1 if it counts, else 0."""
        width = max(self.settings.unroll_full - self.settings.unroll_from, 1e-6)
        share = jnp.clip((progress - self.settings.unroll_from) / width, 0.0, 1.0)
        number = 1.0 + jnp.floor(share * (self.settings.unroll - 1) + 1e-6)
        return (jnp.arange(self.settings.unroll) < number).astype(jnp.float32)

    def __call__(
        self, model: nnx.Module, batch: ForecastBatch, key: jax.Array, progress: jax.Array
    ) -> tuple[jax.Array, Stats]:
        """The loss, averaged over rows, members and steps that count, and its statistics."""
        assert isinstance(model, ForecastModel)
        frames, weight = jnp.asarray(batch.frames), jnp.asarray(batch.weight)
        rows, draws = len(frames), self.settings.draws
        start_key, noise_key = jax.random.split(key)
        past = frames[:, : model.frames]
        # Each draw of a row is a row of its own.
        past = jnp.broadcast_to(past[None, None], (model.members, draws, *past.shape))
        past = past.reshape(model.members, draws * rows, *past.shape[3:])
        if self.settings.input_noise:
            size = jnp.where(progress < 1.0, self.settings.input_noise, 0.0) * jnp.asarray(model.scale.increment_std)
            past = past + size * jax.random.normal(start_key, past.shape, past.dtype)
        days, seconds = (jnp.tile(jnp.asarray(v), draws) for v in (batch.days, batch.seconds))
        counted = self.step_weights(progress)
        # Over several steps it takes longer to write and read activations than to compute them again, and the steps
        # that do not count yet would write as many zeros.
        graph, state = nnx.split(model)

        def network(state: nnx.State, past: Array, days: Array, seconds: Array, noise: Array | None) -> Array:
            return nnx.merge(graph, state)(past, days, seconds, noise)

        step = jax.checkpoint(network) if self.settings.unroll > 1 else network

        def advance(
            carry: tuple[Array, Array, Array], item: tuple[Array, Array, jax.Array]
        ) -> tuple[tuple[Array, Array, Array], Array]:
            truth, counts, step_key = item

            def count(carry: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array, Array], Array]:
                past, days, seconds = carry
                noise = jax.random.normal(step_key, (*past.shape[:2], model.noise)) if model.noise else None
                new = step(state, past, days, seconds, noise)
                moved = jnp.concatenate([past[:, :, 1:], new[:, :, None]], axis=2)
                return (moved, *later(days, seconds, model.step_s)), self._errors(model, new, truth)

            def skip(carry: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array, Array], Array]:
                return carry, jnp.zeros((model.members, rows))

            # A step that does not count yet is skipped, so that it costs almost nothing.
            return jax.lax.cond(counts > 0, count, skip, carry)

        targets = jnp.moveaxis(frames[:, model.frames :], 1, 0)
        keys = jax.random.split(noise_key, self.settings.unroll)
        if self.settings.unroll == 1:
            errors = advance((past, days, seconds), (targets[0], jnp.ones(()), keys[0]))[1][None]
        else:
            errors = jax.lax.scan(advance, (past, days, seconds), (targets, counted, keys))[1]
        total = jnp.maximum(weight.sum(), 1.0)
        per_row = (errors * counted[:, None, None]).sum(axis=0).mean(axis=0) / counted.sum()
        value = (per_row * weight).sum() / total
        first = (errors[0].mean(axis=0) * weight).sum()
        return value, {"loss": (value * total, total), "first_step": (first, total)}

    def _errors(
        self, model: ForecastModel, new: Float[Array, "member drawn latitude longitude channel"], truth: Array
    ) -> Float[Array, "member batch"]:
        """The loss of each row of one step."""
        area = jnp.asarray(model.layout.grid.weights, jnp.float32)[..., None]
        channel = jnp.asarray(self.channel_weights or (1.0,) * truth.shape[-1], jnp.float32)
        unit = jnp.asarray(model.scale.increment_std)
        drawn, target = (new / unit).reshape(model.members, self.settings.draws, *truth.shape), truth / unit
        value = jnp.mean(self._distance(drawn, target) * area * channel, axis=(-3, -2, -1))
        if self.settings.zonal_weight:
            unit = unit / (jnp.asarray(self.zonal_unit, jnp.float32) if self.zonal_unit else 1.0)
            zonal = self._distance(drawn.mean(axis=-2) * unit, target.mean(axis=-2) * unit)
            value += self.settings.zonal_weight * jnp.mean(zonal * area[:, 0] * channel, axis=(-2, -1))
        if self.settings.spectral_weight:
            assert model.harmonics is not None
            mask = jnp.asarray(model.harmonics.mask, jnp.float32)[..., None]
            per = jnp.asarray(self.spectral_unit, jnp.float32)[model.harmonics.orders] if self.spectral_unit else 1.0
            # The transform is of errors, because in float32 that of whole states would lose the faint harmonics.
            wrong = (drawn - target).reshape(-1, *truth.shape[1:])
            waves = model.harmonics.forward(wrong) / per
            waves = waves.reshape(*drawn.shape[:-3], *waves.shape[1:])
            distance = self._distance(waves, jnp.zeros_like(waves[0, 0]))
            spectral = jnp.sum(distance * mask * channel, axis=(-3, -2, -1)) / (mask.sum() * truth.shape[-1])
            value += self.settings.spectral_weight * spectral
        return value

    def _distance(self, drawn: Float[Array, "member drawn *points"], target: Float[Array, "*points"]) -> Array:
        """Squared error of one forecast, or fair CRPS of several."""
        if self.settings.draws == 1:
            return (drawn[:, 0] - target) ** 2
        return jax.vmap(lambda one: fair_crps(one, target))(drawn)


def _without(weights: tuple[float, ...], channels: Sequence[int]) -> tuple[float, ...]:
    """The weights with those of some channels at 0, and a mean of 1 as before."""
    if not channels:
        return weights
    left = np.array(weights, float)
    left[list(channels)] = 0.0
    return tuple(float(w) for w in left * len(left) / left.sum())
