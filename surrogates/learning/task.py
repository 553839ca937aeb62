"""The training of a surrogate of any kind: read, split, fit, calibrate, score, save; and its scores on other files.

Each kind has a `Task` in the module `task` of its folder. `experiments.stages.train` runs the steps one after the
other, and saves between them what a stopped run resumes from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from data.errors import InputError
from data.reading_summary import Reading
from data.rejects import RejectLog
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.rung import FittedRung, Rung

#: Prefix of scores of the validation part, which are reported if there is no test part.
VALIDATION = "valid"
Data = TypeVar("Data")
Parts = TypeVar("Parts")
Trained = TypeVar("Trained")


class Task(ABC, Generic[Data, Parts, Trained]):
    """How surrogates of one kind are trained and scored.

    The type parameters are what `read` returns, the parts into which it is split, and the surrogate.
    """

    #: Word of the kind, a key of `surrogates.family.FAMILIES`.
    KIND: ClassVar[str]
    #: The frozen dataclass of the settings of the training data.
    DATA: ClassVar[type[Any]]
    #: Keys of an evaluation that only some kinds use, of those that this kind uses.
    EVALUATED_WITH: ClassVar[frozenset[str]] = frozenset({"data.test"})

    #: First estimates that this kind can fit to its training samples, as values of the key `on`.
    FITTED_RUNGS: ClassVar[frozenset[str]] = frozenset()
    #: Outputs that a cheaper simulator is set to give, if its configuration has a list of outputs; None if a surrogate
    #: of this kind can stand on no simulator.
    RUNG_OUTPUTS: ClassVar[tuple[str, ...] | None] = None

    #: Whether this kind has `folds`.
    CROSS_VALIDATED: ClassVar[bool] = False

    #: Training recipe.
    training: TrainConfig

    @classmethod
    @abstractmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """The task that settings describe.

        Args:
            settings: plain mappings `model`, `data`, `train` and `tune`.
            on: the cheaper simulator on which the surrogate is to stand, or one of `FITTED_RUNGS`; None for none.

        Raises:
            InputError: a key is unknown, or a value has a wrong type or is out of range.
        """

    @staticmethod
    @abstractmethod
    def model_settings(node: Mapping[str, Any]) -> Any:
        """The frozen dataclass of the settings of the surrogate, from the mapping `model`.

        Raises:
            InputError: a key is unknown, or a value has a wrong type or is out of range.
        """

    @classmethod
    def unused_in_training(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Keys that a training with these settings does not use, with the reason; a key stands for all below it.

        Args:
            settings: plain mappings `model`, `data`, `train`, `tune`, `baseline` and `rung`, of which `baseline` may be
                None, and the text `on`, which may be None.
        """
        unused = {
            "tune": f"a surrogate of {cls.KIND} always begins with fresh weights",
            "baseline": f"a surrogate of {cls.KIND} learns no difference to a baseline; on=SIMULATOR is for every kind",
        }
        if not cls.CROSS_VALIDATED:
            unused["cross_validation"] = f"a surrogate of {cls.KIND} is not cross-validated"
        return unused | cls.unused_rung(settings)

    @classmethod
    def unused_rung(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Keys of the cheaper simulator that are not used, with the reason; see `unused_in_training`."""
        on = settings.get("on")
        if on is None:
            return {"rung": "the surrogate stands on no other simulator without on=SIMULATOR"}
        return {"rung": f"{on} is fitted to the training samples"} if on in cls.FITTED_RUNGS else {}

    @abstractmethod
    def read(self, rejects: RejectLog | None, readings: list[Reading]) -> Data:
        """Read all files.

        Args:
            rejects: receives what cannot be used.
            readings: receives what was read.

        Raises:
            InputError: a file is missing, or nothing in it can be used.
        """

    @abstractmethod
    def split(self, data: Data, run_dir: Path, *, progress: bool = True) -> Parts:
        """Split the data into parts.

        Args:
            data: what `read` returned.
            run_dir: directory for what the parts take to compute, such as the answers of a baseline.
            progress: whether to show progress bars.

        Raises:
            InputError: the parts do not fit the amount of data.
        """

    def folds(self, data: Data, count: int) -> tuple[list[Data], str]:
        """The data for each fold of a cross-validation, which `split` then splits, and a hash of the whole.

        Args:
            data: what `read` returned.
            count: number of folds, whose test parts are disjoint and cover the data.

        Raises:
            InputError: this kind has no folds, or the data do not fit them.
        """
        raise InputError(f"a surrogate of {self.KIND} is not cross-validated", where="cross_validation")

    @abstractmethod
    def rows(self, parts: Parts) -> dict[str, list[int]]:
        """The rows of each part, or its first row and the one after its last, for `split.json`."""

    @abstractmethod
    def identity(self, parts: Parts) -> dict[str, str]:
        """Hashes of all that a resumed run must have in common with the run; see `resuming.record_training_data`."""

    @abstractmethod
    def fit(self, parts: Parts, run_dir: Path, *, progress: bool = True) -> tuple[Trained, FitResult]:
        """Train a surrogate, without intervals; a run that was stopped resumes from its checkpoints."""

    @abstractmethod
    def calibrate(self, surrogate: Trained, parts: Parts) -> Trained:
        """The surrogate with intervals that the calibration part calibrates; unchanged if that part is empty.

        Raises:
            InputError: the part has too few samples, or the surrogate's answers on it are not finite.
        """

    @abstractmethod
    def costs(self, parts: Parts, result: FitResult) -> dict[str, float]:
        """The size of the training part and the cost of its labels, as metrics under `train/` or `baseline/`."""

    @abstractmethod
    def score(self, surrogate: Trained, parts: Parts) -> dict[str, float]:
        """Held-out scores under `test/`, or those of the validation part under `valid/` if there is no test."""

    @abstractmethod
    def save(self, surrogate: Trained, parts: Parts, metrics: Mapping[str, float], directory: Path) -> None:
        """Save the surrogate with its metrics, and what it has learned from."""

    @staticmethod
    def ready(surrogate: Trained, settings: Mapping[str, Any]) -> Trained:
        """The surrogate as the settings of an evaluation choose it, such as one of its heads."""
        return surrogate

    @classmethod
    @abstractmethod
    def evaluate(
        cls,
        surrogate: Trained,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """Score a trained surrogate on files, each under `test/<stem>/`.

        Args:
            surrogate: surrogate that is scored.
            files: files with different stems.
            settings: the plain mapping `data` of the evaluation.
            rejects: receives what cannot be used.
            readings: receives what was read from each file.
            learned: hashes of the inputs of its training (`surrogates.learning.learned_from`); None if not known.

        Raises:
            InputError: nothing in a file can be used, or it does not fit the surrogate.
        """
