"""A forecast that is blended, at each lead, with simpler ones: damped persistence, a linear model, and climatology.

At each lead, point and channel the anomaly of a blend is a sum of the anomalies of its members with weights that are
not negative and add up to 1 at most; climatology has the rest (stacking with weights that are
not negative: Breiman 1996, doi:10.1007/BF00117832). `blend_fit` fits the weights to forecasts of a
part of the states that training has not seen. An ensemble is moved to the blend of its mean, and the distances of its
members from the mean are multiplied by a factor of each lead and channel. A mixture has the forecasts of other trained
forecasters among its members too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from data.plain import OMIT_DEFAULT
from data.sphere.statistics import Climatology, hour_of_day
from data.sphere.weather_layout import WeatherLayout
from surrogates.forecasts.autoregression import LinearAutoregression
from surrogates.forecasts.networks.layers import Usual
from surrogates.forecasts.references import DampedPersistence, Patterns, leads

#: Members of a blend in the order of their weights; the last one may be absent, and climatology has what is left.
NETWORK, DAMPED, LINEAR = "network", "damped_persistence", "linear_autoregression"
CLIMATOLOGY = "climatology"
#: Names that a forecaster in a mixture may have; it is saved in a folder of its name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class LeadBlendFacts:
    """What is saved of a blend beside its arrays.

    Attributes:
        members: names of the members, in the order of their weights.
        steps: number of leads.
        climate: what the climatology depends on; see `Climatology.kind`.
        hours, days: hours of the day and number of days of the year that the climatology tells apart.
        past, patterns: number of past states and of patterns of the linear autoregression; 0 without one.
        forecasts: number of forecasts to which the weights were fitted.
        others: fingerprints of the other forecasters of a mixture, whose names follow the first of `members`.
    """

    members: tuple[str, ...]
    steps: int
    climate: str
    hours: tuple[int, ...]
    days: int
    past: int
    patterns: int
    forecasts: int
    others: tuple[str, ...] = field(default=(), metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        refuse_names(self.forecasters)
        simple = self.members[len(self.forecasters) :]
        if simple not in ((DAMPED,), (DAMPED, LINEAR)) or (not self.others and self.forecasters != (NETWORK,)):
            raise ValueError(f"members must be {NETWORK}, {DAMPED} and perhaps {LINEAR}, got {self.members}")
        if (LINEAR in self.members) != (self.past > 0 and self.patterns > 0):
            raise ValueError("past and patterns must be above 0 with a linear autoregression, and 0 without one")
        if self.climate not in ("day_of_year", "hour", "mean") or not self.hours:
            raise ValueError("climate must be day_of_year, hour or mean, and hours name one or more")
        if (
            not 1 <= self.steps <= 10_000
            or not 1 <= self.days <= 366
            or min(self.past, self.patterns, self.forecasts) < 0
        ):
            raise ValueError("steps must lie within 1 and 10,000, days within 1 and 366, and counts be 0 or more")

    @property
    def forecasters(self) -> tuple[str, ...]:
        """Names of the trained forecasters among the members."""
        return self.members[: 1 + len(self.others)]


def refuse_names(names: Sequence[str]) -> None:
    """Refuse names of forecasters that are no names of folders, are repeated, or those of the simpler forecasts.

    Raises:
        ValueError: names one of them.
    """
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"the name of a forecaster must be letters, digits, '_', '.' and '-', got {name!r}")
        if names.count(name) > 1 or name in (DAMPED, LINEAR, CLIMATOLOGY):
            raise ValueError(f"two members are called {name}")


@dataclass(frozen=True)
class LeadBlend:
    """The members of a blend beside the network, and the weights of all.

    Attributes:
        layout: layout of the states.
        climatology: mean states, from which anomalies are differences.
        damped: damped persistence.
        linear: linear autoregression; None where the states are too many or too few for one.
        weights: weight of each member.
        spread: factor of the distances of members of an ensemble from their mean; 1 for a single forecast.
        forecasts: number of forecasts to which the weights were fitted.
        forecasters: names of the trained forecasters, that of the network first.
        others: fingerprints of those after the first.
    """

    layout: WeatherLayout
    climatology: Climatology
    damped: DampedPersistence
    linear: LinearAutoregression | None
    weights: Float[np.ndarray, "lead member latitude longitude channel"]
    spread: Float[np.ndarray, "lead channel"]
    forecasts: int = 0
    forecasters: tuple[str, ...] = (NETWORK,)
    others: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Number of leads."""
        return len(self.spread)

    @property
    def facts(self) -> LeadBlendFacts:
        """What is saved of it beside its arrays."""
        usual = self.climatology
        past, patterns = (0, 0) if self.linear is None else (self.linear.history, self.linear.maps.shape[2])
        simple = (DAMPED,) if self.linear is None else (DAMPED, LINEAR)
        return LeadBlendFacts(
            (*self.forecasters, *simple), self.steps, usual.kind, tuple(int(h) for h in usual.hours),
            usual.values.shape[1], past, patterns, self.forecasts, self.others,
        )  # fmt: skip

    def anomalies(
        self,
        history: Float[np.ndarray, "batch history latitude longitude channel"],
        times: np.ndarray,
        network: Float[np.ndarray, "batch lead latitude longitude channel"],
        before: int = 0,
        others: Sequence[Float[np.ndarray, "batch lead latitude longitude channel"]] = (),
    ) -> tuple[
        Float[np.ndarray, "batch lead member latitude longitude channel"],
        Float[np.ndarray, "batch lead latitude longitude channel"],
    ]:
        """Anomalies of the members at the leads of the network's forecast, and the climatology; see `apply`."""
        said, usual = self._forecasts(history, times, network, before, others)
        return np.stack([forecast - usual for forecast in said], axis=2), usual

    def _forecasts(
        self,
        history: Float[np.ndarray, "batch history latitude longitude channel"],
        times: np.ndarray,
        network: Float[np.ndarray, "batch lead latitude longitude channel"],
        before: int,
        others: Sequence[Float[np.ndarray, "batch lead latitude longitude channel"]],
    ) -> tuple[
        list[Float[np.ndarray, "batch lead latitude longitude channel"]],
        Float[np.ndarray, "batch lead latitude longitude channel"],
    ]:
        """Forecasts of the members, and the climatology; see `anomalies`."""
        steps = before + network.shape[1]
        valid = leads(times, self.layout, steps)[:, before:]
        usual = self.climatology.at(valid.ravel()).reshape(network.shape)
        said = [network, *others, self.damped.forecast_arrays(history[:, -1:], times, steps)[:, 0, before:]]
        if self.linear is not None:
            said.append(self.linear.forecast_arrays(history[:, -self.linear.history :], times, steps)[:, 0, before:])
        return said, usual

    def apply(
        self,
        history: Float[np.ndarray, "batch history latitude longitude channel"],
        times: np.ndarray,
        network: Float[np.ndarray, "batch number lead latitude longitude channel"],
        before: int = 0,
        others: Sequence[Float[np.ndarray, "batch lead latitude longitude channel"]] = (),
    ) -> Float[np.ndarray, "batch number lead latitude longitude channel"]:
        """The blend at the leads for which it was fitted; the forecasts of the network at later ones are kept.

        They are also kept at hours of the day without a climatology, of which `ForecastSurrogate.forecast` warns.

        Args:
            history: past states, the present one last.
            times: datetime64 of the present states.
            network: forecasts of the members of an ensemble, or of one.
            before: number of leads before the first one of `network`.
            others: forecasts of the other forecasters of a mixture at the leads of `network`.
        """
        count = min(network.shape[2], self.steps - before)
        if not self._has_hours(times, before + count):
            return network
        which = slice(before, before + count)
        raw = network[:, :, :count]
        mean = raw.mean(axis=1)
        said, usual = self._forecasts(history, times, mean, before, [one[:, :count] for one in others])
        weights = np.asarray(self.weights[which], np.float32)
        # Member by member, because an array of the anomalies of all costs more to write and read than the sum itself.
        blend, part = np.array(usual, np.float32), np.empty(usual.shape, np.float32)
        for k, forecast in enumerate(said):
            np.subtract(forecast, usual, out=part)
            part *= weights[:, k]
            blend += part
        answer = blend[:, None].astype(network.dtype, copy=False)
        if raw.shape[1] > 1:
            apart = self.spread[which, None, None].astype(np.float32) * (raw - mean[:, None])
            answer = (answer + apart).astype(network.dtype, copy=False)
        return np.concatenate([answer, network[:, :, count:]], axis=2) if count < network.shape[2] else answer

    def _has_hours(self, times: np.ndarray, steps: int) -> bool:
        """Whether there is a climatology at the hours of the present, past and forecast states."""
        if self.climatology.kind == "mean":
            return True
        past = 1 if self.linear is None else self.linear.history
        step = np.timedelta64(round(self.layout.step_hours * 3600), "s")
        every = times.astype("datetime64[s]")[:, None] + np.arange(1 - past, steps + 1) * step
        return bool(np.isin(hour_of_day(every), self.climatology.hours).all())

    def member_weights(self) -> dict[str, Float[np.ndarray, " lead"]]:
        """Weight of each member, the mean over points and channels; that of climatology is what is left."""
        mean = self.weights.mean(axis=(2, 3, 4))
        named = dict(zip(self.facts.members, mean.T, strict=True))
        return {**named, CLIMATOLOGY: 1 - mean.sum(axis=1)}


class LeadBlendModule(nnx.Module):
    """The arrays of a `LeadBlend` in a model, where they are saved with the weights and not trained.

    Args:
        facts: members and sizes.
        shape: shape of a state: latitude, longitude, channel.
    """

    def __init__(self, facts: LeadBlendFacts, shape: tuple[int, int, int]) -> None:
        values, count = int(np.prod(shape)), facts.patterns
        self.usual = Usual(jnp.zeros((len(facts.hours), facts.days, *shape)))
        self.shares = Usual(jnp.zeros((facts.steps, shape[-1])))
        self.weights = Usual(jnp.zeros((facts.steps, len(facts.members), *shape)))
        self.spread = Usual(jnp.ones((facts.steps, shape[-1])))
        self.weight = Usual(jnp.ones(values)) if count else None
        self.vectors = Usual(jnp.zeros((values, count))) if count else None
        self.maps = Usual(jnp.zeros((facts.steps, facts.past * count, count))) if count else None
        self.beyond = Usual(jnp.zeros((facts.steps, shape[-1]))) if count else None

    @staticmethod
    def of(blend: LeadBlend) -> LeadBlendModule:
        """The module with the arrays of a blend."""
        values = blend.climatology.values
        new = LeadBlendModule(blend.facts, (values.shape[2], values.shape[3], values.shape[4]))
        pairs = [
            (new.usual, values), (new.shares, blend.damped.shares), (new.weights, blend.weights),
            (new.spread, blend.spread),
        ]  # fmt: skip
        if blend.linear is not None:
            auto = blend.linear
            assert new.weight is not None
            assert new.vectors is not None
            assert new.maps is not None
            assert new.beyond is not None
            pairs += [(new.weight, auto.patterns.weight), (new.vectors, auto.patterns.vectors)]
            pairs += [(new.maps, auto.maps), (new.beyond, auto.beyond)]
        for variable, array in pairs:
            variable[...] = jnp.asarray(array, jnp.float32)
        return new

    def blend(self, facts: LeadBlendFacts, layout: WeatherLayout) -> LeadBlend:
        """The blend of these arrays, on the host."""
        usual = Climatology(facts.climate, facts.hours, np.asarray(self.usual[...]))
        linear = None
        if self.weight is not None and self.vectors is not None and self.maps is not None and self.beyond is not None:
            patterns = Patterns(usual, np.asarray(self.weight[...]), np.asarray(self.vectors[...]))
            maps, beyond = np.asarray(self.maps[...]), np.asarray(self.beyond[...])
            linear = LinearAutoregression(layout, patterns, maps, beyond, facts.past)
        damped = DampedPersistence(layout, usual, np.asarray(self.shares[...]))
        weights, spread = np.asarray(self.weights[...]), np.asarray(self.spread[...])
        return LeadBlend(
            layout, usual, damped, linear, weights, spread, facts.forecasts, facts.forecasters, facts.others
        )
