"""Distils an ensemble for molecular properties into one network, on molecules that nobody labelled.

Labels decide all that is claimed: they calibrate the intervals and give the scores of teacher, student, and of the same
student trained on labels alone for as much processor time as the distillation took. Molecules that are held out for
this are not learned from.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.errors import InputError
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
    core_seconds_each,
    epochs_at_equal_time,
    fit_costs,
    kept_epochs,
    spent_and_saved,
    teacher_costs,
)
from experiments.distillation.molecule_classroom import MoleculeClassroom, fitted_student
from experiments.distillation.molecule_labels import LabelledMolecules, answers_for, labelled_molecules
from experiments.distillation.molecule_lessons import MoleculeLessons, drawn_rows, molecule_lessons
from experiments.distillation.settings import DistilRequest
from experiments.pages.formatting import count
from experiments.screening.candidate_sources import identity
from surrogates.learning.fit_note import note_fit
from surrogates.learning.learned_from import hash_keys, read_hashes, save_hashes
from surrogates.learning.overlap import Overlap
from surrogates.learning.part_sizes import PARTS
from surrogates.learning.resuming import record_training_data
from surrogates.learning.scores import scores
from surrogates.learning.teaching import Teacher
from surrogates.properties.lessons import ANSWERS, LABELS, TaughtAnswers
from surrogates.properties.scores import score_table
from surrogates.properties.surrogate import PropertySurrogate
from surrogates.properties.task import PropertyTask

LOG = logging.getLogger(__name__)
#: Most molecules that are answered to measure the cost of an answer.
TIMED = 2048


def distil_properties(
    teacher: PropertySurrogate, directory: Path, request: DistilRequest, run_dir: Path
) -> dict[str, float]:
    """Distil a teacher, score everything, and save the student to `run_dir/surrogate`.

    Args:
        teacher: the teacher.
        directory: where it is saved.
        request: inputs, labels and student.
        run_dir: receives everything; a run that was stopped in it resumes.

    Returns:
        The metrics: costs, counts of the inputs, and the scores of `teacher`, `student` and `alone`.

    Raises:
        InputError: the teacher asks another simulator itself, or an input does not fit it.
    """
    if teacher.standing is not None:
        raise InputError(
            f"the teacher stands on {teacher.standing.name}, which would be asked about every molecule",
            where="teacher",
            remedy="Distil a surrogate that was trained without on=",
        )
    lessons, weights, training = request.lessons, request.weights, request.training
    config = PropertyTask.model_settings(request.model)
    path = existing_file(request.inputs, "inputs")
    readings: list[Reading] = []
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        truth = labelled_molecules(teacher, request, config, rejects, readings)
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
            of_labelled = answers_for(teacher, truth)
            cost.items = len(answered.table)
        readings.append(_reading(path, answered))
    whole = MoleculeClassroom.of(truth, of_labelled, answered, lessons)
    taught = TaughtAnswers(
        Teacher(
            teacher.name,
            teacher.fingerprint,
            teacher.labels_fingerprint,
            int(np.isfinite(whole.answers).any(axis=1).sum()),
            {LABELS: weights.labels, ANSWERS: weights.answers},
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
    contenders = {"teacher": teacher, "student": student}
    metrics = {f"distil/{name}": float(number) for name, number in answered.counts.items()}
    if request.alone and len(truth.split["train"]):
        steps = -(-len(truth.split["train"]) // training.batch_size)
        epochs = epochs_at_equal_time(result.history, result.core_seconds, spent, steps)
        epochs = kept_epochs(run_dir / "alone.json", epochs)
        with ledger.stage("labels alone") as cost:
            lonely = MoleculeClassroom.of(truth, np.full_like(of_labelled, np.nan), None, lessons)
            recipe = replace(training, epochs=epochs, patience=None, mlflow=False)
            contenders["alone"], other = fitted(lonely, None, recipe, run_dir / "alone", truth.table.fingerprint)
            cost.items = len(truth.split["train"])
        metrics |= fit_costs("alone", other)
    for name, one in contenders.items():
        metrics |= _scores(one, truth, name)
    metrics |= _agreement(student, whole, answered)
    each = _costs_each(teacher, student, answered.table)
    metrics |= spent_and_saved(each, spent)
    metrics |= (
        teacher_costs(directory, teacher.scores)
        | fit_costs("student", result)
        | {
            "distil/answers_core_seconds": ledger.core_seconds("answers of the teacher"),
            "distil/learned": float(len(whole.split["train"])),
            "distil/labels": float(len(truth.split["train"])),
        }
    )
    metrics |= ratios(metrics)
    _say_seen(directory, truth, metrics)
    student = student.with_facts(scores={k: v for k, v in metrics.items() if k.startswith("student/test")})
    student.save(run_dir / "surrogate")
    learned = [truth.keys[i] for name in PARTS[:3] for i in truth.split[name]]
    save_hashes(run_dir / "surrogate", hash_keys(learned), read_hashes(directory))
    write_card(run_dir, taught.teacher, "molecule")
    return metrics


def _scores(surrogate: PropertySurrogate, truth: LabelledMolecules, who: str) -> dict[str, float]:
    """Scores on the test part, or else the validation part, and on the other files."""
    metrics: dict[str, float] = {}
    for name, other in truth.table.others.items():
        metrics |= score_table(surrogate, other, np.arange(len(other.smiles)), f"{who}/test/{name}")
    for part in ("test", "valid"):
        if len(truth.split[part]) and not metrics:
            metrics |= score_table(surrogate, truth.table, np.asarray(truth.split[part]), f"{who}/{part}")
    return metrics


def _agreement(student: PropertySurrogate, room: MoleculeClassroom, answered: MoleculeLessons) -> dict[str, float]:
    """Scores of the student against answers that it did not learn from."""
    valid = np.asarray(room.split["valid"])
    rows = valid[valid >= len(room.graphs) - len(answered.table)]
    mean, _ = student.raw(room.graphs.take(rows))
    metrics: dict[str, float] = {}
    for k, name in enumerate(student.targets):
        head = "agreement" if len(student.targets) == 1 else f"agreement/{name}"
        metrics |= {f"{head}/{key}": v for key, v in scores(room.answers[rows, k], mean[:, k], "1").items()}
    return metrics


def _costs_each(teacher: PropertySurrogate, student: PropertySurrogate, table: GraphTable) -> dict[str, float]:
    some = table.take(np.arange(TIMED) % len(table))
    return core_seconds_each({"teacher": partial(teacher.raw, some), "student": partial(student.raw, some)}, TIMED)


def _say_other_method(teacher: PropertySurrogate, truth: LabelledMolecules, readings: list[Reading]) -> None:
    """Note in the last reading that the teacher learned from other labels, with which its answers share a target."""
    ours, theirs = truth.table.fingerprint, teacher.labels_fingerprint
    if not ours or ours == theirs:
        return
    said = (
        f"these labels ({ours[:12]}) and those of the teacher ({theirs[:12]}) are of one method, because labels and "
        "answers are learned as the same property; weights.labels=0 learns the answers alone"
    )
    readings[-1] = replace(readings[-1], assumed=(*readings[-1].assumed, said))


def _say_seen(directory: Path, truth: LabelledMolecules, metrics: dict[str, float]) -> None:
    """Warn where the teacher learned from molecules on which it is scored here."""
    rows = [truth.keys[i] for i in (truth.split["test"] if len(truth.split["test"]) else truth.split["valid"])]
    overlap = Overlap.among(read_hashes(directory), rows, "molecules of the test")
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
