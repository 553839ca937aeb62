"""Distils an ensemble of potentials into one network, on frames that nobody labelled.

Labels calibrate the intervals and give the scores, as for molecules. The answers are learned under a head of their own,
unless the teacher learned these very labels, so that levels of theory are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.identity import frame_keys
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import existing_file, names
from data.spec import content_hash
from data.structures.structures import Structures
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
from experiments.distillation.frame_lessons import (
    DYNAMICS,
    FrameLessons,
    dynamics_frames,
    frame_answers,
    lesson_frames,
)
from experiments.distillation.settings import DistilRequest
from surrogates.learning.conformal import refuse_too_few
from surrogates.learning.fit_note import note_fit
from surrogates.learning.learned_from import hash_keys, read_hashes, save_hashes
from surrogates.learning.resuming import record_training_data
from surrogates.learning.scores import scores
from surrogates.learning.teaching import Teacher
from surrogates.potentials.calibration import calibrate_intervals
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import fit_potential_surrogate
from surrogates.potentials.scores import score
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.task import PotentialParts, PotentialTask
from surrogates.potentials.taught_fit import WEIGHTS, TaughtFrames, fit_taught_potential
from surrogates.potentials.training_frames import PotentialData, fingerprint

#: Frames that are answered to measure the cost of an answer.
TIMED = 128


@dataclass(frozen=True)
class FramesWithLabels:
    """Labelled frames in their parts.

    Attributes:
        parts: training, validation and calibration parts, and the tests.
        fingerprint: of all frames of the training files.
    """

    parts: PotentialParts
    fingerprint: str

    @property
    def tests(self) -> dict[str, Structures]:
        """Frames that are scored, by the name of their scores."""
        read = {f"test/{path.stem}": frames for path, frames in self.parts.read.tests.items()}
        return read or {"valid": self.parts.valid}

    def kept_apart(self) -> set[str]:
        """Keys of the frames that are not learned from, not even by the answers for them."""
        parts = [self.parts.valid, *self.parts.read.tests.values()]
        if self.parts.calibration is not None:
            parts.append(self.parts.calibration)
        return {key for part in parts for key in frame_keys(part)}


def distil_potentials(
    teacher: PotentialSurrogate, directory: Path, request: DistilRequest, run_dir: Path
) -> dict[str, float]:
    """Distil a potential, score everything, and save the student to `run_dir/surrogate`; see `distil_properties`."""
    if teacher.facts.head.baseline is not None:
        raise InputError(
            "the teacher learned differences to another method, which would be asked about every frame",
            where="teacher",
            remedy="Distil a potential that was trained without on=",
        )
    if not teacher.facts.head.has_energy or teacher.last_layer is None or not teacher.facts.novelty:
        raise InputError("the teacher has no energies, or no domain", where="teacher", remedy="Train it again")
    config = PotentialTask.model_settings(request.model)
    readings: list[Reading] = []
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        truth = labelled_frames(request, config, run_dir, rejects, readings)
        read = _input_frames(teacher, truth, request, run_dir, rejects, readings)
        apart = set() if truth is None else truth.kept_apart()
        frames, counts = lesson_frames(teacher, read, apart, request.lessons, str(request.inputs))
        facts = {
            "frames of inputs": fingerprint(frames),
            "teacher": teacher.fingerprint,
            "labels": "" if truth is None else truth.fingerprint,
            "network": content_hash(to_plain(config)),
        }
        record_training_data(run_dir, facts, begun=(run_dir / "answers").exists())
        configuration_checked(run_dir)
        ledger = Ledger(run_dir / "costs.json")
        with ledger.stage("answers of the teacher", item="frame") as cost:
            answers = frame_answers(teacher, frames, run_dir / "answers", request.lessons.seed)
            cost.items = len(frames)
        lessons = FrameLessons(frames, answers, counts)
        said = {"answers": f"{counts['answered']:,} frames of the domain of the teacher"}
        left = {name.replace("_", " "): n for name, n in counts.items() if n and name not in ("read", "answered")}
        readings.append(
            Reading(str(request.inputs), "frames for the teacher", "frames", counts["read"], len(frames), said, left)
        )
    return _distilled(teacher, directory, request, config, truth, lessons, ledger, run_dir)


def _distilled(
    teacher: PotentialSurrogate,
    directory: Path,
    request: DistilRequest,
    config: PotentialConfig,
    truth: FramesWithLabels | None,
    lessons: FrameLessons,
    ledger: Ledger,
    run_dir: Path,
) -> dict[str, float]:
    taught, same_level = _taught(teacher, request, lessons), _same_level(teacher, truth)
    parts = None if truth is None else truth.parts
    facts = {
        "teacher": content_hash(to_plain(taught.teacher)),
        "frames": fingerprint(taught.frames),
        "labelled frames": "" if parts is None else fingerprint(parts.train),
        "network": content_hash(to_plain(config)),
    }
    record_training_data(run_dir / "student", facts)
    with ledger.stage("student", item="frame") as cost:
        student, result = fit_taught_potential(
            None if parts is None else parts.train,
            None if parts is None else parts.valid,
            taught,
            config,
            request.training,
            run_dir / "student",
            same_level=same_level,
            label_fingerprint="" if truth is None else truth.fingerprint,
            isolated=None if parts is None else parts.read.isolated,
        )
        cost.items = len(taught.frames)
    note_fit(result, run_dir)
    if parts is not None:
        student = calibrate_intervals(student, parts.calibration, parts.valid)
    spent = ledger.core_seconds("answers of the teacher") + result.core_seconds
    contenders = {"teacher": teacher, "student": student}
    metrics = {f"distil/{name}": float(number) for name, number in lessons.counts.items()}
    if request.alone and truth is not None and parts is not None:
        steps = max(1, len(parts.train) // request.training.batch_size)
        epochs = epochs_at_equal_time(result.history, result.core_seconds, spent, steps)
        recipe = replace(
            request.training, epochs=kept_epochs(run_dir / "alone.json", epochs), patience=None, mlflow=False
        )
        record_training_data(run_dir / "alone", {"frames": fingerprint(parts.train), "network": facts["network"]})
        with ledger.stage("labels alone", item="frame"):
            lonely, other = fit_potential_surrogate(
                parts.train,
                parts.valid,
                config,
                recipe,
                run_dir / "alone",
                isolated=parts.read.isolated,
                label_fingerprint=truth.fingerprint,
            )
        contenders["alone"] = calibrate_intervals(lonely, parts.calibration, parts.valid)
        metrics |= fit_costs("alone", other)
    for who, one in contenders.items():
        for name, tested in ({} if truth is None else truth.tests).items():
            metrics |= score(one, tested, f"{who}/{name}", name)
    metrics |= _agreement(student, taught, same_level or truth is None)
    some = lessons.frames.take(np.arange(TIMED) % len(lessons.frames))
    asked = {
        name: partial(contenders[name].predict_structures, some, error_bars=False) for name in ("teacher", "student")
    }
    metrics |= spent_and_saved(core_seconds_each(asked, TIMED), spent)
    metrics |= (
        teacher_costs(directory, teacher.scores)
        | fit_costs("student", result)
        | {
            "distil/answers_core_seconds": ledger.core_seconds("answers of the teacher"),
            "distil/learned": float(len(taught.frames)),
            "distil/labels": 0.0 if parts is None else float(len(parts.train)),
            "distil/same_level": float(same_level),
        }
    )
    metrics |= ratios(metrics)
    student.with_facts(scores={k: v for k, v in metrics.items() if k.startswith("student/test")}).save(
        run_dir / "surrogate"
    )
    save_hashes(run_dir / "surrogate", hash_keys(()) if parts is None else parts.learned, read_hashes(directory))
    write_card(run_dir, taught.teacher, "frame")
    return metrics


def labelled_frames(
    request: DistilRequest, config: PotentialConfig, run_dir: Path, rejects: RejectLog, readings: list[Reading]
) -> FramesWithLabels | None:
    """The labelled frames in the parts that `understudy train` makes of them; None where no file is named.

    Raises:
        InputError: a part is no fraction, or see `PotentialTask.read`.
    """
    data = request.data
    if data.train is None:
        return None
    valid, calibration = data.parts[1], data.parts[2]
    if not all(isinstance(share, int | float) and 0 <= share < 1 for share in (valid, calibration)):
        raise InputError(
            "the validation and calibration parts of frames are fractions",
            where="data.parts",
            remedy="Give for example data.parts=[0.8,0.1,0.1,0]",
        )
    files = PotentialData(
        train=data.train,
        valid=valid,
        calibration=float(calibration),
        test=names(data.test, "data.test"),
        seed=data.seed,
        **data.key_settings(),
    ).files()
    task = PotentialTask(files, config, request.training)
    read = task.read(rejects, readings)
    parts = task.split(read, run_dir)
    if parts.calibration is not None:
        # Refused before the teacher is asked, and not after the training.
        refuse_too_few(parts.calibration.energy, "energy", where="data.parts")
    return FramesWithLabels(parts, fingerprint(read.train))


def _input_frames(
    teacher: PotentialSurrogate,
    truth: FramesWithLabels | None,
    request: DistilRequest,
    run_dir: Path,
    rejects: RejectLog,
    readings: list[Reading],
) -> Structures:
    if request.inputs != DYNAMICS:
        keys = replace(request.data.keys(""), labels=False)
        path = existing_file(request.inputs, "inputs")
        return read_structures(path, rejects, keys, labels=False, readings=readings)
    if truth is None:
        raise InputError(
            "the dynamics of the teacher begin from labelled frames", where="inputs", remedy="Give data.train=FILE"
        )
    start, path = truth.parts.train, run_dir / "dynamics" / "frames.npz"
    bound = start.take(np.flatnonzero(~start.alone()))
    return dynamics_frames(teacher, bound, request.dynamics, request.lessons.seed, path)


def _same_level(teacher: PotentialSurrogate, truth: FramesWithLabels | None) -> bool:
    """Whether the teacher learned these very labels."""
    return truth is not None and truth.fingerprint == teacher.labels_fingerprint


def _taught(teacher: PotentialSurrogate, request: DistilRequest, lessons: FrameLessons) -> TaughtFrames:
    """What the student is taught, with a random share of the answers for validation."""
    count = len(lessons.frames)
    order = np.random.default_rng(request.lessons.seed).permutation(count)
    valid = min(max(1, round(request.lessons.valid * count)), count - 1)
    learned, checked = np.sort(order[valid:]), np.sort(order[:valid])
    weights = {name: float(getattr(request.weights, name)) for name in WEIGHTS}
    fingerprints = teacher.fingerprint, teacher.labels_fingerprint
    frames, answers = lessons.frames, lessons.answers
    return TaughtFrames(
        Teacher(teacher.name, *fingerprints, len(learned), weights),
        teacher.facts.head,
        frames.take(learned),
        answers.take(frames, learned),
        frames.take(checked),
        answers.take(frames, checked),
    )


def _agreement(student: PotentialSurrogate, taught: TaughtFrames, same_head: bool) -> dict[str, float]:
    """Scores of the student against forces of the teacher that it did not learn from."""
    head = student.facts.active if same_head else "teacher"
    answer = student.with_facts(active=head).predict_structures(taught.valid, error_bars=False)
    agreement = scores(taught.valid_answers.forces.ravel(), answer.forces.ravel(), "eV/Angstrom")
    return {f"agreement/forces_{name}": value for name, value in agreement.items()}
