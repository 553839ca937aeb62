"""Trains forecasters on windows of states, and scores them beside persistence and climatology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig, OmegaConf

from data.costs import training_core_seconds
from data.errors import InputError
from data.files import write_json
from data.plain import to_plain
from data.spec import content_hash
from data.sphere.windows import WindowStore
from data.splits import counts
from experiments.application.run_directory import configuration_checked
from experiments.application.stage import build, existing_file, surrogate_directory
from experiments.forecasting.scores import Protocol, plain, score
from experiments.tasks.part_sizes import PARTS, check_parts, refuse_or_say_few
from experiments.tasks.parts import VALIDATION
from surrogates.forecasts.config import WeatherConfig, WeatherSettings
from surrogates.forecasts.fit import fit_weather
from surrogates.forecasts.networks.table import ARCHITECTURES
from surrogates.forecasts.references import ClimatologyForecast, Forecasts, Persistence
from surrogates.forecasts.surrogate import Forecaster
from surrogates.forecasts.training_references import TrainingReferences
from surrogates.learning.devices import is_first
from surrogates.learning.fit_note import note_fit
from surrogates.learning.loop import TrainConfig
from surrogates.learning.resuming import record_training_data
from surrogates.learning.tracking import log_scores

#: Number of forecasts on which a training is scored.
SCORED = 100


@dataclass(frozen=True)
class WindowData:
    """The training data; the keys of `data` in task=weather/...

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


def weather_config(node: DictConfig) -> WeatherConfig:
    """The settings of a forecaster, from the configuration group `model`.

    Raises:
        InputError: an architecture or key is unknown, or a value is out of range.
    """
    name = str(node.network.get("architecture"))
    if name not in ARCHITECTURES:
        raise InputError(
            f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}", where="model.network.architecture"
        )
    inner = OmegaConf.masked_copy(node.network, [str(k) for k in node.network if k != "architecture"])
    outer = OmegaConf.masked_copy(node, [str(k) for k in node if k not in ("kind", "network")])
    network = build(ARCHITECTURES[name][0], inner, where="model.network")
    return WeatherConfig(**vars(build(WeatherSettings, outer, where="model")), network=network)


def train_forecaster(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Run `understudy train task=weather/...`.

    Raises:
        InputError: the store is missing, a key is unknown or a value is out of range.
    """
    data = build(WindowData, config.data, where="data")
    store = WindowStore.open(existing_file(data.file, "data.file"))
    tuned = config.tune.surrogate
    init = None if tuned is None else Forecaster.load(surrogate_directory(tuned, "tune.surrogate"))
    return train_on_windows(
        store,
        data,
        weather_config(config.model),
        build(TrainConfig, config.train, where="train"),
        run_dir,
        init=init,
    )


def train_on_windows(
    store: WindowStore,
    data: WindowData,
    config: WeatherConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    init: Forecaster | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Split, fit, calibrate, score, and save to `run_dir/surrogate`, with its training references.

    Returns:
        Flat metrics: `train/seconds`, `train/core_seconds` (processor time), `train/states`,
        `train/label_core_seconds` where the store tells,
        `train/data_wait_share`, `train/compilations`, and the scores of the test part by lead, or without one of the
        validation part under `valid/`, beside persistence and climatology.

    Raises:
        InputError: a part has too few states, or `run_dir` holds a training on other data.
    """
    parts = split_in_time(len(store), data.parts)
    also = tuple(WindowStore.open(existing_file(path, "data.also")) for path in data.also)
    record_training_data(
        run_dir,
        {
            "states": "".join(s.fingerprint for s in (store, *also)),
            "parts": content_hash({k: list(v) for k, v in parts.items()}),
            "network": content_hash(to_plain(config)),
            "first weights": "" if init is None else init.fingerprint,
        },
    )
    configuration_checked(run_dir)
    if is_first():
        write_json(run_dir / "split.json", {k: list(v) for k, v in parts.items()})

    def span(name: str) -> tuple[int, int] | None:
        return parts[name] if parts[name][1] > parts[name][0] else None

    forecaster, result = fit_weather(
        store, parts["train"], span("valid"), config, training, run_dir, calibration=span("calibration"), also=also,
        init=init, progress=progress,
    )  # fmt: skip
    note_fit(result, run_dir)
    if not is_first():
        return {}
    # The cost of the forecaster to continue from is included.
    before = (0.0, 0.0)
    if init is not None:
        before = (init.scores.get("train/seconds", 0.0), training_core_seconds(init.scores))
    metrics = {
        "train/seconds": before[0] + result.seconds,
        "train/core_seconds": before[1] + result.core_seconds,
        "train/states": float(parts["train"][1] - parts["train"][0] + sum(map(len, also))),
        "train/data_wait_share": result.data_wait_share,
        "train/compilations": float(result.compilations["train"]),
    }
    labels = sum(s.label_cost() for s in (store, *also))
    if np.isfinite(labels):
        metrics["train/label_core_seconds"] = labels
    part = next((name for name in ("test", VALIDATION) if span(name) is not None), None)
    if part is not None:
        metrics |= score_part(forecaster, store, parts["train"], parts[part], part)
    log_scores(run_dir, {k: v for k, v in metrics.items() if k.startswith(f"{part}/")})
    forecaster.with_facts(scores=metrics).save(run_dir / "surrogate")
    TrainingReferences.of(store, parts, config.steps).save(run_dir / "surrogate")
    return metrics


def score_part(
    forecaster: Forecaster, store: WindowStore, train: tuple[int, int], test: tuple[int, int], prefix: str = "test"
) -> dict[str, float]:
    """Scores of a forecaster, of persistence and of climatology on one part, with keys under a prefix."""
    climatology = store.climatology(train)
    steps = forecaster.facts.config.steps
    systems: dict[str, Forecasts] = {
        "forecast": forecaster, "persistence": Persistence(),
        "climatology": ClimatologyForecast(store.layout, climatology),
    }  # fmt: skip
    scores = score(systems, Protocol(store, test, steps, SCORED), climatology)
    metrics = plain(scores, "forecast", prefix)
    for name in ("persistence", "climatology"):
        metrics |= {k: v for k, v in plain(scores, name, f"{prefix}/{name}").items() if "/rmse/" in k}
    metrics[f"{prefix}/forecasts"] = float(scores.attrs["forecasts"])
    return metrics
