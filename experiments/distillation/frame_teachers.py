"""Teachers of potentials: trained potentials, which answer in this process, and simulators, which campaigns ask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool

from data.errors import InputError
from data.spec import SimulationError
from data.structures.structures import Structures
from data.terminal import progress_bar
from experiments.distillation.answering_teacher import AnsweringTeacher
from experiments.distillation.costs import teacher_costs
from experiments.distillation.frame_files import frame_answers
from experiments.distillation.simulator_answers import SimulatorAnswers, facts_of
from simulators.adapter import Simulator, answer_each
from simulators.campaigns.config import CampaignConfig
from simulators.chemistry.rattle_and_relax import RattleAndRelax, TreeConfig, rattle_and_relax
from simulators.structure_requests import request
from surrogates.learning.learned_from import read_hashes
from surrogates.potentials.atom_energies import References
from surrogates.potentials.facts import Head
from surrogates.potentials.lessons import FrameAnswers
from surrogates.potentials.scores import score
from surrogates.potentials.surrogate import PotentialSurrogate

#: What a simulator is asked for.
OUTPUTS = ("energy", "forces")
TREE_OUTPUTS = ("frame_positions", "frame_forces", "frame_energies", "evaluations")
#: Trees that a potential grows side by side, and distance of the seeds of two runs.
TREES, SEEDS = 256, 1_000_003


class FrameTeacher(AnsweringTeacher):
    """What answers for frames."""

    @abstractmethod
    def takes(self, frames: Structures) -> Bool[np.ndarray, " M"]:
        """Whether it takes the elements, the charge and the cell of each frame."""

    @abstractmethod
    def inside(self, frames: Structures) -> Bool[np.ndarray, " M"]:
        """Whether each frame lies in its domain."""

    @abstractmethod
    def tree(self, start: Structures, config: TreeConfig, seed: int, run_dir: Path) -> Structures:
        """Frames of a tree around each of some frames; what it says of them already is in their energies and forces.

        Args:
            start: frames that it knows.
            config: how trees grow.
            seed: seed of the trees.
            run_dir: receives what it answers.
        """

    @abstractmethod
    def answers(
        self, frames: Structures, folder: Path, seed: int, *, curvatures: bool
    ) -> tuple[Structures, FrameAnswers, Head]:
        """The frames that it answers, its answers, and what the head of a student that learns them is.

        Args:
            frames: frames that it knows, of its domain.
            folder: receives the answers.
            seed: seed of the directions of curvatures.
            curvatures: whether these are learned; otherwise they are not asked for, and are 0.
        """

    @abstractmethod
    def score(self, frames: Structures, prefix: str, where: str) -> dict[str, float]:
        """Its scores on labelled frames."""

    @abstractmethod
    def timed(self, frames: Structures) -> Callable[[], Any] | float:
        """A function that answers for frames; or the processor time of one answer, s."""


@dataclass(frozen=True)
class SurrogateOfFrames(FrameTeacher):
    """A trained potential as a teacher.

    Attributes:
        potential: the potential.
        directory: where it is saved.
    """

    potential: PotentialSurrogate
    directory: Path

    @staticmethod
    def of(potential: PotentialSurrogate, directory: Path) -> SurrogateOfFrames:
        """The teacher.

        Raises:
            InputError: it learned differences to another method, or has no energies or no domain.
        """
        if potential.facts.head.baseline is not None:
            raise InputError(
                "the teacher learned differences to another method, which would be asked about every frame",
                where="teacher",
                remedy="Distil a potential that was trained without on=",
            )
        if not potential.facts.head.has_energy or potential.last_layer is None or not potential.facts.novelty:
            raise InputError("the teacher has no energies, or no domain", where="teacher", remedy="Train it again")
        return SurrogateOfFrames(
            potential.name,
            potential.fingerprint,
            potential.labels_fingerprint,
            read_hashes(directory),
            {},
            potential,
            directory,
        )

    def takes(self, frames: Structures) -> Bool[np.ndarray, " M"]:
        """See `FrameTeacher`."""
        elements, charges = self.potential.facts.references.elements, self.potential.facts.head.charges
        strange = np.bincount(frames.molecule, ~np.isin(frames.numbers, elements), len(frames)) > 0
        return ~strange & np.isin(frames.charge, charges)

    def inside(self, frames: Structures) -> Bool[np.ndarray, " M"]:
        """See `FrameTeacher`."""
        return self.potential.novelties(frames) <= 1.0

    def tree(self, start: Structures, config: TreeConfig, seed: int, run_dir: Path) -> Structures:
        """See `FrameTeacher`."""
        grower = rattle_and_relax(self.potential, config)
        parts = []
        with progress_bar("trees", len(start)) as bar:
            for first in range(0, len(start), TREES):
                rows = np.arange(first, min(first + TREES, len(start)))
                answers = answer_each(grower, [tree_request(grower, start, int(row), seed) for row in rows])
                grown = [(int(r), a) for r, a in zip(rows, answers, strict=True) if not isinstance(a, SimulationError)]
                parts += [frames_of_tree(start, row, tree) for row, tree in grown]
                bar.advance(len(rows))
        return _some(parts)

    def answers(
        self, frames: Structures, folder: Path, seed: int, *, curvatures: bool
    ) -> tuple[Structures, FrameAnswers, Head]:
        """See `FrameTeacher`."""
        return (
            frames,
            frame_answers(self.potential, frames, folder, seed, curvatures=curvatures),
            self.potential.facts.head,
        )

    def score(self, frames: Structures, prefix: str, where: str) -> dict[str, float]:
        """See `FrameTeacher`."""
        return score(self.potential, frames, prefix, where)

    def costs(self) -> dict[str, float]:
        """See `FrameTeacher`."""
        return teacher_costs(self.directory, self.potential.scores)

    def timed(self, frames: Structures) -> Callable[[], Any] | float:
        """See `FrameTeacher`."""
        return partial(self.potential.predict_structures, frames, error_bars=False)


@dataclass(frozen=True)
class SimulatorOfFrames(FrameTeacher):
    """A simulator of energies and forces as a teacher; requests that fail are left out and counted."""

    asked: SimulatorAnswers = field(repr=False)

    @staticmethod
    def of(simulator: Simulator, store: Path, config: CampaignConfig) -> SimulatorOfFrames:
        """The teacher, whose answers go to a store.

        Raises:
            InputError: it takes no geometries, or gives no energies and forces.
        """
        takes = {v.name for v in simulator.spec.inputs}
        gives = {v.name for v in simulator.spec.outputs}
        if "positions" not in takes or not gives >= set(OUTPUTS):
            raise InputError(
                f"{simulator.name} does not give energies and forces of geometries",
                where="simulator",
                remedy="Name such a simulator, as so3lr, or give 'simulator.outputs=[energy,forces]'",
            )
        fingerprint = simulator.fingerprint
        asked = SimulatorAnswers(simulator, store, config)
        return SimulatorOfFrames(simulator.name, fingerprint, fingerprint, None, facts_of(simulator), asked)

    def takes(self, frames: Structures) -> Bool[np.ndarray, " M"]:
        """See `FrameTeacher`."""
        taken = np.ones(len(frames), bool)
        for row in range(len(frames)):
            try:
                request(self.asked.simulator, frames, row)
            except SimulationError:
                taken[row] = False
        return taken

    def inside(self, frames: Structures) -> Bool[np.ndarray, " M"]:
        """See `FrameTeacher`."""
        return np.ones(len(frames), bool)

    def tree(self, start: Structures, config: TreeConfig, seed: int, run_dir: Path) -> Structures:
        """See `FrameTeacher`."""
        grower = rattle_and_relax(self.asked.simulator, config)
        asked = SimulatorAnswers(grower, run_dir / "trees.zarr", self.asked.config)
        got = asked.ask((tree_request(grower, start, row, seed) for row in range(len(start))), TREE_OUTPUTS, len(start))
        whole = np.flatnonzero(got.ok)
        self.asked.take(got, [float(got.values[row]["evaluations"]) for row in whole])
        return _some([frames_of_tree(start, int(row), got.values[row]) for row in whole])

    def answers(
        self, frames: Structures, folder: Path, seed: int, *, curvatures: bool
    ) -> tuple[Structures, FrameAnswers, Head]:
        """See `FrameTeacher`. Energies of atoms and curvatures, which a simulator does not say, are 0."""
        # Frames of a tree have been answered while it grew.
        labelled = frames if np.isfinite(frames.energy).all() else self._asked(frames)[0]
        references = References.fit(labelled)
        nothing = np.zeros_like(labelled.positions)
        answers = FrameAnswers(
            labelled.energy - references.energy(labelled),
            labelled.forces,
            np.zeros(len(labelled.numbers)),
            nothing,
            nothing,
        )
        charges = tuple(sorted(set(labelled.charge.tolist())))
        return labelled, answers, Head(references, self.fingerprint, charges=charges)

    def score(self, frames: Structures, prefix: str, where: str) -> dict[str, float]:
        """See `FrameTeacher`. Energies of two methods do not compare, so that forces alone are scored."""
        askable = frames.take(np.flatnonzero(self.takes(frames)))
        answered, rows = self._asked(askable)
        errors = 1000.0 * (answered.forces - askable.take(rows).forces)
        errors = errors[np.isfinite(errors)]
        if not len(errors):
            return {}
        unit = "mev_per_angstrom"
        return {
            f"{prefix}/forces_mae_{unit}": float(np.abs(errors).mean()),
            f"{prefix}/forces_rmse_{unit}": float(np.sqrt((errors**2).mean())),
        }

    @property
    def core_seconds(self) -> float | None:
        """See `FrameTeacher`."""
        return self.asked.core_seconds

    def timed(self, frames: Structures) -> Callable[[], Any] | float:
        """See `FrameTeacher`."""
        return self.asked.core_seconds_each

    def _asked(self, frames: Structures) -> tuple[Structures, np.ndarray]:
        """The frames that are answered, with the answers as labels, and their rows."""
        requests = (request(self.asked.simulator, frames, row) for row in range(len(frames)))
        got = self.asked.ask(requests, OUTPUTS, len(frames))
        rows = np.flatnonzero(got.ok)
        values = [got.values[row] for row in rows]
        forces = [np.asarray(one["forces"], np.float64) for one in values]
        answered = replace(
            frames.take(rows),
            energy=np.array([float(one["energy"]) for one in values]),
            forces=np.concatenate(forces) if forces else np.zeros((0, 3)),
        )
        return answered, rows


def _some(parts: list[Structures]) -> Structures:
    if not parts:
        raise InputError("no tree could be grown", where="tree", remedy="Give start frames that the teacher answers")
    return Structures.concatenate(parts)


def tree_request(grower: RattleAndRelax, start: Structures, row: int, seed: int) -> xr.Dataset:
    """The request for the tree of a frame; each has a seed of its own."""
    asked = request(grower.simulator, start, row)
    return asked.assign(seed=((), np.int64(SEEDS * seed + row)))


def frames_of_tree(start: Structures, row: int, tree: Mapping[str, Any] | xr.Dataset) -> Structures:
    """The frames of the tree of a frame, with the energies and forces of the teacher."""
    values = {name: np.asarray(tree[name]) for name in TREE_OUTPUTS}
    many = start.take(np.full(len(values["frame_energies"]), row))
    return replace(
        many,
        positions=values["frame_positions"].astype(many.positions.dtype),
        energy=values["frame_energies"],
        forces=values["frame_forces"].astype(many.forces.dtype),
        _neighbours={},
    )
