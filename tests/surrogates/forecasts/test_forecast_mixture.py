"""Mixtures of trained forecasters: they err less than each member and than their mean, and are saved as one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hydra import compose, initialize_config_dir
from small_weather import store

from data.errors import InputError
from data.files import write_json
from data.sphere.window_store import WindowStore
from experiments.application.choices import CONF
from experiments.stages.train import task_of, train_task, unused_in_training
from surrogates.forecasts.blend_fit import not_negative
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.fit import scale_of, usual_states
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.programs import programs
from surrogates.forecasts.streaming import forecast_to_zarr
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.saved import load_surrogate

STEPS = 3
PARTS = [60, 20, 20, 20]


def member(windows: WindowStore, size: float, seed: int, **settings: Any) -> ForecastSurrogate:
    """A forecaster whose steps are persistence with errors of their own, of some size."""
    config = ForecastConfig(network=ConvConfig(width=4, blocks=1), steps=STEPS, blend=False, **settings)
    usual, hours = usual_states(windows, (0, 60), "mean")
    statistics = windows.statistics_of((0, 60))
    scale = scale_of(windows, (0, 60), usual, hours, config)
    facts = ForecastFacts(config, windows.layout, scale, windows.fingerprint, statistics.low, statistics.high)
    model = facts.model(usual, seed=seed)
    state = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda weights: size * weights, state))
    return ForecastSurrogate(model, facts)


def training(folder: Path, *overrides: str) -> Any:
    asked = [
        "model=forecast_mixture", "data=forecasts", f"data.file={folder / 'w'}", f"data.parts={PARTS}",
        f"model.members=[{folder / 'a'},{folder / 'b'}]",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*asked, *overrides])


@pytest.fixture(scope="module")
def mixed_run(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Two members, and the run of their mixture."""

    def make(folder: Path) -> None:
        windows = store(folder / "w")
        for name, size, seed in (("a", 0.9, 1), ("b", 0.7, 2)):
            member(windows, size, seed).with_facts(scores={"train/core_seconds": 5.0}).save(folder / name / "surrogate")
        metrics = train_task(task_of(training(folder)), folder / "run", progress=False)
        write_json(folder / "run" / "metrics.json", metrics)

    return once("forecast-mixture", make)


def test_a_mixture_errs_less_than_each_member_and_than_their_mean(mixed_run: Path) -> None:
    windows, mixture = WindowStore.open(mixed_run / "w"), ForecastSurrogate.load(mixed_run / "run" / "surrogate")
    starts = windows.starts(1 + STEPS, (100, 120))
    frames, times = windows.read(starts, 1 + STEPS), windows.times[starts]
    alone = [load_surrogate(mixed_run / name / "surrogate") for name in ("a", "b")]
    said = [one.forecast_arrays(frames[:, :1], times, STEPS)[:, 0] for one in alone]
    answer = mixture.forecast_arrays(frames[:, :1], times, STEPS)[:, 0]

    def errors(forecast: np.ndarray) -> np.ndarray:
        return np.asarray(((forecast - frames[:, 1:]) ** 2).mean(axis=(0, 2, 3)))

    for other in (*said, np.mean(said, axis=0)):
        assert (errors(answer) < 0.5 * errors(other)).all()
    # It is the weighted sum of the anomalies, whatever made them.
    blend = mixture.blend
    assert blend is not None
    assert blend.facts.members == ("a", "b", "damped_persistence", "linear_autoregression")
    anomalies, usual = blend.anomalies(frames[:, :1], times, said[0], 0, said[1:])
    np.testing.assert_allclose(answer, usual + (anomalies * blend.weights).sum(axis=2), rtol=1e-5)
    assert blend.weights.min() >= 0
    assert blend.weights.sum(axis=1).max() <= 1 + 1e-5
    parts = list(mixture.chunks(frames[:, :1], times, STEPS, chunk=2))
    np.testing.assert_allclose(np.concatenate(parts, axis=2)[:, 0], answer, rtol=1e-5)


def test_a_mixture_is_a_surrogate_like_any_other(mixed_run: Path, tmp_path: Path) -> None:
    windows, mixture = WindowStore.open(mixed_run / "w"), load_surrogate(mixed_run / "run" / "surrogate")
    state = windows.dataset((100, 101)).isel(time=0)
    answer = mixture.forecast(state)
    request = mixture.spec.request({n: state[n].values for n in ("temperature", "surface_pressure")})
    np.testing.assert_allclose(mixture.simulate(request)["temperature"].values, answer["temperature"].values)
    assert "temperature_low" in mixture.simulate(request)
    again = pickle.loads(pickle.dumps(mixture))
    assert again.fingerprint == mixture.fingerprint
    np.testing.assert_array_equal(again.forecast(state)["temperature"].values, answer["temperature"].values)
    written = forecast_to_zarr(mixture, windows, np.array([100]), STEPS, tmp_path / "f.zarr", chunk=2)
    assert written.is_dir()
    others = mixture.provenance["members"]
    assert list(others) == ["b"]
    # What it costs includes what its members cost, and its card says what each adds.
    metrics = json.loads((mixed_run / "run" / "metrics.json").read_text())
    assert metrics["train/core_seconds"] > 10.0
    assert mixture.scores["mixture/core_seconds_each/b"] > 0
    weights = {key: value for key, value in metrics.items() if key.startswith("mixture/weight/")}
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert 0 < metrics["mixture/gate_share"] < 1


def test_what_a_mixture_has_no_weights_for_is_refused(mixed_run: Path) -> None:
    mixture = load_surrogate(mixed_run / "run" / "surrogate")
    past, times = np.zeros((1, 1, 6, 12, 2), np.float32), np.array(["2001-01-01"], "datetime64[s]")
    with pytest.raises(InputError, match=r"make one with model\.steps=4"):
        mixture.forecast_arrays(past, times, STEPS + 1)
    with pytest.raises(InputError, match="no state of its own"):
        next(mixture.chunks(past, times, STEPS, blended=False))
    with pytest.raises(InputError, match="no single program"):
        programs(mixture, (), 1)
    other = mixture.others[0].with_facts(labels_fingerprint="0" * 64)
    with pytest.raises(InputError, match="members/b: the forecaster b is another one"):
        type(mixture)(mixture.model, mixture.facts, (other,))


def test_members_that_do_not_fit_are_refused_by_name(mixed_run: Path, tmp_path: Path) -> None:
    windows = WindowStore.open(mixed_run / "w")
    first = member(windows, 0.9, 1)

    def refused(other: ForecastSurrogate, match: str, *overrides: str) -> None:
        other.save(tmp_path / "odd" / "surrogate")
        config = training(mixed_run, f"model.members=[{mixed_run / 'a'},{tmp_path / 'odd'}]", *overrides)
        with pytest.raises(InputError, match=match):
            train_task(task_of(config), tmp_path / "run", progress=False)

    facts = first.facts
    refused(member(windows, 0.9, 1, noise_dims=2), "odd is an ensemble by noise")
    refused(first.with_facts(layout=replace(facts.layout, step_hours=120.0)), r"odd/surrogate: .*120 h")
    refused(first.with_facts(labels_fingerprint="0" * 64), "odd and a learned from other windows")
    spread = replace(facts.scale, std=(2 * facts.scale.std[0], facts.scale.std[1]))
    refused(first.with_facts(scale=spread), "odd was normalised by another spread of temperature_0.5 than a")
    refused(member(windows, 0.9, 1, forcing=("temperature",)), "odd and a differ in model.forcing")
    refused(load_surrogate(mixed_run / "run" / "surrogate"), "odd is a mixture")
    first.save(tmp_path / "odd" / "surrogate")
    write_json(tmp_path / "odd" / "surrogate" / "training.json", {"parts": {"train": [0, 70]}})
    members = f"model.members=[{mixed_run / 'a'},{tmp_path / 'odd'}]"
    with pytest.raises(InputError, match="odd learned from states 0 to 70, some of which are in the valid part"):
        train_task(task_of(training(mixed_run, members)), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="two members are called a"):
        task_of(training(mixed_run, f"model.members=[{mixed_run / 'a'},{mixed_run / 'a' / 'surrogate'}]"))
    with pytest.raises(InputError, match="two trained forecasters or more"):
        task_of(training(mixed_run, "model.members=[]"))
    assert "trains no network" in unused_in_training(training(mixed_run))["model.loss"]


def test_weights_that_are_not_negative_fulfil_the_conditions_of_the_minimum() -> None:
    random = np.random.default_rng(0)
    root = random.normal(size=(40, 4, 4))
    matrix, vector = root @ root.swapaxes(1, 2) + 0.1 * np.eye(4), random.normal(size=(40, 4))
    weights = not_negative(matrix, vector)
    gradient = (matrix @ weights[..., None])[..., 0] - vector
    assert weights.min() >= 0
    assert np.abs(gradient[weights > 0]).max() < 0.05
    assert gradient[weights == 0].min() > -0.05
    assert (weights == 0).any()
