"""Settings of a forecaster, its calibrated bands, and the facts that are saved with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from flax import nnx
from jaxtyping import Float

from data.plain import FLAT, OMIT_DEFAULT, written_as
from data.sphere.weather_layout import WeatherLayout
from surrogates.forecasts.lead_blend import LeadBlendFacts
from surrogates.forecasts.linear_step import LinearStepFacts
from surrogates.forecasts.loss import ForecastLossSettings
from surrogates.forecasts.model import ForecastModel, ForecastScale
from surrogates.forecasts.networks.architectures import ARCHITECTURES
from surrogates.learning.conformal import ALPHA, conformal_factor
from surrogates.learning.normalise import refuse_unlike
from surrogates.learning.teaching import Teacher

USUAL = ("none", "mean", "hour", "day")


@dataclass(frozen=True)
class ClimateSettings:
    """How the climate of a forecaster is adjusted after training; see `surrogates.forecasts.adjustment`.

    Attributes:
        days: length of the free runs in which the climate is adjusted; 0 for no adjustment.
        runs: number of these runs.

    Raises:
        ValueError: a number is out of range.
    """

    days: float = field(default=0.0, metadata=written_as("adjust_days"))
    runs: int = field(default=32, metadata=written_as("adjust_runs"))

    def __post_init__(self) -> None:
        if self.days < 0 or self.runs < 1:
            raise ValueError("climate.days must be 0 or more, and climate.runs 1 or more")


@dataclass(frozen=True)
class ForecastSettings:
    """Settings of a forecaster and of its training.

    Attributes:
        ensemble: number of networks, trained independently; their mean is the forecast.
        history: number of past anomalies that a network sees, the present one included.
        noise_dims: length of the noise vector that makes one network an ensemble; 0 for a deterministic forecast.
        usual: state that anomalies are differences from: "none" (the mean of each channel), "mean" (of each point),
            "hour" (of each point at each hour of the day), or "day" (states of the days before, which need that much
            more of the past).
        day_weights: for "day", weights of yesterday, of the day before it, and so on; their sum is 1.
        keep_mass: whether a step keeps the area mean of surface pressure.
        keep_means: whether the area means of anomalies decay as they did in the training, whatever the network says:
            they hardly change in a step, and small errors of a network there add up in a long run.
        mirror: whether training mirrors half of its windows at the equator, which doubles the data where the forcing of
            both hemispheres is the same and no static field differs between them.
        sun: whether networks see the sun's light and the time of year, where times are dates.
        damping: share of an anomaly that is left after a step in which the network adds nothing.
        truncation: largest total wavenumber of what a step adds; None keeps all.
        forcing: variables that are inputs and not forecast, such as sea surface temperature; in a forecast they keep
            their anomaly, or follow the linear step.
        diagnostic: variables that are forecast and not fed back, such as precipitation: no step sees them.
        blend: whether forecasts are blended at each lead with damped persistence, a linear autoregression and
            climatology, by weights that the validation part decides; see `surrogates.forecasts.lead_blend`.
        steps: default number of steps of a forecast.
        loss: settings of the loss.
        climate: how the climate is adjusted after training.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    ensemble: int = 1
    history: int = 1
    noise_dims: int = 0
    usual: str = "mean"
    day_weights: tuple[float, ...] = (1.0,)
    keep_mass: bool = False
    keep_means: bool = False
    mirror: bool = False
    sun: bool = True
    damping: float = 1.0
    truncation: int | None = None
    forcing: tuple[str, ...] = field(default=(), metadata=OMIT_DEFAULT)
    diagnostic: tuple[str, ...] = field(default=(), metadata=OMIT_DEFAULT)
    blend: bool = field(default=True, metadata=OMIT_DEFAULT)
    steps: int = 10
    loss: ForecastLossSettings = field(default_factory=ForecastLossSettings, metadata=FLAT)
    climate: ClimateSettings = field(default_factory=ClimateSettings, metadata=FLAT)

    def __post_init__(self) -> None:
        object.__setattr__(self, "day_weights", tuple(float(w) for w in self.day_weights))
        for name in ("forcing", "diagnostic"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if both := sorted({*self.forcing} & {*self.diagnostic}):
            raise ValueError(f"{both[0]} is either an input (forcing) or an output (diagnostic)")
        if self.usual == "day" and self.diagnostic:
            raise ValueError("diagnostic needs usual states of the training, because those of the day before are seen")
        if not self.day_weights or abs(sum(self.day_weights) - 1) > 1e-6:
            raise ValueError(f"day_weights must add up to 1, got {self.day_weights}")
        if min(self.ensemble, self.history, self.steps) < 1 or self.noise_dims < 0:
            raise ValueError("ensemble, history and steps must be 1 or more, and noise_dims 0 or more")
        if not 0 <= self.damping <= 1:
            raise ValueError(f"damping must lie within 0 and 1, got {self.damping}")
        if self.noise_dims and self.loss.draws < 2:
            raise ValueError(f"a fair CRPS needs 2 draws or more, got {self.loss.draws}")
        if self.usual not in USUAL:
            raise ValueError(f"usual must be one of {', '.join(USUAL)}, got {self.usual!r}")
        if self.keep_means and self.usual == "day":
            raise ValueError("keep_means needs usual states that are those of the training, not of the day before")
        if self.climate.days and (self.truncation is None or self.usual == "day"):
            raise ValueError("climate.days needs a truncation, and usual states that are those of the training")
        if self.loss.spectral_weight and self.truncation is None:
            raise ValueError("loss.spectral_weight needs a truncation")


@dataclass(frozen=True)
class ForecastConfig(ForecastSettings):
    """The settings, and the network of each member."""

    network: Annotated[Any, ARCHITECTURES] = field(kw_only=True)


@dataclass(frozen=True)
class LeadBands:
    """Calibrated error bars of forecasts, by lead and channel.

    A band contains the truth at a share 1 - alpha of the points of a field, by area, for a share 1 - alpha of the
    forecasts that are exchangeable with those of the calibration. Times of one record are only partly exchangeable,
    which a test on later times shows.

    Attributes:
        sigma: root mean square error by lead and channel, in the unit of the channel.
        factor: half width of the band by lead and channel, in units of sigma.
        alpha: share of points, and of forecasts, that may lie outside.
        n: number of forecasts of the calibration.
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
            InputError: there are so few forecasts that no finite band has the coverage.
        """
        weights = (area / area.sum()).ravel()
        flat = np.abs(errors).reshape(*errors.shape[:2], -1, errors.shape[-1]).astype(np.float64)
        sigma = np.sqrt(np.einsum("nlpc,p->lc", flat**2, weights) / len(flat))
        # The floor is the least positive number, to avoid 0 / 0: humidity aloft is 1e-6, so no larger one suits.
        sigma = np.maximum(sigma, np.finfo(np.float64).tiny)
        factor = [
            tuple(conformal_factor(flat[:, lead, :, c] / sigma[lead, c], alpha, weights) for c in range(flat.shape[3]))
            for lead in range(flat.shape[1])
        ]
        return LeadBands(tuple(tuple(float(v) for v in row) for row in sigma), tuple(factor), alpha, len(flat))

    def half_width(self, leads: int) -> Float[np.ndarray, "lead channel"]:
        """Half the width of the band, in the unit of each channel.

        Raises:
            ValueError: the band is not calibrated for so many leads.
        """
        if leads > len(self.sigma):
            raise ValueError(f"bands reach {len(self.sigma)} leads, {leads} are asked for")
        return (np.array(self.sigma) * np.array(self.factor))[:leads]


@dataclass(frozen=True)
class ForecastFacts:
    """The facts that are saved with the weights of a forecaster.

    Attributes:
        config: settings and networks.
        layout: layout of the states.
        scale: scales of the channels.
        labels_fingerprint: fingerprint of the states that the forecaster learned from.
        low, high: smallest and largest value of each channel among these states.
        bands: calibrated error bars; None if no states were set aside for them.
        scores: held-out scores, flat, with the unit in the key.
        times_of_day: universal times of the day, in hours, of these states; empty where there are no dates, or where
            an older version trained the forecaster.
        months: months of these states, 1 to 12; empty where `times_of_day` is.
        first: the linear step on which the forecaster stands; None for none.
        blend: the simpler forecasts with which its own are blended; None for none.
        taught_by: the teacher whose answers it learned beside the states; None for none.
    """

    config: ForecastConfig
    layout: WeatherLayout
    scale: ForecastScale
    labels_fingerprint: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    bands: LeadBands | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    #: Surrogates of earlier versions lack these two, and must keep their fingerprint.
    times_of_day: tuple[float, ...] = field(default=(), metadata=OMIT_DEFAULT)
    months: tuple[int, ...] = field(default=(), metadata=OMIT_DEFAULT)
    first: LinearStepFacts | None = field(default=None, metadata=OMIT_DEFAULT)
    blend: LeadBlendFacts | None = field(default=None, metadata=OMIT_DEFAULT)
    taught_by: Teacher | None = field(default=None, metadata=OMIT_DEFAULT)

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
    ) -> ForecastModel:
        """A model with fresh weights; usual states and static fields that are not passed are 0."""
        config, layout = self.config, self.layout
        if usual is None:
            shape = (*layout.grid.shape, len(layout.channels))
            usual = np.zeros((len(self.scale.hours), *shape), np.float32)
        if static is None:
            static = np.zeros((*layout.grid.shape, len(layout.static)), np.float32)
        return ForecastModel(
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
            adjusted=config.climate.days > 0,
            forcing=config.forcing,
            diagnostic=config.diagnostic,
            on=self.first,
            blend=self.blend,
        )
