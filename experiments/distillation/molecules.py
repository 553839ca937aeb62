"""Distils an ensemble, or a simulator, for molecular properties into one network, on molecules that nobody labelled.

Labels decide all that is claimed: they calibrate the intervals and give the scores of teacher, student, and of the same
student trained on labels alone for as much processor time as the distillation took. Molecules that are held out for
this are not learned from. Without labels, answers that were held out do so, and the card and the page say that errors
and intervals are then those against the teacher.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from data.molecules.graph_tables import GraphTable
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import existing_file
from data.spec import content_hash
from experiments.application.run_directory import configuration_checked, rejects_path
from experiments.application.stage import reading_shown
from experiments.application.stage_costs import Ledger
from experiments.distillation.comparison import ratios, write_card
from experiments.distillation.costs import (
    at_equal_time,
    core_seconds_each,
    fit_costs,
    spent_and_saved,
)
from experiments.distillation.molecule_classroom import MoleculeClassroom, fitted_student
from experiments.distillation.molecule_labels import LabelledMolecules, answers_for, labelled_molecules
from experiments.distillation.molecule_lessons import MoleculeLessons, drawn_rows, molecule_lessons
from experiments.distillation.molecule_teachers import MoleculeTeacher, SimulatorOfMolecules, SurrogateOfMolecules
from experiments.distillation.settings import DistilRequest
from experiments.pages.formatting import count
from experiments.screening.candidate_sources import identity
from simulators.adapter import Simulator
from surrogates.learning.fit_note import note_fit
from surrogates.learning.label_source import label_sources, save_label_sources, teacher_source
from surrogates.learning.learned_from import hash_keys, save_hashes
from surrogates.learning.overlap import Overlap
from surrogates.learning.part_sizes import PARTS
from surrogates.learning.resuming import record_training_data
from surrogates.learning.scores import scores
from surrogates.learning.teaching import ON_ANSWERS, ON_LABELS, Teacher
from surrogates.properties.lessons import ANSWERS, LABELS, TaughtAnswers
from surrogates.properties.property_table import PropertyTable
from surrogates.properties.scores import score_table
from surrogates.properties.surrogate import PropertySurrogate
from surrogates.properties.task import PropertyTask

LOG = logging.getLogger(__name__)
#: Most molecules that are answered to measure the cost of an answer.
TIMED = 2048


def distil_properties(
    asked: Simulator, directory: Path | None, request: DistilRequest, run_dir: Path
) -> dict[str, float]:
    """Distil a teacher, score everything, and save the student to `run_dir/surrogate`.

    Args:
        asked: the teacher.
        directory: where it is saved; None for a simulator.
        request: inputs, labels and student.
        run_dir: receives everything; a run that was stopped in it resumes.

    Returns:
        The metrics: costs, counts of the inputs, and the scores of `teacher`, `student` and `alone`.

    Raises:
        InputError: the teacher asks another simulator itself, or an input does not fit it.
    """
    teacher: MoleculeTeacher
    if directory is None:
        store = run_dir / "answers.zarr"
        teacher = SimulatorOfMolecules.of(asked, request.conformers, store, request.campaign)
    else:
        teacher = SurrogateOfMolecules.of(cast(PropertySurrogate, asked), directory)
    lessons, weights, training = request.lessons, request.weights, request.training
    config = PropertyTask.model_settings(request.model)
    path = existing_file(request.inputs, "inputs")
    readings: list[Reading] = []
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        truth = labelled_molecules(teacher, request, config, rejects, readings)
        heads = directory is None and _of_other_method(teacher, truth)
        if not heads and _of_other_method(teacher, truth):
            _say_other_method(teacher, truth, readings)
        rows = drawn_rows(path, request.smiles, lessons)
        facts = {
            "file of inputs": content_hash(identity(path)),
            "teacher": teacher.fingerprint,
            "labels": truth.table.content(),
            "network": content_hash(to_plain(config)),
        }
        record_training_data(run_dir, facts, begun=(run_dir / "answers").exists())
        configuration_checked(run_dir)
        ledger = Ledger(run_dir / "costs.json")
        with ledger.stage("answers of the teacher") as cost:
            apart = truth.kept_apart()
            labels = {truth.keys[i] for i in truth.split["train"]}
            answered = molecule_lessons(teacher, path, rows, labels, apart, run_dir / "answers", rejects)
            # The head of the answers is calibrated on molecules whose labels calibrate that of the labels.
            of_labelled = answers_for(teacher, truth, *(("train", "calibration") if heads else ("train",)))
            cost.items = len(answered.table)
            if (measured := teacher.core_seconds) is not None:
                cost.core_seconds = measured
        readings.append(_reading(path, answered))
    whole = MoleculeClassroom.of(truth, of_labelled, answered, lessons)
    whole = whole.with_heads() if heads else whole
    taught = TaughtAnswers(
        Teacher(
            teacher.name,
            teacher.fingerprint,
            teacher.labels_fingerprint,
            int(np.isfinite(whole.answers).any(axis=1).sum()),
            {LABELS: weights.labels, ANSWERS: weights.answers},
            ON_LABELS if len(truth.graphs) else ON_ANSWERS,
            **teacher.facts,
        ),
        whole.answers,
    )
    fitted = partial(fitted_student, teacher=teacher, config=config)
    with ledger.stage("student") as cost:
        fingerprint = truth.table.fingerprint or teacher.fingerprint
        student, result = fitted(whole, taught, training, run_dir / "student", fingerprint)
        cost.items = len(whole.split["train"])
    note_fit(result, run_dir)
    spent = ledger.core_seconds("answers of the teacher") + result.core_seconds
    contenders = {"student": student}
    metrics = {f"distil/{name}": float(number) for name, number in answered.counts.items()}
    if request.alone and len(truth.split["train"]):
        with ledger.stage("labels alone") as cost:
            lonely = MoleculeClassroom.of(truth, np.full_like(of_labelled, np.nan), None, lessons)
            recipe = at_equal_time(training, run_dir / "alone.json", spent)
            contenders["alone"], other = fitted(lonely, None, recipe, run_dir / "alone", truth.table.fingerprint)
            cost.items = len(truth.split["train"])
        metrics |= fit_costs("alone", other)
    metrics |= _scores(teacher.score, truth, "teacher")
    for name, one in contenders.items():
        metrics |= _scores(partial(score_table, one), truth, name)
    metrics |= _agreement(student, whole, answered)
    each = _costs_each(teacher, student, answered.table)
    metrics |= spent_and_saved(each, spent)
    metrics |= (
        teacher.costs()
        | fit_costs("student", result)
        | {
            "distil/answers_core_seconds": ledger.core_seconds("answers of the teacher"),
            "distil/learned": float(len(whole.split["train"])),
            "distil/labels": float(len(truth.split["train"])),
        }
    )
    metrics |= ratios(metrics)
    _say_seen(teacher, truth, metrics)
    student = student.with_facts(
        scores={k: v for k, v in metrics.items() if k.startswith(("student/test", "agreement"))}
    )
    student.save(run_dir / "surrogate")
    learned = [truth.keys[i] for name in PARTS[:3] for i in truth.split[name]]
    # Answers of a simulator are its labels, those of a surrogate are not.
    more = answered.keys if directory is None else hash_keys(())
    save_hashes(run_dir / "surrogate", hash_keys(learned), more, teacher.learned)
    save_label_sources(run_dir / "surrogate", _sources(teacher, request))
    write_card(run_dir, taught.teacher, "molecule")
    return metrics


def _scores(
    score: Callable[[PropertyTable, np.ndarray, str], dict[str, float]], truth: LabelledMolecules, who: str
) -> dict[str, float]:
    """Scores on the test part, or else the validation part, and on the other files."""
    metrics: dict[str, float] = {}
    for name, other in truth.table.others.items():
        metrics |= score(other, np.arange(len(other.smiles)), f"{who}/test/{name}")
    for part in ("test", "valid"):
        if len(truth.split[part]) and not metrics:
            metrics |= score(truth.table, np.asarray(truth.split[part]), f"{who}/{part}")
    return metrics


def _agreement(student: PropertySurrogate, room: MoleculeClassroom, answered: MoleculeLessons) -> dict[str, float]:
    """Scores of the student against answers that it did not learn from: those of the test, or else of the validation.

    Intervals that labels calibrated are not those of the answers, and are not scored here.
    """
    first = len(room.graphs) - len(answered.table)
    parts = [np.asarray(room.split[name]) for name in ("test", "valid")]
    rows = next(part[part >= first] for part in parts if (part >= first).any())
    answer = student.predict_table(room.graphs.take(rows))
    names = [name for k, name in enumerate(student.targets) if np.isfinite(room.answers[rows, k]).any()]
    metrics: dict[str, float] = {}
    for name in names:
        head = "agreement" if len(names) == 1 else f"agreement/{name}"
        truth = room.answers[rows, student.targets.index(name)]
        present = np.isfinite(truth)
        low: np.ndarray | None = None
        high: np.ndarray | None = None
        if name in student.facts.conformal and not np.isfinite(room.labels[name]).any():
            low, high = answer[f"{name}_low"][present], answer[f"{name}_high"][present]
        against = scores(truth[present], answer[name][present], "1", low=low, high=high)
        metrics |= {f"{head}/{key}": value for key, value in against.items()}
    return metrics


def _costs_each(teacher: MoleculeTeacher, student: PropertySurrogate, table: GraphTable) -> dict[str, float]:
    some = table.take(np.arange(TIMED) % len(table))
    asked = teacher.timed(some)
    if isinstance(asked, float):
        return {"teacher": asked, **core_seconds_each({"student": partial(student.raw, some)}, TIMED)}
    return core_seconds_each({"teacher": asked, "student": partial(student.raw, some)}, TIMED)


def _sources(teacher: MoleculeTeacher, request: DistilRequest) -> list[dict[str, Any]]:
    """What made the labels and the answers."""
    labels = [] if request.data.train is None else label_sources([Path(request.data.train)], None)
    if isinstance(teacher, SurrogateOfMolecules):
        return [*labels, teacher_source(teacher.surrogate, teacher.directory)]
    assert isinstance(teacher, SimulatorOfMolecules)
    return [*labels, teacher_source(teacher.asked.simulator, None)]


def _of_other_method(teacher: MoleculeTeacher, truth: LabelledMolecules) -> bool:
    """Whether there are labels, and they are not those of the level of theory of the answers."""
    return bool(truth.table.fingerprint) and truth.table.fingerprint != teacher.labels_fingerprint


def _say_other_method(teacher: MoleculeTeacher, truth: LabelledMolecules, readings: list[Reading]) -> None:
    """Note in the last reading that the teacher learned from other labels, with which its answers share a target."""
    ours, theirs = truth.table.fingerprint, teacher.labels_fingerprint
    said = (
        f"these labels ({ours[:12]}) and those of the teacher ({theirs[:12]}) are of one method, because labels and "
        "answers are learned as the same property; weights.labels=0 learns the answers alone"
    )
    readings[-1] = replace(readings[-1], assumed=(*readings[-1].assumed, said))


def _say_seen(teacher: MoleculeTeacher, truth: LabelledMolecules, metrics: dict[str, float]) -> None:
    """Warn where the teacher learned from molecules on which it is scored here."""
    rows = [truth.keys[i] for i in (truth.split["test"] if len(truth.split["test"]) else truth.split["valid"])]
    overlap = Overlap.among(teacher.learned, rows, "molecules of the test")
    if overlap.count:
        metrics["teacher/seen"] = float(overlap.count)
        LOG.warning(
            "teacher: %s; give the data.parts and data.seed of its training, or data.test=[FILE], to compare",
            overlap.said,
        )


def _reading(path: Path, answered: MoleculeLessons) -> Reading:
    """What was read of the file of inputs."""
    counts = answered.counts
    left = {
        "cannot be read": counts["unreadable"],
        "repeats another row, or a molecule that is learned with its label": counts["repeated"],
        "is held out with a label": counts["held_out"],
        "lies outside of the domain of the teacher": counts["outside_domain"],
        "has no answer of the teacher, see rejects.csv": counts["failed"],
    }
    said = {"answers": f"{count(counts['answered'])} molecules of the domain of the teacher"}
    return Reading(
        str(path),
        "molecules for the teacher",
        "rows",
        total=counts["read"],
        used=counts["answered"],
        quantities=said,
        left_out={reason: number for reason, number in left.items() if number},
    )
