"""What a student of molecular properties learns from, and its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.molecules.graph_tables import GraphTable
from data.splits import Split
from experiments.distillation.molecule_labels import LabelledMolecules
from experiments.distillation.molecule_lessons import MoleculeLessons
from experiments.distillation.settings import LessonConfig
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.part_sizes import PARTS
from surrogates.learning.resuming import record_training_data
from surrogates.properties.calibration import calibrate_intervals
from surrogates.properties.fit import fit_ensemble, training_identity
from surrogates.properties.lessons import TaughtAnswers
from surrogates.properties.surrogate import PropertyConfig, PropertySurrogate


@dataclass(frozen=True)
class MoleculeClassroom:
    """What a student learns from: labelled molecules, and behind them those that only the teacher answered.

    Attributes:
        graphs: all molecules.
        labels: labels by target; NaN where there is none.
        answers: answers of the teacher; NaN where there is none.
        split: rows of each part.
    """

    graphs: GraphTable
    labels: dict[str, Float[np.ndarray, " molecule"]]
    answers: Float[np.ndarray, "molecule target"]
    split: Split

    @staticmethod
    def of(
        truth: LabelledMolecules,
        of_labelled: Float[np.ndarray, "molecule target"],
        answered: MoleculeLessons | None,
        config: LessonConfig,
    ) -> MoleculeClassroom:
        """Labelled molecules, and those that the teacher answered; a share of the latter validates."""
        if answered is None:
            return MoleculeClassroom(truth.graphs, dict(truth.table.values), of_labelled, truth.split)
        first, more = len(truth.graphs), len(answered.table)
        order = first + np.random.default_rng(config.seed).permutation(more)
        valid = min(max(1, round(config.valid * more)), more - 1)
        split = {name: np.asarray(truth.split[name]) for name in PARTS}
        split["train"] = np.concatenate([split["train"], np.sort(order[valid:])])
        split["valid"] = np.concatenate([split["valid"], np.sort(order[:valid])])
        labels = {name: np.concatenate([v, np.full(more, np.nan)]) for name, v in truth.table.values.items()}
        graphs_of_both = GraphTable.concat([truth.graphs, answered.table])
        return MoleculeClassroom(
            graphs_of_both, labels, np.concatenate([of_labelled, answered.answers]), Split.of(split)
        )


def fitted_student(
    room: MoleculeClassroom,
    taught: TaughtAnswers | None,
    training: TrainConfig,
    run_dir: Path,
    fingerprint: str,
    *,
    teacher: PropertySurrogate,
    config: PropertyConfig,
) -> tuple[PropertySurrogate, FitResult]:
    """A student with intervals, if there are labels to calibrate them; a training that was stopped resumes."""
    binary = teacher.facts.classification
    facts = training_identity(room.graphs, room.labels, room.split, config, classification=binary, taught=taught)
    record_training_data(run_dir, facts)
    student, result = fit_ensemble(
        room.graphs,
        room.labels,
        room.split,
        config,
        training,
        run_dir,
        units=dict(teacher.facts.units),
        label_fingerprint=fingerprint,
        classification=binary,
        taught=taught,
    )
    rows = np.asarray(room.split["calibration"])
    return (calibrate_intervals(student, room.graphs, room.labels, rows) if len(rows) else student), result
