"""Scores mixtures on files as their experts are scored; a mixture is not trained as a whole, but grown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from data.errors import InputError
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import build
from data.structures.frame_settings import KeySettings
from surrogates.family import FAMILIES
from surrogates.learning.learned_from import Hashes
from surrogates.learning.rung import FittedRung, Rung
from surrogates.learning.task import Task
from surrogates.mixture.facts import MixtureConfig
from surrogates.mixture.surrogate import MixtureSurrogate


@dataclass(frozen=True)
class MixtureData(KeySettings):
    """The keys of the frames that a mixture is scored on."""


class MixtureTask(Task[Any, Any, MixtureSurrogate]):
    """Evaluates mixtures.

    `understudy grow` makes them: each expert is trained by the task of its own kind.
    """

    KIND = "mixture"
    DATA = MixtureData
    EVALUATED_WITH = frozenset({"data.test", *(f"data.{name}" for name in KeySettings.__dataclass_fields__)})

    @classmethod
    def of(cls, settings: Mapping[str, Any], on: Rung | FittedRung | None = None) -> Self:
        """No training.

        Raises:
            InputError: always; it names the stage that makes mixtures.
        """
        raise InputError(
            "a mixture is not trained as a whole",
            where="model.kind",
            remedy="Grow it from a trained potential: understudy grow surrogate=DIR data.train=NEW out=DIR",
        )

    @staticmethod
    def model_settings(node: Mapping[str, Any]) -> MixtureConfig:
        """The settings of the routing; see `Task.model_settings`."""
        return build(MixtureConfig, {k: v for k, v in node.items() if k != "kind"}, where="model")

    @classmethod
    def unused_in_training(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Nothing, because there is no training."""
        return {}

    @staticmethod
    def ready(surrogate: MixtureSurrogate, settings: Mapping[str, Any]) -> MixtureSurrogate:
        """The mixture as it is."""
        return surrogate

    @classmethod
    def evaluate(
        cls,
        surrogate: MixtureSurrogate,
        files: Sequence[Path],
        settings: Mapping[str, Any],
        rejects: RejectLog | None,
        readings: list[Reading],
        *,
        learned: Hashes | None = None,
    ) -> dict[str, float]:
        """The scores of the kind of its experts, and the load of each expert. See `Task.evaluate`."""
        before = surrogate.answered.copy()
        task = FAMILIES[surrogate.facts.kind].task
        scores: dict[str, float] = task.evaluate(surrogate, files, settings, rejects, readings, learned=learned)
        answered = surrogate.answered - before
        total = max(answered.total(), 1)
        return scores | {f"mixture/share/{name}": answered[name] / total for name in surrogate.names}
