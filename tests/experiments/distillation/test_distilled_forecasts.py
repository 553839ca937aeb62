"""Forecasters that take several steps of their teacher at once: their states, its answers, and their scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from hydra import compose, initialize_config_dir
from small_weather import store

from data.errors import InputError
from data.sphere.window_store import WindowStore
from experiments.application.choices import CONF
from experiments.stages.distil import distil, unused_in_distillation
from surrogates.forecasts.batches import WindowBatches
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.fit import scale_of, usual_states
from surrogates.forecasts.longer_steps import LongSteps, known_starts, longer_steps, write_answers
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.saved import load_surrogate

SPANS = {"train": (0, 70), "valid": (70, 90), "calibration": (90, 90), "test": (90, 120)}


@pytest.fixture(scope="module")
def windows(once: Callable[[str, Callable[[Path], object]], Path]) -> WindowStore:
    return WindowStore.open(once("small-weather", lambda folder: store(folder / "w")) / "w")


def persistence(windows: WindowStore, **settings: Any) -> ForecastSurrogate:
    """A forecaster that keeps the present state."""
    config = ForecastConfig(network=ConvConfig(width=4, blocks=1), steps=4, blend=False, **settings)
    usual, hours = usual_states(windows, (0, 70), "mean")
    statistics = windows.statistics_of((0, 70))
    scale = scale_of(windows, (0, 70), usual, hours, config)
    facts = ForecastFacts(config, windows.layout, scale, windows.fingerprint, statistics.low, statistics.high)
    model = facts.model(usual)
    nnx.update(model, nnx.map_state(lambda path, weights: 0 * weights, nnx.state(model, nnx.Param)))
    return ForecastSurrogate(model, facts)


def test_longer_steps_keep_every_state_and_every_part(windows: WindowStore, tmp_path: Path) -> None:
    long = longer_steps(windows, SPANS, 3, tmp_path / "long")
    assert long.layout.step_hours == 72.0
    short, states = windows.read(np.array([0]), 120)[0], long.read(np.array([0]), 120)[0]
    for low, high in SPANS.values():
        order = np.argsort(long.times[low:high], kind="stable")
        np.testing.assert_array_equal(states[low:high][order], short[low:high])
    for start in long.starts(2):
        assert long.times[start + 1] - long.times[start] == np.timedelta64(3, "D")
    # 20 states make two records of 7 and one of 6, and none has states of two parts.
    assert [b - a for a, b in long.segments[:3]] == [7, 7, 6]
    assert all(any(low <= a < b <= high for low, high in SPANS.values()) for a, b in long.segments)
    assert longer_steps(windows, SPANS, 2, tmp_path / "other").fingerprint != long.fingerprint


def test_answers_are_forecasts_at_the_leads_of_the_student(windows: WindowStore, tmp_path: Path) -> None:
    teacher = persistence(windows, damping=0.5)
    present, outside = known_starts(teacher, windows, (0, 70), 3)
    assert not outside
    assert len(present) == 3 * 18 + 8
    answers = write_answers(teacher, windows, present, 2, (2, 2), tmp_path / "answers", 0)
    assert [b - a for a, b in answers.segments] == [4] * len(present)
    frames = answers.read(np.array([a for a, _ in answers.segments]), 4)
    np.testing.assert_array_equal(frames[:, 0], windows.read(present - 2, 1)[:, 0])
    np.testing.assert_array_equal(frames[:, 1], windows.read(present, 1)[:, 0])
    said = teacher.forecast_arrays(windows.read(present, 1), windows.times[present], 4)[:, 0]
    np.testing.assert_allclose(frames[:, 2:], said[:, [1, 3]], rtol=1e-6)
    cold = teacher.with_facts(high=tuple(low + 1e-3 for low in teacher.facts.low))
    assert not len(known_starts(cold, windows, (0, 70), 3)[0])
    # Windows of the answers count with their own weight.
    long = longer_steps(windows, SPANS, 2, tmp_path / "long")
    batches = WindowBatches(long, (0, 70), 8, 2, 2, 0, also=(answers,), weights=(1.0, 0.25))
    weights = np.concatenate([batch.weight for batch in batches.epoch(0)])
    assert set(weights.tolist()) == {1.0, 0.25}
    assert (weights == 0.25).sum() > (weights == 1.0).sum()


def test_long_steps_say_nothing_between_them(windows: WindowStore) -> None:
    student = persistence(windows, damping=0.5, history=2)
    long = LongSteps(student, 3)
    past, times = windows.read(np.array([5]), long.history), windows.times[[8]]
    said = long.forecast_arrays(past, times, 6)[0, 0]
    expected = student.forecast_arrays(past[:, [0, 3]], times, 2)[0, 0]
    np.testing.assert_array_equal(said[[2, 5]], expected)
    assert np.isnan(said[[0, 1, 3, 4]]).all()


def settings(folder: Path, windows: WindowStore, *overrides: str) -> Any:
    asked = [
        f"teacher={folder / 'teacher'}", f"inputs={windows.path}", f"data.train={windows.path}",
        "data.parts=[70,20,0,30]", "lessons.every=2", "weights.answers=0.01", "model=latlon_conv", "train=forecasts",
        "model.network.width=8", "model.network.blocks=1", "model.network.patch=1", "model.steps=2",
        "train.epochs=12", "train.learning_rate=1e-2", "train.mlflow=false", f"out={folder / 'run'}",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("distil", [*asked, *overrides])


def test_a_student_errs_less_than_a_teacher_that_errs(windows: WindowStore, tmp_path: Path) -> None:
    teacher = persistence(windows)
    teacher.save(tmp_path / "teacher" / "surrogate")
    distil(settings(tmp_path, windows), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # The wave goes on by a quarter of its length in three days: persistence errs as much as climatology, or more.
    for lead in (48, 96):
        assert metrics[f"teacher/test/crps_{lead}h"] > 0.9
        assert metrics[f"student/test/crps_{lead}h"] < 0.6
        assert metrics[f"alone/test/crps_{lead}h"] > 0
    assert metrics["distil/answered"] == 70
    assert metrics["distil/steps"] == 2
    assert metrics["distil/speedup"] > 0
    student = load_surrogate(tmp_path / "run" / "surrogate")
    assert student.layout.step_hours == 48.0
    assert student.taught_by.fingerprint == teacher.fingerprint
    assert student.labels_fingerprint == WindowStore.open(tmp_path / "run" / "windows").fingerprint
    page = (tmp_path / "run" / "report.html").read_text()
    assert "crps 48h" in page


def test_what_has_no_student_is_refused_before_the_teacher_is_asked(windows: WindowStore, tmp_path: Path) -> None:
    persistence(windows).save(tmp_path / "teacher" / "surrogate")
    for match, *overrides in (
        ("come from true states", "data.train=null"),
        ("no usual states of the days before", "model.usual=day"),
        ("no 41 states that follow one another", "model.history=21"),
    ):
        config = settings(tmp_path, windows, *overrides)
        with pytest.raises(InputError, match=match):
            distil(config, tmp_path / "refused")
    assert not (tmp_path / "refused" / "answers").exists()
    mixed = settings(tmp_path, windows)
    mixed.model = {"kind": "forecasts", "members": []}
    with pytest.raises(InputError, match="a mixture learns no answers"):
        distil(mixed, tmp_path / "refused")
    unused = unused_in_distillation(settings(tmp_path, windows))
    assert {"weights.forces", "data.seed", "dynamics"} <= set(unused)
