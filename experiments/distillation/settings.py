"""Settings of a distillation: its inputs, the weights of its loss, and labels where there are any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from data.structures.frame_settings import KeySettings
from experiments.active.exploration import ExploreConfig
from simulators.campaigns.config import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.rattle_and_relax import TreeConfig
from surrogates.learning.loop import TrainConfig
from surrogates.learning.part_sizes import check_parts


@dataclass(frozen=True)
class LessonConfig:
    """The inputs that the teacher answers.

    Attributes:
        count: number of inputs of the file that are drawn at random; None for all.
        valid: share of the answers that chooses the best weights, beside labels where there are any.
        calibration, test: shares of the answers that calibrate the intervals, and that are scored, where there are no
            labels to do so.
        seed: seed of these choices.
        every: saved times of a teacher of trajectories, or steps of a teacher of forecasts, that are one step of the
            student.
    """

    count: int | None = None
    valid: float = 0.05
    calibration: float = 0.1
    test: float = 0.1
    seed: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be at least 1, or null for all, got {self.count}")
        if not 0 < self.valid < 1:
            raise ValueError(f"valid must lie between 0 and 1, got {self.valid}")
        if min(self.calibration, self.test) < 0 or not self.valid + self.calibration + self.test < 1:
            raise ValueError("calibration and test must be 0 or more, and below 1 together with valid")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


@dataclass(frozen=True)
class LessonWeights:
    """Weights of the loss: how much each label, and each answer of the teacher, counts.

    Attributes:
        labels: of labels.
        answers: of the answers of a teacher of properties.
        energy, forces: of the energy and of the forces of a frame that a potential answered.
        atom_energies: of the energies of its atoms.
        hessian: of the derivative of its forces along one random direction, Angstrom; it doubles the training step.
    """

    labels: float = 1.0
    answers: float = 1.0
    energy: float = 1.0
    forces: float = 1.0
    atom_energies: float = 0.0
    hessian: float = 0.0

    def __post_init__(self) -> None:
        of_frames = (self.energy, self.forces, self.atom_energies, self.hessian)
        if min(self.labels, self.answers, *of_frames) < 0:
            raise ValueError(f"weights must be 0 or more, got {self}")
        if not self.answers > 0 or not max(self.energy, self.forces) > 0:
            raise ValueError("a distillation learns answers, whose weight must be above 0")


@dataclass(frozen=True)
class LabelledData(KeySettings):
    """Labels of the simulator itself, which intervals and scores need, and the names of their entries in frames.

    Attributes:
        train: table of labels, frames, or a store that `understudy simulate` wrote; None for none.
        target: columns with the labels, one for each target of the teacher; None for columns of their names.
        split: random, scaffold or size.
        parts: fractions or counts of `train`, in the order of `surrogates.learning.part_sizes.PARTS`.
        test: files that are scored separately, in place of a test part of `train`, which frames have not.
        seed: seed of the split.
    """

    train: str | None = None
    target: Any = None
    split: str = "random"
    parts: list[Any] = field(default_factory=lambda: [0.8, 0.05, 0.05, 0.1])
    test: Any = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        check_parts(self.parts, self.seed)

    def key_settings(self) -> dict[str, Any]:
        """The settings of `KeySettings` by name."""
        return {name: getattr(self, name) for name in KeySettings.__dataclass_fields__}


@dataclass(frozen=True)
class DistilRequest:
    """What is distilled into what.

    Attributes:
        inputs: file of what the teacher answers, or "dynamics".
        drawn: requests that a simulator drew, in place of a file; None for a file.
        smiles: column with SMILES, of tables.
        alone: whether to train the same student on the labels alone as well, for comparison.
        lessons: how many of the inputs are answered.
        weights: weights of the loss.
        data: labels.
        dynamics: dynamics of a potential that make its inputs.
        tree: trees of frames around the inputs of a potential.
        model: settings of the student.
        training: its training recipe.
        campaign: how a simulator is asked.
        conformers: how geometries are made from SMILES, for a simulator of geometries.
        start: directory of a trained potential from whose weights a student of potentials begins; None for fresh ones.
    """

    inputs: str | None
    smiles: str
    alone: bool
    lessons: LessonConfig
    weights: LessonWeights
    data: LabelledData
    dynamics: ExploreConfig
    tree: TreeConfig
    model: Mapping[str, Any]
    training: TrainConfig
    campaign: CampaignConfig
    conformers: ConformerConfig
    drawn: Iterable[xr.Dataset] | None = None
    start: str | None = None
