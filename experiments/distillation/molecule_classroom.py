"""What a student of molecular properties learns from, and its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.molecules.graph_tables import GraphTable
from data.splits import Split
from experiments.distillation.answer_parts import answer_parts
from experiments.distillation.molecule_labels import LabelledMolecules
from experiments.distillation.molecule_lessons import MoleculeLessons
from experiments.distillation.molecule_teachers import MoleculeTeacher
from experiments.distillation.settings import LessonConfig
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.part_sizes import PARTS
from surrogates.learning.resuming import record_training_data
from surrogates.properties.calibration import calibrate_intervals
from surrogates.properties.fit import fit_ensemble, training_identity
from surrogates.properties.lessons import TaughtAnswers
from surrogates.properties.surrogate import PropertyConfig, PropertySurrogate

#: End of the name of a target that learns the answers of a teacher of another level of theory than the labels.
OF_TEACHER = "_of_teacher"


@dataclass(frozen=True)
class MoleculeClassroom:
    """What a student learns from: labelled molecules, and behind them those that only the teacher answered.

    Attributes:
        graphs: all molecules.
        labels: labels by target; NaN where there is none.
        answers: answers of the teacher, in the order of the targets; NaN where there is none.
        split: rows of each part.
        units: unit of each target.
    """

    graphs: GraphTable
    labels: dict[str, Float[np.ndarray, " molecule"]]
    answers: Float[np.ndarray, "molecule target"]
    split: Split
    units: dict[str, str]

    @staticmethod
    def of(
        truth: LabelledMolecules,
        of_labelled: Float[np.ndarray, "molecule target"],
        answered: MoleculeLessons | None,
        config: LessonConfig,
    ) -> MoleculeClassroom:
        """Labelled molecules, and those that the teacher answered.

        A share of the latter validates. Where there are no labels, further shares calibrate and test.
        """
        units = {name: truth.table.units[name] for name in truth.table.values}
        if answered is None:
            return MoleculeClassroom(truth.graphs, dict(truth.table.values), of_labelled, truth.split, units)
        first, more = len(truth.graphs), len(answered.table)
        of_answers = answer_parts(more, config, labelled=first > 0)
        split = {name: np.concatenate([np.asarray(truth.split[name]), first + of_answers[name]]) for name in PARTS}
        labels = {name: np.concatenate([v, np.full(more, np.nan)]) for name, v in truth.table.values.items()}
        graphs_of_both = GraphTable.concat([truth.graphs, answered.table])
        return MoleculeClassroom(
            graphs_of_both, labels, np.concatenate([of_labelled, answered.answers]), Split.of(split), units
        )

    def with_heads(self) -> MoleculeClassroom:
        """The same with targets of their own for the answers, which labels of another level of theory do not enter."""
        unknown = np.full(len(self.answers), np.nan)
        both = {**self.labels, **{f"{name}{OF_TEACHER}": unknown for name in self.labels}}
        units = self.units | {f"{name}{OF_TEACHER}": unit for name, unit in self.units.items()}
        answers = np.concatenate([np.full_like(self.answers, np.nan), self.answers], axis=1)
        return MoleculeClassroom(self.graphs, both, answers, self.split, units)

    @property
    def calibrating(self) -> dict[str, Float[np.ndarray, " molecule"]]:
        """What calibrates each target: its labels, or where it has none the answers."""
        columns = zip(self.labels.items(), self.answers.T, strict=True)
        return {name: values if np.isfinite(values).any() else said for (name, values), said in columns}


def fitted_student(
    room: MoleculeClassroom,
    taught: TaughtAnswers | None,
    training: TrainConfig,
    run_dir: Path,
    fingerprint: str,
    *,
    teacher: MoleculeTeacher,
    config: PropertyConfig,
) -> tuple[PropertySurrogate, FitResult]:
    """A student with intervals, if something was set aside to calibrate them; a stopped training resumes."""
    binary = teacher.binary
    facts = training_identity(room.graphs, room.labels, room.split, config, classification=binary, taught=taught)
    record_training_data(run_dir, facts)
    student, result = fit_ensemble(
        room.graphs,
        room.labels,
        room.split,
        config,
        training,
        run_dir,
        units=room.units,
        label_fingerprint=fingerprint,
        classification=binary,
        taught=taught,
    )
    rows = np.asarray(room.split["calibration"])
    return (calibrate_intervals(student, room.graphs, room.calibrating, rows) if len(rows) else student), result
