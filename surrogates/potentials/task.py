"""Trains potentials on files of geometries with energies and forces, and scores them on other files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from data.errors import InputError
from data.identity import frame_keys
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build, refuse_equal_stems
from data.spec import content_hash
from data.structures.frame_names import FrameKeys
from data.structures.frame_settings import KeySettings
from data.structures.structures import Structures
from simulators.rebuild import describe
from surrogates.learning.devices import data_mesh
from surrogates.learning.learned_from import Hashes, hash_keys, read_hashes, save_hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.nn.registry import settings_of_surrogate
from surrogates.learning.overlap import Overlap
from surrogates.learning.rung import FittedRung, Rung
from surrogates.learning.task import VALIDATION, Task
from surrogates.potentials.atom_energies import isolated_energies
from surrogates.potentials.baseline import differences
from surrogates.potentials.calibration import calibrate_intervals
from surrogates.potentials.facts import PotentialConfig, PotentialSettings
from surrogates.potentials.fit import FineTuning, fit_potential_surrogate
from surrogates.potentials.frame_weights import FrameWeights
from surrogates.potentials.networks.architectures import ARCHITECTURES
from surrogates.potentials.scores import evaluate_frames, score, scored_rows, with_baseline
from surrogates.potentials.structure_reading import isolated_said, read_structures
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.training_frames import Files, PotentialData, fingerprint, split_frames
from surrogates.potentials.tuning import (
    TuneConfig,
    continued_config,
    fine_tuning,
    fixed_by_weights,
    refuse_unlearned_elements,
)
from surrogates.saved import surrogate_directory

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frames:
    """The frames of all files.

    Attributes:
        train: frames of `Files.train`.
        valid: frames of the validation file, if there is one.
        tests: frames of each test file.
        isolated: energies of the atoms of `Files.isolated_atoms`, atomic number -> eV.
        tuning: trained potential to continue from, and the frames to replay; None for fresh weights.
    """

    train: Structures
    valid: Structures | None
    tests: Mapping[Path, Structures]
    isolated: Mapping[int, float]
    tuning: FineTuning | None


@dataclass(frozen=True)
class PotentialParts:
    """The frames of each part.

    Attributes:
        read: frames of all files.
        train, valid, calibration: frames of each part, whose labels are differences if there is a baseline.
        rows: rows of each part among the frames of `Files.train`.
        baseline_costs: cost of the baseline, as metrics.
    """

    read: Frames
    train: Structures
    valid: Structures
    calibration: Structures | None
    rows: Mapping[str, np.ndarray]
    baseline_costs: Mapping[str, float]

    @cached_property
    def learned(self) -> Hashes:
        """Hashes of the geometries of all parts."""
        parts = [part for part in (self.train, self.valid, self.calibration) if part is not None]
        return hash_keys(frame_keys(Structures.concatenate(parts)))


@dataclass(frozen=True)
class PotentialTask(Task[Frames, PotentialParts, PotentialSurrogate]):
    """A training on geometries with energies and forces, from fresh weights or from those of a trained potential.

    Attributes:
        files: files to train and score on.
        config: settings of the potential; when fine-tuning, its network, ensemble and pair terms are those of the
            trained potential.
        training: training recipe.
        tune: trained potential to continue from, if any, and how.
        baseline: simulator whose energies and forces are subtracted from the labels; it is run on all frames first.
    """

    files: Files
    config: PotentialConfig
    training: TrainConfig
    tune: TuneConfig = field(default_factory=TuneConfig)
    baseline: Rung | None = None

    KIND = "potentials"
    RUNG_OUTPUTS = ("energy", "forces")
    DATA = PotentialData
    EVALUATED_WITH = frozenset({"data.test", "head", *(f"data.{name}" for name in KeySettings.__dataclass_fields__)})

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        files = build(PotentialData, settings["data"], where="data").files()
        tune = build(TuneConfig, settings["tune"], where="tune")
        config = cls.model_settings(settings["model"])
        if on is not None and settings["model"].get("repulsion") is None:
            # The simulator below repels nuclei already, and a difference of two methods does not diverge as they meet.
            config = replace(config, repulsion=False)
        assert not isinstance(on, FittedRung)  # this kind has none
        if on is not None and hasattr(on.simulator, "labels_fingerprint"):
            problem = f"a potential stands on simulators alone, and {on.simulator.name} is a surrogate"
            raise InputError(problem, where="on", remedy="Name a simulator, such as xtb")
        return cls(files, config, build(TrainConfig, settings["train"], where="train"), tune, on)

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> PotentialConfig:
        """The settings of the surrogate; see `Task.model_settings`. Without `repulsion` they have it."""
        if "repulsion" in node and node["repulsion"] is None:
            node = {**node, "repulsion": True}
        return settings_of_surrogate(PotentialSettings, PotentialConfig, node, ARCHITECTURES)

    @classmethod
    def unused_in_training(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Settings that the weights to continue from fix, or that need such weights; see `Task.unused_in_training`."""
        unused: dict[str, str] = {}
        if settings["tune"]["surrogate"] is not None:
            unused |= fixed_by_weights(settings)
        else:
            why = "nothing is fine-tuned without tune.surrogate"
            unused |= dict.fromkeys(("tune.replay", "tune.frozen_body", "tune.new_elements"), why)
        if not settings["tune"]["replay"]:
            unused["tune.replay_frames"] = "nothing is replayed without tune.replay.HEAD=FILE"
        unused |= cls.unused_rung(settings)
        if settings.get("baseline") is not None or settings.get("on") is not None:
            unused["data.isolated_atoms"] = "differences to a baseline have no energies of isolated atoms"
        return unused

    def read(self, rejects: RejectLog | None, readings: list[Reading]) -> Frames:
        """The frames of all files, with a note on the energies of isolated atoms; see `Task.read`."""
        files = self.files
        refuse_equal_stems(files.test, "data.test")

        def frames_of(path: Path, *, training: bool = False, weights: FrameWeights | None = None) -> Structures:
            spins = self.baseline is not None
            return read_structures(
                path, rejects, files.keys, spins=spins, training=training, readings=readings, weights=weights
            )

        start = len(readings)
        weights = FrameWeights(files.weights)
        frames = Structures.concatenate([frames_of(path, training=True, weights=weights) for path in files.train])
        weights.refuse_unused()
        valid = frames_of(files.valid) if isinstance(files.valid, Path) else None
        tests = {path: frames_of(path) for path in files.test}
        isolated, place = {}, start
        if files.isolated_atoms is not None:
            isolated = isolated_energies(frames_of(files.isolated_atoms, training=True))
            place = len(readings) - 1
            if not isolated:
                raise InputError(
                    "no frame of it is a neutral atom without neighbours and with an energy",
                    where=str(files.isolated_atoms),
                    remedy="Give one for each element, or leave data.isolated_atoms out",
                )
        tuning = fine_tuning(self.tune, rejects, files.keys, readings)
        refuse_unlearned_elements(self.tune, tuning, frames, ", ".join(map(str, files.train)))
        free = isolated_energies(frames) | isolated
        if free and self.baseline is None:
            bound = frames.take(np.flatnonzero(~frames.alone()))
            goes_on = tuning is not None and self.tune.head in tuning.potential.facts.heads
            head = self.tune.head if goes_on else None
            readings[place] = isolated_said(readings[place], free, bound.elements, head)
        return Frames(frames, valid, tests, isolated, tuning)

    def split(self, data: Frames, run_dir: Path, *, progress: bool = True) -> PotentialParts:
        """Split the training frames at random, and subtract the answers of the baseline; see `Task.split`."""
        train, valid, calibration, rows = split_frames(data.train, data.valid, self.files)
        if self.baseline is None:
            return PotentialParts(data, train, valid, calibration, rows, {})
        labelled = [part for part in (train, valid, calibration) if part is not None]
        less, costs = differences(self.baseline, labelled, run_dir / "baseline.zarr", progress=progress)
        return PotentialParts(data, less[0], less[1], less[2] if len(less) > 2 else None, rows, costs)

    def rows(self, parts: PotentialParts) -> dict[str, list[int]]:
        """The rows of each part among the frames of the training files."""
        return {name: rows.tolist() for name, rows in parts.rows.items()}

    def settings(self, parts: PotentialParts) -> PotentialConfig:
        """The settings of the potential, with those that the weights to continue from fix."""
        tuning = parts.read.tuning
        return self.config if tuning is None else continued_config(self.config, tuning.potential)

    def identity(self, parts: PotentialParts) -> dict[str, str]:
        """Hashes of the frames, of the settings, and of the potential to continue from."""
        tuning, isolated = parts.read.tuning, parts.read.isolated
        return {
            "training part": fingerprint(parts.train),
            "validation part": fingerprint(parts.valid),
            "isolated atoms": content_hash({str(z): e for z, e in sorted(isolated.items())}),
            "network": content_hash(to_plain(self.settings(parts))),
            "trained potential": "" if tuning is None else tuning.potential.fingerprint,
            "head": self.tune.head,
            "replayed frames": "" if tuning is None or tuning.replay is None else fingerprint(tuning.replay),
        }

    def fit(
        self, parts: PotentialParts, run_dir: Path, *, progress: bool = True
    ) -> tuple[PotentialSurrogate, FitResult]:
        """Train a potential; see `surrogates.potentials.fit`."""
        return fit_potential_surrogate(
            parts.train,
            parts.valid,
            self.settings(parts),
            self.training,
            run_dir,
            isolated={} if self.baseline is not None else parts.read.isolated,
            label_fingerprint=fingerprint(parts.read.train),
            head=self.tune.head,
            tune=parts.read.tuning,
            baseline=None if self.baseline is None else describe(self.baseline.simulator),
            mesh=data_mesh(),
            progress=progress,
        )

    def calibrate(self, surrogate: PotentialSurrogate, parts: PotentialParts) -> PotentialSurrogate:
        """The potential with scaled standard deviations and intervals; see `surrogates.potentials.calibration`."""
        return calibrate_intervals(surrogate, parts.calibration, parts.valid)

    def costs(self, parts: PotentialParts, result: FitResult) -> dict[str, float]:
        """The number of training frames, and the cost of the baseline."""
        return {"train/frames": float(len(parts.train)), **parts.baseline_costs}

    def score(self, surrogate: PotentialSurrogate, parts: PotentialParts) -> dict[str, float]:
        """Scores of each test file, or without any of the validation part."""
        if not parts.read.tests:
            # With a baseline these are differences, to which it would add the same on both sides.
            bare = replace(surrogate.facts.head, baseline=None)
            heads = {**surrogate.facts.heads, surrogate.facts.active: bare}
            return score(surrogate.with_facts(heads=heads), parts.valid, VALIDATION, "the validation part")
        potential = self._with_baseline(surrogate)
        scores: dict[str, float] = {}
        for path, structures in parts.read.tests.items():
            overlap = Overlap.among(parts.learned, frame_keys(structures), "frames")
            if overlap.count:
                LOG.warning("%s: %s", path, overlap.said)
            scores |= overlap.scores(f"test/{path.stem}", partial(scored_rows, potential, structures, path))
        return scores

    def save(
        self, surrogate: PotentialSurrogate, parts: PotentialParts, metrics: Mapping[str, float], directory: Path
    ) -> None:
        """Save the potential with its metrics, and hashes of the geometries that it has ever learned from."""
        potential = self._with_baseline(surrogate)
        if to_plain(self.files.keys) != to_plain(FrameKeys()):
            active = replace(potential.facts.head, keys=self.files.keys)
            potential = potential.with_facts(heads={**potential.facts.heads, potential.facts.active: active})
        potential.with_facts(scores=metrics).save(directory)
        save_hashes(directory, parts.learned, *self._learned_before(parts.read.tuning))

    def _with_baseline(self, potential: PotentialSurrogate) -> PotentialSurrogate:
        return potential if self.baseline is None else potential.with_baseline(self.baseline.simulator)

    def _learned_before(self, tuning: FineTuning | None) -> list[Hashes | None]:
        """Hashes of the data that the potential to continue from was trained on, and of the replayed frames."""
        if tuning is None:
            return []
        replayed = [] if tuning.replay is None else [hash_keys(frame_keys(tuning.replay))]
        return [read_hashes(surrogate_directory(self.tune.surrogate, "tune.surrogate")), *replayed]

    @staticmethod
    def ready(surrogate: PotentialSurrogate, settings: Mapping[str, Any]) -> PotentialSurrogate:
        """The potential whose active head is the setting `head`, with the baseline of that head.

        Without the setting, the head that was trained last stays active.

        Raises:
            InputError: the simulator that the labels are differences to cannot be rebuilt.
        """
        head = settings.get("head")
        return with_baseline(surrogate if head is None else surrogate.with_facts(active=head))

    @classmethod
    def evaluate(
        cls,
        surrogate: PotentialSurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Scores on files of frames; the settings of `KeySettings` name their labels. See `Task.evaluate`."""
        names = KeySettings.__dataclass_fields__
        keys = build(KeySettings, {k: v for k, v in settings.items() if k in names}, where="data").keys("data.")
        return evaluate_frames(surrogate, files, rejects, readings, keys=keys, learned=learned)
