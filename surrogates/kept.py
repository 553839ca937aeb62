"""The base of surrogates that are a Flax model with facts: fingerprint, provenance, saving and loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import jax
import numpy as np
from flax import nnx

from data.plain import to_plain
from data.spec import Spec, content_hash
from surrogates.family import FAMILIES
from surrogates.learning.checkpoints import checksum
from surrogates.trained import card_errors, load_weights, read_facts, save_surrogate

Model = TypeVar("Model", bound=nnx.Module)
#: A frozen dataclass with `config`, `labels_fingerprint`, `scores` and `model`, which `to_plain` writes.
Facts = TypeVar("Facts", bound=Any)


class KeptSurrogate(ABC, Generic[Model, Facts]):
    """A trained model with its facts; see `simulators.adapter.Simulator` and `surrogates.trained.Surrogate`.

    A subclass sets `KIND` and `FACTS`, and adds `spec`, `simulate` and `predict`.

    Args:
        model: the network with its weights.
        facts: everything else that is saved with it, such as settings, scales, calibration and scores.
    """

    #: A key of `surrogates.family.FAMILIES`.
    KIND: ClassVar[str]
    #: The class of the facts.
    FACTS: ClassVar[type]

    def __init__(self, model: Model, facts: Facts) -> None:
        self.model, self.facts = model, facts
        self._graph, self._state = nnx.split(model)

    @property
    def name(self) -> str:
        """The name of the simulator, such as "surrogate:fields"."""
        return f"surrogate:{self.KIND}"

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """Inputs and outputs of the surrogate."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the settings, the calibration and the labels that it learned from."""
        weights = [np.asarray(leaf) for leaf in jax.tree.leaves(self._state)]
        return content_hash([FAMILIES[self.KIND].hashed_name, checksum(weights), to_plain(self.facts) | {"scores": {}}])

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, version and settings of the surrogate, and the fingerprint of its labels."""
        config = self.facts.config
        return {
            "simulator": self.name,
            "version": self.fingerprint,
            "settings": to_plain(config),
            "labels_fingerprint": self.labels_fingerprint,
        }

    @property
    def labels_fingerprint(self) -> str:
        """Fingerprint of the simulator, or of the data, that it learned from."""
        return str(self.facts.labels_fingerprint)

    @property
    def scores(self) -> Mapping[str, float]:
        """Held-out scores, flat, with the unit in the key."""
        scores: Mapping[str, float] = self.facts.scores
        return scores

    def with_facts(self, **changes: Any) -> Self:
        """The same weights with other facts, such as `scores` or a calibration."""
        return type(self)(self.model, replace(self.facts, **changes))

    def save(self, directory: Path) -> None:
        """Write the surrogate to a directory, from which `surrogates.trained.load_surrogate` reads it."""
        card = {
            "spec": to_plain(self.spec),
            "facts": to_plain(self.facts),
            "labels_fingerprint": self.labels_fingerprint,
            "scores": dict(self.scores),
        }
        save_surrogate(Path(directory), self.KIND, nnx.to_pure_dict(self._state), card)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """The surrogate that `save` wrote; runs no code from the directory.

        Raises:
            InputError: there is none, or it is of another kind.
            CorruptStoreError: its card cannot be used, or weights are missing or changed.
        """
        directory = Path(directory)
        facts: Any = read_facts(directory, cls.KIND, cls.FACTS)[0]
        weights = load_weights(directory, lambda: nnx.to_pure_dict(nnx.split(facts.model())[1]))
        with card_errors(directory):
            # Only the structure is made: every array is among the weights that were read.
            graph, state = nnx.split(nnx.eval_shape(facts.model))
        nnx.replace_by_pure_dict(state, weights)
        return cls(nnx.merge(graph, state), facts)
