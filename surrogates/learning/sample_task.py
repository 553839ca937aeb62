"""The training of a surrogate on samples that are split at random: fields, meshes, or numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from data.errors import InputError
from data.plain import to_plain
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build, existing_file, names, refuse_equal_stems
from data.spec import content_hash
from surrogates.learning.learned_from import Hashes, hash_keys, save_hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.overlap import Overlap
from surrogates.learning.rung import FittedRung, Rung
from surrogates.learning.sample_parts import PartedData, Samples, read_samples, say_learned_inputs, score_apart, split
from surrogates.learning.task import VALIDATION, Task, Trained

S = TypeVar("S", bound=Samples)


@dataclass(frozen=True)
class SampleSets(Generic[S]):
    """The samples of a training.

    Attributes:
        samples: samples that are split.
        others: more samples, each scored under `test/<name>/`.
    """

    samples: S
    others: Mapping[str, S]

    def answered(self, ask: Callable[[S, str], S]) -> SampleSets[S]:
        """The samples with the answers of what the surrogate stands on.

        Args:
            ask: function (samples, name of the store for their answers) -> those that were answered.
        """
        others = {name: ask(other, f"on-{name}.zarr") for name, other in self.others.items()}
        return SampleSets(ask(self.samples, "on.zarr"), others)


@dataclass(frozen=True)
class SampleParts(Generic[S]):
    """The parts of the samples.

    Attributes:
        whole: all samples and the others, as they were read.
        keys: key of the inputs of each sample.
        rows: rows of each part.
    """

    whole: SampleSets[S]
    keys: Sequence[str]
    rows: Mapping[str, np.ndarray]

    @cached_property
    def train(self) -> S:
        """The samples of the training part, which is never empty."""
        return self.whole.samples.take(self.rows["train"])

    @cached_property
    def valid(self) -> S | None:
        """The samples of the validation part; None if it is empty."""
        return self._part("valid")

    @cached_property
    def calibration(self) -> S | None:
        """The samples of the calibration part; None if it is empty."""
        return self._part("calibration")

    @cached_property
    def test(self) -> S | None:
        """The samples of the test part; None if it is empty."""
        return self._part("test")

    def _part(self, name: str) -> S | None:
        rows = self.rows[name]
        return self.whole.samples.take(rows) if len(rows) else None


@dataclass(frozen=True)
class SampleTask(Task[SampleSets[S], SampleParts[S], Trained], Generic[S, Trained]):
    """A training on samples of one kind.

    Attributes:
        data: files, parts and seed of the split.
        config: settings of the surrogate.
        training: training recipe.
    """

    data: PartedData
    config: Any
    training: TrainConfig
    #: Smallest number of samples to train on.
    LEAST: ClassVar[int] = 2

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe; see `Task.of`."""
        data = build(cls.DATA, settings["data"], where="data")
        config = cls.model_settings(settings["model"])
        return cls(data, config, build(TrainConfig, settings["train"], where="train"))

    @abstractmethod
    def read_file(self, path: Path) -> tuple[S, list[tuple[int, str]]]:
        """The samples of a file, and (row, reason) of each sample that was left out."""

    @abstractmethod
    def refuse_other(self, samples: S, other: S, name: str) -> None:
        """Refuse other samples that the surrogate of these samples cannot answer.

        Raises:
            InputError: the other samples have other inputs, outputs or physics.
        """

    def network_hash(self) -> str:
        """Hash of the settings of the surrogate, which a resumed run must have in common with the run."""
        return content_hash(to_plain(self.config))

    @abstractmethod
    def fit_samples(self, train: S, valid: S | None, run_dir: Path, **options: Any) -> tuple[Trained, FitResult]:
        """Train a surrogate, without intervals.

        Args:
            train: training samples.
            valid: validation samples, which select the best weights; None keeps the last weights.
            run_dir: directory of checkpoints, from which a run that was stopped resumes.
            options: `progress`, whether to show a bar.
        """

    @abstractmethod
    def calibrate_samples(self, surrogate: Trained, samples: S) -> Trained:
        """The surrogate with intervals that held-out samples calibrate."""

    @abstractmethod
    def label_costs(self, samples: S) -> dict[str, float]:
        """The cost of the labels, as metrics such as `train/label_core_seconds`."""

    @staticmethod
    @abstractmethod
    def score_samples(surrogate: Trained, samples: S, prefix: str) -> dict[str, float]:
        """Scores of a surrogate on samples, with keys under a prefix."""

    def least(self, samples: S) -> int:
        """Smallest number of samples to train on."""
        return self.LEAST

    def read(self, rejects: RejectLog | None, readings: list[Reading]) -> SampleSets[S]:
        """The samples of `data.file`, and those of each file of `data.test` by the stem of its name."""
        tests = [existing_file(name, "data.test") for name in names(self.data.test, "data.test")]
        refuse_equal_stems(tests, "data.test")
        file = existing_file(self.data.file, "data.file")
        samples = read_samples(file, self.read_file, rejects, readings)
        others = {path.stem: read_samples(path, self.read_file, rejects, readings) for path in tests}
        return SampleSets(samples, others)

    def split(self, data: SampleSets[S], run_dir: Path, *, progress: bool = True) -> SampleParts[S]:
        """Split the samples at random; those of the same inputs stay in one part."""
        for name, other in data.others.items():
            self.refuse_other(data.samples, other, f"data.test: {name}")
        keys = data.samples.input_keys()
        rows = split(keys, self.data, least=self.least(data.samples))
        say_learned_inputs({keys[i] for i in rows["train"]}, data.others)
        return SampleParts(data, keys, rows)

    def fit(self, parts: SampleParts[S], run_dir: Path, *, progress: bool = True) -> tuple[Trained, FitResult]:
        """Train a surrogate; see `fit_samples`."""
        return self.fit_samples(parts.train, parts.valid, run_dir, progress=progress)

    def calibrate(self, surrogate: Trained, parts: SampleParts[S]) -> Trained:
        """The surrogate with intervals, if a part is set aside for them; see `calibrate_samples`."""
        return surrogate if parts.calibration is None else self.calibrate_samples(surrogate, parts.calibration)

    def rows(self, parts: SampleParts[S]) -> dict[str, list[int]]:
        """The rows of each part."""
        return {name: rows.tolist() for name, rows in parts.rows.items()}

    def identity(self, parts: SampleParts[S]) -> dict[str, str]:
        """Hashes of the training and validation parts and of the settings."""
        return {
            "training part": parts.train.content(),
            "validation part": "" if parts.valid is None else parts.valid.content(),
            "network": self.network_hash(),
        }

    def costs(self, parts: SampleParts[S], result: FitResult) -> dict[str, float]:
        """The number of training samples, and the cost of the labels."""
        return {"train/samples": float(len(parts.rows["train"])), **self.label_costs(parts.whole.samples)}

    def score(self, surrogate: Trained, parts: SampleParts[S]) -> dict[str, float]:
        """Scores of the test part and of the other files, or without any of the validation part."""
        hashes = self._hashes(parts)
        tests = {"test": parts.test} | {f"test/{name}": other for name, other in parts.whole.others.items()}
        scores: dict[str, float] = {}
        for prefix, samples in tests.items():
            if samples is not None:
                overlap = Overlap.among(hashes, samples.input_keys())
                scores |= score_apart(overlap, partial(self.score_samples, surrogate), samples, prefix)
        if not scores and parts.valid is not None:
            scores |= self.score_samples(surrogate, parts.valid, VALIDATION)
        return scores

    def save(self, surrogate: Any, parts: SampleParts[S], metrics: Mapping[str, float], directory: Path) -> None:
        """Save the surrogate with its metrics, and hashes of the inputs that it has learned from."""
        surrogate.with_facts(scores=metrics).save(directory)
        save_hashes(directory, self._hashes(parts))

    @staticmethod
    def _hashes(parts: SampleParts[S]) -> Hashes:
        return hash_keys(parts.keys[i] for name, rows in parts.rows.items() if name != "test" for i in rows)


def target_columns(targets: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """The column that each target is compared with, which by default has the name of the target.

    Raises:
        InputError: columns are named, but not exactly one for each target.
    """
    if columns and len(columns) != len(targets):
        raise InputError(
            f"{len(columns)} columns are named, the surrogate has {len(targets)} targets ({', '.join(targets)})",
            where="data.target",
            remedy="Name one column for each, in that order",
        )
    if repeated := [name for name in columns if list(columns).count(name) > 1]:
        raise InputError(
            f"{repeated[0]} is named for more than one of the targets ({', '.join(targets)})",
            where="data.target",
            remedy="Name another column for each, in that order",
        )
    return dict(zip(targets, columns or targets, strict=True))
