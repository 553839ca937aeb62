"""Distils a surrogate of fields, trajectories or numbers, on requests that a simulator draws or on those of a file.

Drawn requests cost nothing but the answers of the teacher, so that a student sees many more of them than there are
labels. Of trajectories, several steps of the teacher can be one step of the student. As for molecules, labels calibrate
the bands and give the scores; without any, answers that were held out do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import existing_file
from data.spec import content_hash
from experiments.application.run_directory import configuration_checked, rejects_path
from experiments.application.stage import reading_shown
from experiments.application.stage_costs import Ledger
from experiments.distillation.answer_parts import answer_parts
from experiments.distillation.comparison import ratios, write_card
from experiments.distillation.costs import (
    at_equal_time,
    core_seconds_each,
    fit_costs,
    spent_and_saved,
    teacher_costs,
)
from experiments.distillation.sample_teachers import FieldTeacher, ParameterTeacher, SampleTeacher
from experiments.distillation.settings import DistilRequest
from surrogates.learning.fit_note import note_fit
from surrogates.learning.label_source import label_sources, save_label_sources, teacher_source
from surrogates.learning.learned_from import hash_keys, read_hashes, save_hashes
from surrogates.learning.resuming import record_training_data
from surrogates.learning.sample_parts import read_samples
from surrogates.learning.sample_task import SampleParts
from surrogates.learning.teaching import ON_ANSWERS, ON_LABELS, Teacher

#: Samples that are answered to measure the cost of an answer.
TIMED = 16
#: Samples that a teacher answers at a time.
ANSWERED = 256


def distil_fields(surrogate: Any, directory: Path | None, request: DistilRequest, run_dir: Path) -> dict[str, float]:
    """Distil a surrogate of fields or trajectories; see `distil_properties`."""
    saved = _saved(directory)
    return _distilled(FieldTeacher(surrogate, request.lessons.every), surrogate, saved, request, run_dir)


def distil_parameters(
    surrogate: Any, directory: Path | None, request: DistilRequest, run_dir: Path
) -> dict[str, float]:
    """Distil a surrogate of numbers; see `distil_properties`."""
    saved = _saved(directory)
    return _distilled(ParameterTeacher(surrogate), surrogate, saved, request, run_dir)


def _saved(directory: Path | None) -> Path:
    if directory is None:
        raise InputError(
            "a simulator of fields or of numbers teaches by its labels",
            where="simulator",
            remedy="Run understudy simulate, and train on its store; or name a surrogate with teacher=DIR",
        )
    return directory


def _distilled(
    teacher: SampleTeacher[Any], surrogate: Any, directory: Path, request: DistilRequest, run_dir: Path
) -> dict[str, float]:
    if surrogate.standing is not None:
        raise InputError(
            f"the teacher stands on {surrogate.standing.name}, which would be asked about every sample",
            where="teacher",
            remedy="Distil a surrogate that was trained without on=",
        )
    readings: list[Reading] = []
    ledger = Ledger(run_dir / "costs.json")
    task = teacher.task(request.data.train, request)
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        truth = None if request.data.train is None else _labelled(teacher, task, run_dir, rejects, readings)
        asked = _asked(teacher, task, request, rejects, readings)
        facts = {
            "inputs": content_hash(asked.input_keys()),
            "teacher": surrogate.fingerprint,
            "labels": "" if truth is None else truth.whole.samples.content(),
            "network": task.network_hash(),
        }
        record_training_data(run_dir, facts, begun=(run_dir / "costs.json").exists())
        configuration_checked(run_dir)
        with ledger.stage("answers of the teacher", item=teacher.ITEM) as cost:
            lessons, counts = _answered(teacher, asked, truth)
            cost.items = len(lessons)
        left = {name.replace("_", " "): n for name, n in counts.items() if n and name not in ("read", "answered")}
        said = {"answers": f"{len(lessons):,} of the domain of the teacher"}
        readings.append(Reading("inputs", "requests for the teacher", "samples", len(asked), len(lessons), said, left))
    same_level = truth is not None and truth.whole.samples.fingerprint == surrogate.labels_fingerprint
    rows = answer_parts(len(lessons), request.lessons, labelled=truth is not None)
    parts = {name: lessons.take(some) for name, some in rows.items()}
    train, valid = parts["train"], parts["valid"]
    if truth is not None and same_level and request.weights.labels > 0:
        train = teacher.joined(truth.train, train)
        valid = valid if truth.valid is None else teacher.joined(truth.valid, valid)
    facts = {"answers": train.content(), "checked": valid.content(), "network": task.network_hash()}
    record_training_data(run_dir / "student", facts)
    with ledger.stage("student", item=teacher.ITEM) as cost:
        student, result = task.fit_samples(train, valid, run_dir / "student")
        cost.items = len(train)
    note_fit(result, run_dir)
    calibrating = parts["calibration"] if truth is None else truth.calibration
    if calibrating is not None and len(calibrating):
        student = task.calibrate_samples(student, calibrating)
    taught_by = Teacher(
        surrogate.name,
        surrogate.fingerprint,
        surrogate.labels_fingerprint,
        len(parts["train"]),
        {"labels": float(same_level and request.weights.labels > 0), "answers": 1.0},
        ON_ANSWERS if truth is None else ON_LABELS,
    )
    student = student.with_facts(taught_by=taught_by)
    spent = ledger.core_seconds("answers of the teacher") + result.core_seconds
    metrics = {f"distil/{name}": float(number) for name, number in counts.items()}
    contenders = {"student": student}
    if request.alone and truth is not None:
        recipe = at_equal_time(request.training, run_dir / "alone.json", spent)
        alone_facts = {"labels": truth.train.content(), "network": task.network_hash()}
        record_training_data(run_dir / "alone", alone_facts)
        with ledger.stage("labels alone", item=teacher.ITEM):
            lonely, other = replace(task, training=recipe).fit_samples(truth.train, truth.valid, run_dir / "alone")
        contenders["alone"] = lonely if truth.calibration is None else task.calibrate_samples(lonely, truth.calibration)
        metrics |= fit_costs("alone", other)
    if truth is None:
        held_out = parts["test"] if len(parts["test"]) else parts["valid"]
        metrics |= task.score_samples(student, held_out, "agreement")
    else:
        metrics |= _scores(teacher, task, contenders, truth)
        metrics |= task.score_samples(student, parts["valid"], "agreement")
    some = lessons.take(np.arange(TIMED) % len(lessons))
    metrics |= spent_and_saved(core_seconds_each(teacher.timed(student, some), TIMED), spent)
    metrics |= teacher_costs(directory, surrogate.scores) | fit_costs("student", result)
    metrics |= {
        "distil/answers_core_seconds": ledger.core_seconds("answers of the teacher"),
        "distil/learned": float(len(train)),
        "distil/labels": 0.0 if truth is None else float(len(truth.train)),
        "distil/same_level": float(same_level),
    }
    metrics |= ratios(metrics)
    kept = {k: v for k, v in metrics.items() if k.startswith(("student/test", "agreement"))}
    student.with_facts(scores=kept).save(run_dir / "surrogate")
    save_hashes(run_dir / "surrogate", _learned(truth), read_hashes(directory))
    sources = [] if request.data.train is None else label_sources([Path(request.data.train)], None)
    save_label_sources(run_dir / "surrogate", [*sources, teacher_source(surrogate, directory)])
    write_card(run_dir, taught_by, teacher.ITEM)
    return metrics


def _labelled(
    teacher: SampleTeacher[Any], task: Any, run_dir: Path, rejects: RejectLog, readings: list[Reading]
) -> SampleParts[Any]:
    """The labelled samples in the parts that `understudy train` makes of them, with the outputs of a student."""
    read = task.read(rejects, readings)
    whole = replace(
        read,
        samples=teacher.kept(read.samples),
        others={name: teacher.kept(other) for name, other in read.others.items()},
    )
    parts: SampleParts[Any] = task.split(whole, run_dir)
    return parts


def _asked(
    teacher: SampleTeacher[Any], task: Any, request: DistilRequest, rejects: RejectLog, readings: list[Reading]
) -> Any:
    """The samples that the teacher is asked about: drawn ones, or those of a file, whose outputs are not used."""
    if request.drawn is not None:
        return teacher.of_requests(request.drawn)
    path = existing_file(request.inputs, "inputs")
    samples = read_samples(path, task.read_file, rejects, readings)
    count = request.lessons.count
    if count is not None and count < len(samples):
        rows = np.random.default_rng(request.lessons.seed).choice(len(samples), count, replace=False)
        samples = samples.take(np.sort(rows))
    return samples


def _answered(teacher: SampleTeacher[Any], asked: Any, truth: SampleParts[Any] | None) -> tuple[Any, dict[str, int]]:
    """The samples that lie in the domain, each once and with the answers, and what became of the others.

    Raises:
        InputError: fewer than two are left.
    """
    keys = np.array(asked.input_keys(), dtype=object)
    apart: set[str] = set()
    if truth is not None:
        apart = {truth.keys[i] for name, rows in truth.rows.items() if name != "train" for i in rows}
        apart = apart.union(*(other.input_keys() for other in truth.whole.others.values()))
    held_out = np.isin(keys, list(apart))
    first = np.zeros(len(keys), bool)
    first[np.unique(keys.astype(str), return_index=True)[1]] = True
    repeated = ~held_out & ~first
    rows = np.flatnonzero(~held_out & ~repeated)
    answers = [teacher.answered(asked.take(some)) for some in np.array_split(rows, -(-len(rows) // ANSWERED) or 1)]
    inside = np.concatenate([good for _, good in answers])
    counts = {
        "read": len(asked),
        "repeated": int(repeated.sum()),
        "held_out": int(held_out.sum()),
        "outside_domain": int((~inside).sum()),
        "answered": int(inside.sum()),
    }
    if counts["answered"] < 2:
        said = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())
        raise InputError(
            f"fewer than two of them lie in the domain of the teacher: {said}",
            where="inputs",
            remedy="Draw requests like those that the teacher learned from",
        )
    whole = answers[0][0]
    for more, _ in answers[1:]:
        whole = teacher.joined(whole, more)
    return whole.take(np.flatnonzero(inside)), counts


def _scores(
    teacher: SampleTeacher[Any], task: Any, contenders: dict[str, Any], truth: SampleParts[Any]
) -> dict[str, float]:
    """Scores on the other files, or else the test part, or else the validation part."""
    tests = {f"test/{name}": other for name, other in truth.whole.others.items()}
    if not tests:
        tests = {"test": truth.test} if truth.test is not None else {"valid": truth.valid}
    metrics: dict[str, float] = {}
    for name, samples in tests.items():
        if samples is None:
            continue
        metrics |= teacher.score(samples, f"teacher/{name}")
        for who, one in contenders.items():
            metrics |= task.score_samples(one, samples, f"{who}/{name}")
    return metrics


def _learned(truth: SampleParts[Any] | None) -> np.ndarray:
    if truth is None:
        return hash_keys(())
    return hash_keys(truth.keys[i] for name, rows in truth.rows.items() if name != "test" for i in rows)
