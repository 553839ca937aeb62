"""Distils a forecaster of short steps into one that takes several of them at once.

The student learns the true states that many steps apart, and the forecasts of its teacher for states of its domain,
each with a weight. True states alone choose its weights, blend and calibrate it, and give the scores: the mean over
channels of the CRPS over that of climatology, which of a single forecast is the mean absolute error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.plain import to_plain
from data.reading_summary import Reading
from data.settings import existing_file
from data.spec import content_hash
from data.sphere.window_store import WindowStore
from data.terminal import progress_bar
from experiments.application.run_directory import configuration_checked
from experiments.application.stage import reading_shown
from experiments.application.stage_costs import Ledger
from experiments.distillation.comparison import ratios, write_card
from experiments.distillation.costs import (
    at_equal_time,
    core_seconds_each,
    fit_costs,
    spent_and_saved,
    teacher_costs,
)
from experiments.distillation.settings import DistilRequest
from surrogates.forecasts.blend_fit import blended
from surrogates.forecasts.calibration import calibrate_intervals
from surrogates.forecasts.facts import ForecastConfig
from surrogates.forecasts.fit import fit_forecast_surrogate
from surrogates.forecasts.longer_steps import LongSteps, known_starts, layout_of_steps, longer_steps, write_answers
from surrogates.forecasts.references import ClimatologyForecast
from surrogates.forecasts.scores import Protocol, score
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.forecasts.task import ForecastTask, split_in_time
from surrogates.forecasts.training_references import TrainingReferences
from surrogates.learning.fit_note import note_fit
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.resuming import record_training_data
from surrogates.learning.teaching import Teacher

Part = tuple[int, int]
#: Members of an ensemble that is scored and timed, most forecasts that are scored, and those that are timed at once.
MEMBERS, SCORED, TIMED = 16, 100, 8


@dataclass(frozen=True)
class TrueWindows:
    """True states of the teacher's step and of the student's, in the same parts.

    Attributes:
        short: states of the teacher's step.
        long: the same states in the steps of the student.
        spans: [start, stop) of each part, in both.
        every: steps of the teacher in one of the student.
    """

    short: WindowStore
    long: WindowStore
    spans: Mapping[str, Part]
    every: int

    def span(self, name: str) -> Part | None:
        """[start, stop) of a part; None if it is empty."""
        start, stop = self.spans[name]
        return (start, stop) if stop > start else None


def distil_forecasts(
    teacher: ForecastSurrogate, directory: Path | None, request: DistilRequest, run_dir: Path
) -> dict[str, float]:
    """Distil a forecaster, score everything, and save the student to `run_dir/surrogate`; see `distil_properties`."""
    if directory is None:
        raise InputError(
            "a simulator of the atmosphere teaches by its states", where="simulator",
            remedy="Run understudy simulate and windows, and train on these; or name a forecaster with teacher=DIR",
        )  # fmt: skip
    config, every = _config(request), request.lessons.every
    if request.data.train is None:
        raise InputError(
            "scales, intervals and scores of a forecaster come from true states", where="data.train",
            remedy="Give data.train=WINDOWS, such as those of the training of the teacher",
        )  # fmt: skip
    short = _opened(request.data.train, "data.train", teacher)
    asked = _opened(request.inputs, "inputs", teacher)
    if teacher.others and teacher.facts.config.steps < every * config.loss.unroll:
        raise InputError(
            f"the teacher mixes forecasts of {teacher.facts.config.steps} steps at most", where="lessons.every",
            remedy="Lower it or model.loss.unroll, or mix forecasts of more model.steps",
        )  # fmt: skip
    spans = split_in_time(len(short), request.data.parts)
    facts = {
        "windows": short.fingerprint + content_hash({name: list(span) for name, span in spans.items()}),
        "inputs": asked.fingerprint,
        "teacher": teacher.fingerprint,
        "network": content_hash([to_plain(config), every]),
    }
    readings: list[Reading] = []
    with reading_shown(readings, run_dir):
        present, left = _present(teacher, asked, short, spans, config, request)
        record_training_data(run_dir, facts, begun=(run_dir / "answers").exists())
        configuration_checked(run_dir)
        truth = TrueWindows(short, longer_steps(short, spans, every, run_dir / "windows"), spans, every)
        ledger, frames = Ledger(run_dir / "costs.json"), (config.history, config.loss.unroll)
        with (
            ledger.stage("answers of the teacher", item="forecast") as cost,
            progress_bar("answers of the teacher", len(present) * sum(frames)) as bar,
        ):
            lessons = write_answers(
                teacher, asked, present, every, frames, run_dir / "answers", request.lessons.seed, bar.advance
            )
            cost.items = len(present)
        hours = f"{lessons.layout.step_hours:g} h"
        said = {"answers": f"{len(present):,} forecasts of {config.loss.unroll} steps of {hours}"}
        readings.append(
            Reading(str(request.inputs), "states for the teacher", "states", len(asked), len(present), said, left)
        )
    return _distilled(teacher, directory, request, config, truth, lessons, len(present), ledger, run_dir)


def _config(request: DistilRequest) -> ForecastConfig:
    """The settings of the student.

    Raises:
        InputError: it is a mixture, or its usual states are those of the days before.
    """
    config = ForecastTask.model_settings(request.model)
    if not isinstance(config, ForecastConfig):
        raise InputError("a mixture learns no answers", where="model", remedy="Choose a network, such as model=sfno")
    if config.usual == "day":
        raise InputError(
            "a step of several days has no usual states of the days before",
            where="model.usual",
            remedy="Set it to mean",
        )
    return config


def _opened(path: str | None, key: str, teacher: ForecastSurrogate) -> WindowStore:
    store = WindowStore.open(existing_file(path, key))
    teacher.layout.refuse_other_states(store.layout, key, "those of the teacher")
    return store


def _present(
    teacher: ForecastSurrogate,
    asked: WindowStore,
    short: WindowStore,
    spans: Mapping[str, Part],
    config: ForecastConfig,
    request: DistilRequest,
) -> tuple[np.ndarray, dict[str, int]]:
    """Rows of the states that the teacher is asked about, and for each reason how many others are left out.

    Raises:
        InputError: none is left.
    """
    same_record = asked.fingerprint == short.fingerprint
    part = spans["train"] if same_record else (0, len(asked))
    reach = max((config.history - 1) * request.lessons.every + 1, teacher.history)
    rows, outside = known_starts(teacher, asked, part, reach)
    left = {"outside of the domain of the teacher": outside}
    if same_record:
        left["held out"] = len(asked) - (part[1] - part[0])
    elif asked.layout.calendar:
        # Another record of the same weather must not tell what is held out.
        out = np.isin(asked.times[rows], short.times[spans["train"][1] :])
        rows, left["held out"] = rows[~out], int(out.sum())
    count = request.lessons.count
    if count is not None and count < len(rows):
        rows = np.sort(np.random.default_rng(request.lessons.seed).choice(rows, count, replace=False))
    if not len(rows):
        raise InputError(
            f"no {reach} states that follow one another lie in the domain of the teacher and are not held out",
            where="inputs", remedy="Give windows like those that it learned from",
        )  # fmt: skip
    return rows, {reason: number for reason, number in left.items() if number}


def _distilled(
    teacher: ForecastSurrogate,
    directory: Path,
    request: DistilRequest,
    config: ForecastConfig,
    truth: TrueWindows,
    lessons: WindowStore,
    answered: int,
    ledger: Ledger,
    run_dir: Path,
) -> dict[str, float]:
    weights, training = request.weights, request.training
    taught = Teacher(
        teacher.name, teacher.fingerprint, teacher.labels_fingerprint, answered,
        {"labels": weights.labels, "answers": weights.answers},
    )  # fmt: skip
    shared = {"windows": truth.long.fingerprint, "network": content_hash(to_plain(config))}
    record_training_data(
        run_dir / "student", {**shared, "answers": lessons.fingerprint, "teacher": content_hash(to_plain(taught))}
    )
    with ledger.stage("student", item="forecast") as cost:
        student, result = _fitted(
            truth, config, training, run_dir / "student", lessons, (weights.labels, weights.answers)
        )
        cost.items = answered
    note_fit(result, run_dir)
    student = _calibrated(student.with_facts(taught_by=taught), truth)
    spent = ledger.core_seconds("answers of the teacher") + result.core_seconds
    contenders = {"teacher": teacher, "student": student}
    metrics = {"distil/answered": float(answered), "distil/learned": float(answered)}
    if request.alone:
        recipe = at_equal_time(training, run_dir / "alone.json", spent)
        record_training_data(run_dir / "alone", shared)
        with ledger.stage("labels alone", item="forecast"):
            lonely, other = _fitted(truth, config, recipe, run_dir / "alone")
        contenders["alone"] = _calibrated(lonely, truth)
        metrics |= fit_costs("alone", other)
    metrics |= _scores(contenders, truth, config.steps)
    metrics |= spent_and_saved(_costs(teacher, student, truth, config.steps), spent)
    metrics |= (
        teacher_costs(directory, teacher.scores)
        | fit_costs("student", result)
        | {
            "distil/answers_core_seconds": ledger.core_seconds("answers of the teacher"),
            "distil/labels": float(truth.spans["train"][1] - truth.spans["train"][0]),
            "distil/steps": float(truth.every),
        }
    )
    metrics |= ratios(metrics)
    into = run_dir / "surrogate"
    student.with_facts(scores={k: v for k, v in metrics.items() if k.startswith("student/")}).save(into)
    TrainingReferences.of(truth.long, truth.spans, config.steps, config.history).save(into)
    write_card(
        run_dir, taught, f"forecast of {config.steps * layout_of_steps(teacher.layout, truth.every).step_hours:g} h"
    )
    return metrics


def _fitted(
    truth: TrueWindows,
    config: ForecastConfig,
    training: TrainConfig,
    run_dir: Path,
    lessons: WindowStore | None = None,
    weights: tuple[float, ...] = (),
) -> tuple[ForecastSurrogate, FitResult]:
    """A student trained on true states, and on the answers of the teacher if there are any."""
    valid = truth.span("valid")
    also = () if lessons is None else (lessons,)
    forecaster, result = fit_forecast_surrogate(
        truth.long, truth.spans["train"], valid, config, training, run_dir, also=also, weights=weights
    )
    if not config.blend or valid is None:
        return forecaster, result
    return blended(forecaster, result, truth.long, truth.spans["train"], valid)


def _calibrated(forecaster: ForecastSurrogate, truth: TrueWindows) -> ForecastSurrogate:
    """The forecaster with bands that true states calibrate, if some are set aside for them."""
    span = truth.span("calibration")
    return forecaster if span is None else calibrate_intervals(forecaster, truth.long, span)


def _scores(contenders: Mapping[str, ForecastSurrogate], truth: TrueWindows, steps: int) -> dict[str, float]:
    """Errors of each on the test part, or else the validation part, at the leads of the student.

    `<who>/<part>/crps_<lead>h` is the mean over channels of the CRPS over that of climatology, and `rmse_<lead>h` that
    of the RMSE of the mean; forcings are left out.
    """
    name = "test" if truth.span("test") else "valid"
    span = truth.span(name)
    if span is None:
        return {}
    store, every = truth.short, truth.every
    leads = tuple(every * (k + 1) for k in range(steps))
    climatology = store.climatology(truth.spans["train"])
    systems: dict[str, Any] = {
        who: one if who == "teacher" else LongSteps(one, every) for who, one in contenders.items()
    }
    systems["climatology"] = ClimatologyForecast(store.layout, climatology)
    members = {who: MEMBERS for who, one in contenders.items() if one.facts.config.noise_dims}
    scores = score(systems, Protocol(store, span, leads[-1], SCORED, leads=leads), climatology, members=members)
    one = scores.isel(region=0)
    forcing = {name for forecaster in contenders.values() for name in forecaster.facts.config.forcing}
    one = one.sel(channel=[c.label for c in store.layout.channels if c.variable not in forcing])
    usual = one.sel(system="climatology")
    metrics = {}
    for who in contenders:
        ours = one.sel(system=who)
        absolute = ours["crps"] if who in members else ours["mae"]
        for key, ratio in (("crps", absolute / usual["mae"]), ("rmse", ours["rmse"] / usual["rmse"])):
            for lead, value in zip(leads, ratio.mean("channel").values, strict=True):
                metrics[f"{who}/{name}/{key}_{lead * store.layout.step_hours:g}h"] = float(value)
    return metrics


def _costs(teacher: ForecastSurrogate, student: ForecastSurrogate, truth: TrueWindows, steps: int) -> dict[str, float]:
    """Core-seconds of a forecast of the same length by teacher and student, with their members."""

    def asked(one: ForecastSurrogate, store: WindowStore, count: int) -> Any:
        starts = np.resize(store.starts(one.history, None), TIMED)
        members = MEMBERS if one.facts.config.noise_dims else 1
        past, times = store.read(starts, one.history), store.times[starts + one.history - 1]
        return partial(one.forecast_arrays, past, times, count, members=members)

    return core_seconds_each(
        {
            "teacher": asked(teacher, truth.short, steps * truth.every),
            "student": asked(student, truth.long, steps),
        },
        TIMED,
    )
