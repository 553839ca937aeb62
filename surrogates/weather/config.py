"""How a forecaster is made, and what travels with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float

from data.plain import decode, within
from data.weather import PRESSURE_UNITS, WeatherLayout
from surrogates.normalise import refuse_unlike
from surrogates.uncertainty import ALPHA, conformal_quantile
from surrogates.weather.loss import WeatherLoss
from surrogates.weather.model import WeatherModel, WeatherScale
from surrogates.weather.networks import config_from_json, config_to_json

USUAL = ("none", "mean", "hour", "day")
LEVEL_WEIGHTS = ("equal", "mass")


@dataclass(frozen=True)
class WeatherSettings:
    """How a forecaster is trained.

    Attributes:
        ensemble: networks trained apart; their mean is the forecast.
        history: past anomalies that are seen, the present one counted.
        noise_dims: length of the noise that makes one network an ensemble; 0 for a deterministic forecast.
        draws: members of the ensemble that the fair CRPS is taken of in training.
        usual: what anomalies are from: "none" (the mean of each channel), "mean" (of each point), "hour" (of each point
            at each hour of the day), or "day": the states of the days before, which need as much more of the past.
        day_weights: for "day": of yesterday, of the day before it, and so on; their sum is 1.
        level_weights: "equal", or "mass": in proportion to pressure (or sigma), as air weighs.
        variable_weights: of variables, where they are not 1.
        keep_mass: whether the area mean of surface pressure stays what it was.
        keep_means: whether the area means of anomalies fade as they did in the training, whatever the network says:
            they hardly move in a step, and what little a network errs there adds up in a long run.
        zonal_weight: in the loss, of means along circles of latitude beside points; see `WeatherLoss`.
        spectral_weight: in the loss, of spherical harmonics up to the truncation beside points; see `WeatherLoss`.
        mirror: whether training sees half of its windows mirrored at the equator: twice the data, where the forcing of
            both hemispheres is the same and nothing tells them apart.
        sun: whether the sun's light and the time of year are told, where times are dates.
        damping: share of an anomaly that is kept in a step in which the network gives nothing.
        truncation: largest total wavenumber of what a step adds; None keeps all.
        unroll, unroll_from, unroll_full, input_noise: see `WeatherLoss`.
        adjust_days: length of the free runs in which the climate is adjusted after training; 0 for none. See
            `surrogates.weather.adjustment`.
        adjust_runs: how many run side by side.
        steps: of a forecast that is asked for without a number of steps.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    ensemble: int = 1
    history: int = 1
    noise_dims: int = 0
    draws: int = 2
    usual: str = "mean"
    day_weights: tuple[float, ...] = (1.0,)
    level_weights: str = "equal"
    variable_weights: dict[str, float] = field(default_factory=dict)
    keep_mass: bool = False
    keep_means: bool = False
    zonal_weight: float = 0.0
    spectral_weight: float = 0.0
    mirror: bool = False
    sun: bool = True
    damping: float = 1.0
    truncation: int | None = None
    unroll: int = 1
    unroll_from: float = 0.3
    unroll_full: float = 0.7
    input_noise: float = 0.0
    adjust_days: float = 0.0
    adjust_runs: int = 32
    steps: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "day_weights", tuple(float(w) for w in self.day_weights))
        if not self.day_weights or abs(sum(self.day_weights) - 1) > 1e-6:
            raise ValueError(f"day_weights must add up to 1, got {self.day_weights}")
        if min(self.ensemble, self.history, self.steps) < 1 or self.noise_dims < 0:
            raise ValueError("ensemble, history and steps must be 1 or more, and noise_dims 0 or more")
        if not 0 <= self.damping <= 1:
            raise ValueError(f"damping must lie within 0 and 1, got {self.damping}")
        if self.noise_dims and self.draws < 2:
            raise ValueError(f"a fair CRPS needs 2 draws or more, got {self.draws}")
        for name, choices in (("usual", USUAL), ("level_weights", LEVEL_WEIGHTS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.keep_means and self.usual == "day":
            raise ValueError("keep_means needs usual states that are those of the training, not of the day before")
        if self.adjust_days < 0 or self.adjust_runs < 1:
            raise ValueError("adjust_days must be 0 or more, and adjust_runs 1 or more")
        if self.adjust_days and (self.truncation is None or self.usual == "day"):
            raise ValueError("adjust_days needs a truncation, and usual states that are those of the training")
        if self.spectral_weight and self.truncation is None:
            raise ValueError("spectral_weight needs a truncation")
        WeatherLoss(
            self.unroll, self.unroll_from, self.unroll_full, input_noise=self.input_noise,
            zonal_weight=self.zonal_weight, spectral_weight=self.spectral_weight,
        )  # fmt: skip

    def loss(
        self,
        layout: WeatherLayout,
        zonal_unit: Float[np.ndarray, "latitude channel"] | None = None,
        spectral_unit: Float[np.ndarray, "wavenumber degree channel"] | None = None,
    ) -> WeatherLoss:
        """What training minimises.

        Args:
            layout: of the states.
            zonal_unit: of errors of zonal means.
            spectral_unit: of errors of spherical harmonics.

        Raises:
            ValueError: a weight is of a variable that is not among the channels.
        """
        strange = [v for v in self.variable_weights if v not in layout.variables]
        if strange:
            raise ValueError(f"variable_weights names {strange[0]}; there are {', '.join(layout.variables)}")
        weights = np.array([float(self.variable_weights.get(c.variable, 1.0)) for c in layout.channels])
        if self.level_weights == "mass":
            top = 1000.0 if layout.level_units == PRESSURE_UNITS else 1.0
            weights *= np.array([1.0 if c.level is None else c.level / top for c in layout.channels])
        weights /= weights.mean()
        draws = self.draws if self.noise_dims else 1
        return WeatherLoss(
            self.unroll, self.unroll_from, self.unroll_full, draws, tuple(weights.tolist()), self.input_noise,
            self.zonal_weight, () if zonal_unit is None else tuple(map(tuple, zonal_unit.tolist())),
            self.spectral_weight,
            () if spectral_unit is None else tuple(tuple(map(tuple, wave)) for wave in spectral_unit.tolist()),
        )  # fmt: skip


@dataclass(frozen=True)
class WeatherConfig(WeatherSettings):
    """The settings, and the network of each member."""

    network: Any = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal configuration."""
        settings = {k: v for k, v in asdict(self).items() if k != "network"}
        return {**settings, "day_weights": list(self.day_weights), "network": config_to_json(self.network)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> WeatherConfig:
        """The configuration that `to_json` described."""
        with within("network"):
            network = config_from_json(value.get("network"))
        return replace(decode(WeatherConfig, {k: v for k, v in value.items() if k != "network"}), network=network)


@dataclass(frozen=True)
class LeadBands:
    """Calibrated error bars of forecasts, by lead and channel.

    A band holds a share 1 - alpha of the points of a field, by area, for a share 1 - alpha of the forecasts that are
    exchangeable with those it was calibrated on; times of one record are so only in part, which a test on later times
    shows.

    Attributes:
        sigma: root mean square error, by lead and channel.
        factor: of sigma, the same.
        alpha: share that may lie outside.
        n: forecasts that it was calibrated on.
    """

    sigma: tuple[tuple[float, ...], ...]
    factor: tuple[tuple[float, ...], ...]
    alpha: float
    n: int

    def __post_init__(self) -> None:
        refuse_unlike(sigma=self.sigma, factor=self.factor)
        if len({len(row) for row in (*self.sigma, *self.factor)}) > 1:
            raise ValueError("sigma and factor must have as many channels at each lead")
        if not 0 < self.alpha < 1 or self.n < 0:
            raise ValueError("alpha must lie between 0 and 1, and n be 0 or more")

    @staticmethod
    def fit(
        errors: Float[np.ndarray, "forecast lead latitude longitude channel"],
        area: Float[np.ndarray, "latitude longitude"],
        alpha: float = ALPHA,
    ) -> LeadBands:
        """Calibrate on forecasts that training has not seen.

        Raises:
            InputError: they are so few that no finite band has the coverage.
        """
        weights = (area / area.sum()).ravel()
        flat = np.abs(errors).reshape(*errors.shape[:2], -1, errors.shape[-1]).astype(np.float64)
        sigma = np.sqrt(np.einsum("nlpc,p->lc", flat**2, weights) / len(flat))
        # No unit is too small: humidity aloft is 1e-6. The least number keeps 0 from dividing 0.
        sigma = np.maximum(sigma, np.finfo(np.float64).tiny)
        # The quantile over points, each counted by its area.
        order = np.argsort(flat, axis=2)
        reached = np.cumsum(weights[order], axis=2) >= 1 - alpha - 1e-12
        at = np.take_along_axis(order, reached.argmax(axis=2)[:, :, None], axis=2)
        score = np.take_along_axis(flat, at, axis=2)[:, :, 0] / sigma
        factor = [
            tuple(conformal_quantile(score[:, lead, c], alpha) for c in range(score.shape[2]))
            for lead in range(score.shape[1])
        ]
        return LeadBands(tuple(tuple(float(v) for v in row) for row in sigma), tuple(factor), alpha, len(flat))

    def half_width(self, leads: int) -> Float[np.ndarray, "lead channel"]:
        """Half the width of the band.

        Raises:
            ValueError: more leads than it was calibrated for.
        """
        if leads > len(self.sigma):
            raise ValueError(f"bands reach {len(self.sigma)} leads, {leads} are asked for")
        return (np.array(self.sigma) * np.array(self.factor))[:leads]

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {**asdict(self), "sigma": [list(r) for r in self.sigma], "factor": [list(r) for r in self.factor]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> LeadBands:
        """What `to_json` described."""
        return decode(LeadBands, value)


@dataclass(frozen=True)
class WeatherFacts:
    """What travels with the weights.

    Attributes:
        config: how they were trained.
        layout: what the states are.
        scale: see `WeatherScale`.
        labels_fingerprint: of the states that it learned from.
        low, high: smallest and largest value of each channel among them.
        bands: calibrated error bars; None if no states were set aside for them.
        scores: held-out scores, flat, with the unit in the key.
        times_of_day: universal times of the day, hours, that its states had; empty where there are no dates, or where
            an older version trained it.
        months: 1 to 12, those that its states were of; empty as `times_of_day`.
    """

    config: WeatherConfig
    layout: WeatherLayout
    scale: WeatherScale
    labels_fingerprint: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    bands: LeadBands | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    times_of_day: tuple[float, ...] = ()
    months: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        refuse_unlike(channels=self.layout.channels, std=self.scale.std, low=self.low, high=self.high)
        if self.bands is not None and self.bands.sigma:
            refuse_unlike(channels=self.layout.channels, bands=self.bands.sigma[0])
        if not all(0 <= t < 24 for t in self.times_of_day) or not all(1 <= m <= 12 for m in self.months):
            raise ValueError("times_of_day must lie within 0 and 24 hours, and months within 1 and 12")

    def model(
        self,
        usual: Float[np.ndarray, "hour latitude longitude channel"] | None = None,
        static: Float[np.ndarray, "latitude longitude static"] | None = None,
        seed: int = 0,
    ) -> WeatherModel:
        """A model with fresh weights; usual states and static fields of zeros are for weights to be loaded into."""
        config, layout = self.config, self.layout
        if usual is None:
            shape = (*layout.grid.shape, len(layout.channels))
            usual = np.zeros((len(self.scale.hours), *shape), np.float32)
        if static is None:
            static = np.zeros((*layout.grid.shape, len(layout.static)), np.float32)
        return WeatherModel(
            config.network,
            layout,
            self.scale,
            usual,
            static,
            nnx.Rngs(seed),
            members=config.ensemble,
            history=config.history,
            noise=config.noise_dims,
            keep_mass=config.keep_mass,
            sun=config.sun,
            damping=config.damping,
            truncation=config.truncation,
            adjusted=config.adjust_days > 0,
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes equal facts."""
        # Left out where empty, so that a surrogate of an older version keeps its fingerprint.
        times = {"times_of_day": list(self.times_of_day), "months": list(self.months)}
        return {k: v for k, v in times.items() if v} | {
            "config": self.config.to_json(),
            "layout": self.layout.to_json(),
            "scale": self.scale.to_json(),
            "labels_fingerprint": self.labels_fingerprint,
            "low": list(self.low),
            "high": list(self.high),
            "bands": None if self.bands is None else self.bands.to_json(),
            "scores": dict(self.scores),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> WeatherFacts:
        """The facts that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: something lacks or is of a wrong kind.
        """
        return decode(WeatherFacts, value)
