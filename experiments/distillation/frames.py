"""Distils an ensemble of potentials, or a simulator, into one network, on frames that nobody labelled.

Labels calibrate the intervals and give the scores, as for molecules; without any, answers that were held out do. The
answers are learned under a head of their own, unless they are of the level of theory of the labels: the teacher learned
these very labels, or is the simulator that made them. Levels of theory are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from data.errors import InputError
from data.identity import frame_keys
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import names
from data.spec import content_hash
from data.structures.structures import Structures
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
)
from experiments.distillation.frame_lessons import (
    FrameLessons,
    lesson_frames,
)
from experiments.distillation.frame_sources import MADE, source_frames
from experiments.distillation.frame_teachers import FrameTeacher, SimulatorOfFrames, SurrogateOfFrames
from experiments.distillation.settings import DistilRequest
from simulators.adapter import Simulator
from surrogates.learning.conformal import refuse_too_few
from surrogates.learning.fit_note import note_fit
from surrogates.learning.label_source import label_sources, save_label_sources, teacher_source
from surrogates.learning.learned_from import hash_keys, read_hashes, save_hashes
from surrogates.learning.resuming import record_training_data
from surrogates.learning.scores import scores
from surrogates.learning.teaching import ON_ANSWERS, ON_LABELS, Teacher
from surrogates.potentials.calibration import calibrate_intervals
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import FineTuning, fit_potential_surrogate
from surrogates.potentials.heads import only_active
from surrogates.potentials.lessons import labelled_by
from surrogates.potentials.scores import score
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.task import PotentialParts, PotentialTask
from surrogates.potentials.taught_fit import WEIGHTS, TaughtFrames, fit_taught_potential
from surrogates.potentials.training_frames import PotentialData, fingerprint
from surrogates.potentials.tuning import continued_config
from surrogates.saved import surrogate_directory

#: Frames that are answered to measure the cost of an answer.
TIMED = 128
#: Name of the head with which the training on labels alone begins, where it begins from a trained potential.
START = "start"


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
    asked: Simulator, directory: Path | None, request: DistilRequest, run_dir: Path
) -> dict[str, float]:
    """Distil a teacher, score everything, and save the student to `run_dir/surrogate`; see `distil_properties`."""
    teacher: FrameTeacher
    if directory is None:
        if request.weights.atom_energies or request.weights.hessian:
            raise InputError(
                "a simulator says neither energies of atoms nor derivatives of forces",
                where="weights",
                remedy="Leave weights.atom_energies and weights.hessian at 0",
            )
        teacher = SimulatorOfFrames.of(asked, run_dir / "answers.zarr", request.campaign)
    else:
        teacher = SurrogateOfFrames.of(cast(PotentialSurrogate, asked), directory)
    config = PotentialTask.model_settings(request.model)
    start = None
    if request.start is not None:
        start = PotentialSurrogate.load(surrogate_directory(request.start, "start"))
    if start is not None:
        config = continued_config(config, start)
    readings: list[Reading] = []
    ledger = Ledger(run_dir / "costs.json")
    with RejectLog(rejects_path(run_dir)) as rejects, reading_shown(readings, run_dir):
        truth = labelled_frames(request, config, run_dir, rejects, readings)
        first = None if truth is None else truth.parts.train
        read, lessons = source_frames(teacher, first, request, run_dir, rejects, readings, ledger)
        apart = set() if truth is None else truth.kept_apart()
        frames, counts = lesson_frames(teacher, read, apart, lessons, str(request.inputs))
        facts = {
            "frames of inputs": fingerprint(frames),
            "teacher": teacher.fingerprint,
            "labels": "" if truth is None else truth.fingerprint,
            "network": content_hash(to_plain(config)),
            **({} if start is None else {"start": start.fingerprint}),
        }
        record_training_data(run_dir, facts, begun=(run_dir / "answers").exists())
        configuration_checked(run_dir)
        with ledger.stage("answers of the teacher", item="frame") as cost:
            answered, answers, head = teacher.answers(
                frames, run_dir / "answers", request.lessons.seed, curvatures=request.weights.hessian > 0
            )
            counts |= {"failed": len(frames) - len(answered), "answered": len(answered)}
            cost.items = len(answered)
            if (measured := teacher.core_seconds) is not None:
                cost.core_seconds = measured
        learned = FrameLessons(answered, answers, head, counts)
        said = {"answers": f"{counts['answered']:,} frames of the domain of the teacher"}
        left = {name.replace("_", " "): n for name, n in counts.items() if n and name not in ("read", "answered")}
        readings.append(
            Reading(str(request.inputs), "frames for the teacher", "frames", counts["read"], len(answered), said, left)
        )
    return _distilled(teacher, request, config, start, truth, learned, ledger, run_dir)


def _distilled(
    teacher: FrameTeacher,
    request: DistilRequest,
    config: PotentialConfig,
    start: PotentialSurrogate | None,
    truth: FramesWithLabels | None,
    lessons: FrameLessons,
    ledger: Ledger,
    run_dir: Path,
) -> dict[str, float]:
    parts_of_answers = answer_parts(len(lessons.frames), request.lessons, labelled=truth is not None)
    taught, same_level = _taught(teacher, request, lessons, parts_of_answers), _same_level(teacher, truth, request)
    parts = None if truth is None else truth.parts
    facts = {
        "teacher": content_hash(to_plain(taught.teacher)),
        "frames": fingerprint(taught.frames),
        "labelled frames": "" if parts is None else fingerprint(parts.train),
        "network": content_hash(to_plain(config)),
    }
    begun_from = {} if start is None else {"start": start.fingerprint}
    record_training_data(run_dir / "student", facts | begun_from)
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
            start=start,
        )
        cost.items = len(taught.frames)
    note_fit(result, run_dir)
    apart = {name: _with_totals(lessons, rows) for name, rows in parts_of_answers.items() if name != "train"}
    if parts is not None:
        student = calibrate_intervals(student, parts.calibration, parts.valid)
    else:
        student = calibrate_intervals(
            student, apart["calibration"] if len(apart["calibration"]) else None, apart["valid"]
        )
    spent = ledger.core_seconds(MADE, "answers of the teacher") + result.core_seconds
    contenders = {"student": student}
    metrics = {f"distil/{name}": float(number) for name, number in lessons.counts.items()}
    if request.alone and truth is not None and parts is not None:
        recipe = at_equal_time(request.training, run_dir / "alone.json", spent)
        of_labels = {"frames": fingerprint(parts.train), "network": facts["network"]}
        record_training_data(run_dir / "alone", of_labels | begun_from)
        with ledger.stage("labels alone", item="frame"):
            lonely, other = fit_potential_surrogate(
                parts.train,
                parts.valid,
                config,
                recipe,
                run_dir / "alone",
                isolated=parts.read.isolated,
                label_fingerprint=truth.fingerprint,
                tune=None if start is None else FineTuning(only_active(start, START)),
            )
        contenders["alone"] = calibrate_intervals(lonely, parts.calibration, parts.valid)
        metrics |= fit_costs("alone", other)
    for name, tested in ({} if truth is None else truth.tests).items():
        metrics |= teacher.score(tested, f"teacher/{name}", name)
        for who, one in contenders.items():
            metrics |= score(one, tested, f"{who}/{name}", name)
    if truth is None:
        tested = apart["test"] if len(apart["test"]) else apart["valid"]
        metrics |= score(student, tested, "agreement", "the answers of the teacher")
    else:
        metrics |= _agreement(student, taught, same_level)
    metrics |= spent_and_saved(_costs_each(teacher, student, lessons.frames), spent)
    metrics |= (
        teacher.costs()
        | fit_costs("student", result)
        | {
            "distil/frames_core_seconds": ledger.core_seconds(MADE),
            "distil/answers_core_seconds": ledger.core_seconds("answers of the teacher"),
            "distil/learned": float(len(taught.frames)),
            "distil/labels": 0.0 if parts is None else float(len(parts.train)),
            "distil/same_level": float(same_level),
        }
    )
    metrics |= ratios(metrics)
    kept = {k: v for k, v in metrics.items() if k.startswith(("student/test", "agreement"))}
    student.with_facts(scores=kept).save(run_dir / "surrogate")
    # Answers of a simulator are its labels, those of a surrogate are not.
    answered = hash_keys(frame_keys(lessons.frames) if isinstance(teacher, SimulatorOfFrames) else ())
    before = [teacher.learned]
    if request.start is not None:
        before.append(read_hashes(surrogate_directory(request.start, "start")))
    save_hashes(run_dir / "surrogate", answered if parts is None else parts.learned, answered, *before)
    save_label_sources(run_dir / "surrogate", _sources(teacher, request))
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


def _same_level(teacher: FrameTeacher, truth: FramesWithLabels | None, request: DistilRequest) -> bool:
    """Whether the teacher learned these very labels, or is the simulator that made them."""
    if truth is None:
        return False
    makers = [source.get("fingerprint") for source in label_sources([Path(str(request.data.train))], None)]
    return teacher.labels_fingerprint in (truth.fingerprint, *makers)


def _with_totals(lessons: FrameLessons, rows: np.ndarray) -> Structures:
    """Frames whose labels are the answers, with total energies."""
    frames = labelled_by(lessons.frames.take(rows), lessons.answers.take(lessons.frames, rows))
    return frames.with_energy(frames.energy + lessons.head.references.energy(frames))


def _costs_each(teacher: FrameTeacher, student: PotentialSurrogate, frames: Structures) -> dict[str, float]:
    some = frames.take(np.arange(TIMED) % len(frames))
    ours, theirs = partial(student.predict_structures, some, error_bars=False), teacher.timed(some)
    if isinstance(theirs, float):
        return {"teacher": theirs, **core_seconds_each({"student": ours}, TIMED)}
    return core_seconds_each({"teacher": theirs, "student": ours}, TIMED)


def _sources(teacher: FrameTeacher, request: DistilRequest) -> list[dict[str, Any]]:
    """What made the labels and the answers."""
    labels = [] if request.data.train is None else label_sources([Path(request.data.train)], None)
    if isinstance(teacher, SurrogateOfFrames):
        return [*labels, teacher_source(teacher.potential, teacher.directory)]
    assert isinstance(teacher, SimulatorOfFrames)
    return [*labels, teacher_source(teacher.asked.simulator, None)]


def _taught(
    teacher: FrameTeacher, request: DistilRequest, lessons: FrameLessons, parts: Mapping[str, np.ndarray]
) -> TaughtFrames:
    """What the student is taught."""
    learned, checked = parts["train"], parts["valid"]
    weights = {name: float(getattr(request.weights, name)) for name in WEIGHTS}
    fingerprints = teacher.fingerprint, teacher.labels_fingerprint
    frames, answers = lessons.frames, lessons.answers
    return TaughtFrames(
        Teacher(
            teacher.name,
            *fingerprints,
            len(learned),
            weights,
            ON_ANSWERS if request.data.train is None else ON_LABELS,
            **teacher.facts,
        ),
        lessons.head,
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
