"""Trains forecasters on windows of states, and scores them beside persistence and climatology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from data.costs import training_core_seconds
from data.errors import InputError
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import MISSING, build, existing_file
from data.spec import content_hash
from data.sphere.window_store import WindowStore
from data.splits import counts
from surrogates.forecasts.autoregression import LinearAutoregression
from surrogates.forecasts.blend_fit import blended, weight_metrics
from surrogates.forecasts.calibration import calibrate_intervals
from surrogates.forecasts.facts import ForecastConfig, ForecastSettings
from surrogates.forecasts.fit import fit_forecast_surrogate
from surrogates.forecasts.forecast_mixture import (
    MixtureMember,
    MixtureSettings,
    costs_before,
    is_mixture,
    load_members,
    mixed,
    mixture_config,
    mixture_metrics,
    read_settings,
    refuse_learned,
)
from surrogates.forecasts.linear_step import NAMES
from surrogates.forecasts.networks.architectures import ARCHITECTURES
from surrogates.forecasts.references import ClimatologyForecast, DampedPersistence, Forecasts, Persistence
from surrogates.forecasts.scores import Protocol, plain, score
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.forecasts.training_references import TrainingReferences
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.nn.registry import settings_of_surrogate
from surrogates.learning.part_sizes import PARTS, check_parts, refuse_or_say_few
from surrogates.learning.rung import FittedRung, Rung
from surrogates.learning.task import VALIDATION, Task
from surrogates.saved import surrogate_directory

#: Number of forecasts on which a training is scored.
SCORED = 100


@dataclass(frozen=True)
class ForecastData:
    """The training data; the keys of `data` for forecasters

    Attributes:
        file: store that `understudy windows` wrote.
        parts: fractions or counts of the states, in the order of time and of `PARTS`.
        also: more stores to train on, such as simulations from states to which a forecaster drifted.

    Raises:
        ValueError: the parts are not four numbers of 0 or more.
    """

    file: str = MISSING
    parts: list[Any] = field(default_factory=lambda: [0.75, 0.05, 0.1, 0.1])
    also: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_parts(self.parts, 0)


def split_in_time(states: int, parts: list[Any]) -> dict[str, tuple[int, int]]:
    """[start, stop) of each part, one after the other in time.

    Raises:
        InputError: the parts do not fit the number of states, or leave too few to train on.
    """
    asked = dict(zip(PARTS, parts, strict=True))
    sizes: Mapping[str, int] = counts(asked, states)
    refuse_or_say_few(sizes, states, asked, least=2, unit="state")
    ends = np.cumsum([sizes[name] for name in PARTS])
    return {name: (int(end - sizes[name]), int(end)) for name, end in zip(PARTS, ends, strict=True)}


@dataclass(frozen=True)
class TrainingWindows:
    """The states of a training.

    Attributes:
        store: states that are split in time.
        also: more states to train on.
    """

    store: WindowStore
    also: tuple[WindowStore, ...] = ()


@dataclass(frozen=True)
class ForecastParts:
    """The parts of the states.

    Attributes:
        read: all states.
        spans: [start, stop) of each part.
    """

    read: TrainingWindows
    spans: Mapping[str, tuple[int, int]]

    def span(self, name: str) -> tuple[int, int] | None:
        """[start, stop) of a part; None if it is empty."""
        start, stop = self.spans[name]
        return (start, stop) if stop > start else None


@dataclass(frozen=True)
class ForecastTask(Task[TrainingWindows, ForecastParts, ForecastSurrogate]):
    """A training on states in the order of time, from fresh weights or from those of a trained forecaster.

    Attributes:
        data: stores and parts.
        config: settings of the forecaster.
        training: training recipe.
        init: forecaster to continue from, if any; the new one stands on what it stands on.
        on: the linear step on which a new one is to stand, one of `FITTED_RUNGS`; None for none.
        members: of a mixture, the trained forecasters; empty where networks are trained.
    """

    data: ForecastData
    config: ForecastConfig
    training: TrainConfig
    init: ForecastSurrogate | None = None
    on: str | None = None
    members: tuple[MixtureMember, ...] = ()

    KIND = "forecasts"
    DATA = ForecastData
    FITTED_RUNGS = NAMES
    EVALUATED_WITH = frozenset()

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        data = build(ForecastData, settings["data"], where="data")
        asked = cls.model_settings(settings["model"])
        training = build(TrainConfig, settings["train"], where="train")
        if isinstance(asked, MixtureSettings):
            members = load_members(asked)
            return cls(data, mixture_config(members, asked), training, members=members)
        tuned = settings["tune"]["surrogate"]
        init = None if tuned is None else ForecastSurrogate.load(surrogate_directory(tuned, "tune.surrogate"))
        name = on.name if isinstance(on, FittedRung) and init is None else None
        return cls(data, asked, training, init, name)

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> ForecastConfig | MixtureSettings:
        """The settings of the surrogate; see `Task.model_settings`."""
        if is_mixture(node):
            return read_settings(node)
        return settings_of_surrogate(ForecastSettings, ForecastConfig, node, ARCHITECTURES)

    @classmethod
    def unused_in_training(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings of `tune` that only potentials have, and the baseline; see `Task.unused_in_training`."""
        why = "a forecaster is fine-tuned by tune.surrogate alone"
        others = {f"tune.{name}": why for name in ("head", "replay", "replay_frames", "frozen_body", "new_elements")}
        if settings["tune"]["surrogate"] is not None:
            others["on"] = "a forecaster that is fine-tuned stands on what it stood on before"
        every = super().unused_in_training(settings)
        if is_mixture(settings["model"]):
            why = "a mixture of forecasters trains no network"
            keys = (
                "train",
                "tune",
                "on",
                "data.also",
                *(f"model.{key}" for key in ForecastConfig.__dataclass_fields__),
            )
            return {**every, **{key: why for key in keys if key != "model.steps"}}
        return {**{key: why for key, why in every.items() if key != "tune"}, **others}

    def read(self, rejects: RejectLog | None, readings: list[Reading]) -> TrainingWindows:
        """The stores of `data.file` and `data.also`."""
        store = WindowStore.open(existing_file(self.data.file, "data.file"))
        return TrainingWindows(
            store, tuple(WindowStore.open(existing_file(path, "data.also")) for path in self.data.also)
        )

    def split(self, data: TrainingWindows, run_dir: Path, *, progress: bool = True) -> ForecastParts:
        """Split the states into parts that follow each other in time."""
        return ForecastParts(data, split_in_time(len(data.store), self.data.parts))

    def rows(self, parts: ForecastParts) -> dict[str, list[int]]:
        """[start, stop) of each part."""
        return {name: list(span) for name, span in parts.spans.items()}

    def identity(self, parts: ForecastParts) -> dict[str, str]:
        """Hashes of the states, of the settings, and of the forecaster to continue from."""
        return {
            "states": "".join(s.fingerprint for s in (parts.read.store, *parts.read.also)),
            "parts": content_hash(self.rows(parts)),
            "network": content_hash(to_plain(self.config) if self.on is None else [to_plain(self.config), self.on]),
            "first weights": "" if self.init is None else self.init.fingerprint,
            **({"forecasters": content_hash([m.forecaster.fingerprint for m in self.members])} if self.members else {}),
        }

    def fit(self, parts: ForecastParts, run_dir: Path, *, progress: bool = True) -> tuple[ForecastSurrogate, FitResult]:
        """Train a forecaster, or fit the weights of a mixture; see `surrogates.forecasts.fit` and `mixture`.

        Raises:
            InputError: a part is too short, for the training or for what follows it.
        """
        _refuse_short(parts, self.config.history + self.config.steps)
        valid = parts.span("valid")
        if self.members:
            refuse_learned(self.members, parts.read.store, parts.spans)
            return mixed(self.members, parts.read.store, parts.spans["train"], valid, self.config)
        forecaster, result = fit_forecast_surrogate(
            parts.read.store,
            parts.spans["train"],
            parts.span("valid"),
            self.config,
            self.training,
            run_dir,
            also=parts.read.also,
            init=self.init,
            on=self.on,
            progress=progress,
        )
        if not self.config.blend or valid is None:
            return forecaster, result
        return blended(forecaster, result, parts.read.store, parts.spans["train"], valid)

    def calibrate(self, surrogate: ForecastSurrogate, parts: ForecastParts) -> ForecastSurrogate:
        """The forecaster with bands, if states are set aside for them; see `surrogates.forecasts.calibration`."""
        span = parts.span("calibration")
        return surrogate if span is None else calibrate_intervals(surrogate, parts.read.store, span)

    def costs(self, parts: ForecastParts, result: FitResult) -> dict[str, float]:
        """The number of training states, and the costs with those of the forecasters that were trained before."""
        stores = (parts.read.store, *parts.read.also)
        start, stop = parts.spans["train"]
        metrics = {"train/states": float(stop - start + sum(map(len, parts.read.also)))}
        if self.init is not None:
            before = self.init.scores
            metrics["train/seconds"] = before.get("train/seconds", 0.0) + result.seconds
            metrics["train/core_seconds"] = training_core_seconds(before) + result.core_seconds
        if self.members:
            metrics |= costs_before(self.members, result)
        labels = sum(s.label_cost() for s in stores)
        if np.isfinite(labels):
            metrics["train/label_core_seconds"] = labels
        return metrics

    def score(self, surrogate: ForecastSurrogate, parts: ForecastParts) -> dict[str, float]:
        """Scores of the test part by lead, or without one of the validation part."""
        for name in ("test", VALIDATION):
            span = parts.span(name)
            if span is not None:
                scores = score_part(surrogate, parts.read.store, parts.spans["train"], span, name, parts.span("valid"))
                return weight_metrics(surrogate) | mixture_metrics(surrogate, parts.read.store, span) | scores
        return {}

    def save(
        self, surrogate: ForecastSurrogate, parts: ForecastParts, metrics: Mapping[str, float], directory: Path
    ) -> None:
        """Save the forecaster with its metrics and its training references."""
        surrogate.with_facts(scores=metrics).save(directory)
        references = TrainingReferences.of(parts.read.store, dict(parts.spans), self.config.steps, self.config.history)
        references.save(directory)

    @classmethod
    def evaluate(
        cls,
        surrogate: ForecastSurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Refuse files, because forecasts are compared with references by a protocol.

        Raises:
            InputError: there are files.
        """
        if files:
            raise InputError(
                "a forecaster is not scored on files of samples",
                where="data.test",
                remedy="Give forecasts=held_out forecasts.file=WINDOWS",
            )
        return {}


def _refuse_short(parts: ForecastParts, frames: int) -> None:
    """Refuse parts that could not be scored or calibrated, before hours of training."""
    scored = next((name for name in ("test", VALIDATION) if parts.span(name) is not None), None)
    for name in filter(None, ("calibration", scored)):
        span = parts.span(name)
        if span is not None and not len(parts.read.store.starts(frames, span)):
            raise InputError(
                f"the {name} part has no {frames} states that follow one another",
                where="data.parts",
                remedy="Give it more, or lower model.steps",
            )


def score_part(
    forecaster: ForecastSurrogate,
    store: WindowStore,
    train: tuple[int, int],
    test: tuple[int, int],
    prefix: str = "test",
    valid: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Scores of a forecaster and of references on one part, with keys under a prefix.

    References are persistence, climatology, damped persistence and, if the training and validation parts have windows
    enough, the linear autoregression. `PREFIX/rmse_over_best_reference/LEADh` is the mean over channels of the ratio of
    the forecaster's error to the least one of a reference.
    """
    climatology = store.climatology(train)
    steps = forecaster.facts.config.steps
    systems: dict[str, Forecasts] = {
        "forecast": forecaster, "persistence": Persistence(),
        "climatology": ClimatologyForecast(store.layout, climatology),
    }  # fmt: skip
    if len(store.starts(1 + steps, train)):
        systems["damped_persistence"] = DampedPersistence.fit(store, train, climatology, steps)
    past = max(2, forecaster.history)
    if valid is not None and all(len(store.starts(past + steps, part)) for part in (train, valid)):
        systems["linear_autoregression"] = LinearAutoregression.fit(store, train, valid, climatology, steps, past)
    protocol = Protocol(store, test, steps, SCORED)
    if not len(store.starts(max(s.history for s in systems.values()) + steps, test)):
        systems.pop("linear_autoregression", None)
    scores = score(systems, protocol, climatology)
    metrics = plain(scores, "forecast", prefix)
    others = [name for name in systems if name != "forecast"]
    for name in others:
        metrics |= {k: v for k, v in plain(scores, name, f"{prefix}/{name}").items() if "/rmse/" in k}
    alone = [c.label for c in store.layout.channels if c.variable not in forecaster.facts.config.forcing]
    rmse = scores["rmse"].isel(region=0).sel(channel=alone)
    ratio = (rmse.sel(system="forecast") / rmse.sel(system=others).min("system").clip(min=1e-30)).mean("channel")
    hours = (protocol.lead_times / np.timedelta64(1, "h")).astype(float)
    for k in sorted({0, len(hours) // 2, len(hours) - 1}):
        metrics[f"{prefix}/rmse_over_best_reference/{hours[k]:g}h"] = float(ratio.values[k])
    metrics[f"{prefix}/forecasts"] = float(scores.attrs["forecasts"])
    return metrics
