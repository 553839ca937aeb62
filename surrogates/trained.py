"""The base that every kind of surrogate builds on: a Flax model with facts, its identity, saving and loading.

A surrogate is a simulator, only cheaper: the same spec, an error bar, and a directory to live in (see
`surrogates.saved`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, runtime_checkable

import jax
import numpy as np
import xarray as xr
from flax import nnx

from data.errors import InputError
from data.plain import to_plain
from data.spec import SimulationError, Spec, content_hash
from simulators.adapter import Simulator
from simulators.rebuild import rebuild
from surrogates.family import FAMILIES
from surrogates.learning.checkpoints import checksum
from surrogates.learning.rung import Standing
from surrogates.learning.teaching import Teacher
from surrogates.saved import (
    FORMAT,
    NESTED,
    Saves,
    card_errors,
    load_surrogate,
    load_weights,
    read_facts,
    save_surrogate,
)

Model = TypeVar("Model", bound=nnx.Module)
#: A frozen dataclass with `config`, `labels_fingerprint`, `scores` and `model`, which `to_plain` writes.
Facts = TypeVar("Facts", bound=Any)


@runtime_checkable
class Surrogate(Simulator, Protocol):
    """A learned simulator.

    Attributes:
        labels_fingerprint: fingerprint of the simulator, or of the data, whose labels it learned from.
        scores: held-out scores, flat, with the unit in the key.
    """

    @property
    def labels_fingerprint(self) -> str: ...

    @property
    def scores(self) -> Mapping[str, float]: ...

    def predict(self, batch: Any) -> dict[str, np.ndarray]:
        """Answer a fixed-shape batch; each output `x` comes with `x_std` once it is calibrated."""
        ...

    def save(self, directory: Path) -> None:
        """Write `surrogate.json` and `weights/`."""
        ...


class TrainedSurrogate(ABC, Generic[Model, Facts]):
    """A trained model with its facts; a `Surrogate`.

    A subclass sets `KIND` and `FACTS`, and adds `spec`, `simulate` and `predict`. One that has more arrays than its
    model, or other facts to hash, overrides the methods under "Storage".

    Args:
        model: the network with its weights.
        facts: everything else that is saved with it, such as settings, scales, calibration and scores.
    """

    #: A key of `surrogates.family.FAMILIES`.
    KIND: ClassVar[str]
    #: The class of the facts.
    FACTS: ClassVar[type]
    #: Attributes that are compiled programs of the networks alone, which copies with other facts share.
    PROGRAMS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: Model, facts: Facts) -> None:
        self.model, self.facts = model, facts
        self._rung: Simulator | None = None
        self._graph, self._state = nnx.split(model)

    @property
    def name(self) -> str:
        """The name of the simulator, such as "surrogate:fields"."""
        return f"surrogate:{self.KIND}"

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """Inputs and outputs of the surrogate."""

    @abstractmethod
    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Answer one request; see `simulators.adapter.Simulator`."""

    @abstractmethod
    def predict(self, batch: Any) -> dict[str, np.ndarray]:
        """Answer a batch of fixed shape."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the settings, the calibration and the labels that it learned from."""
        weights = checksum([np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(self.arrays()))])
        return content_hash(self.hashed(weights, to_plain(self.facts) | {"scores": {}}))

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, version and settings of the surrogate, and the fingerprints of its labels and of what it began from."""
        config = self.facts.config
        return {
            "simulator": self.name,
            "version": self.fingerprint,
            "settings": to_plain(config),
            "labels_fingerprint": self.labels_fingerprint,
            **({} if self.standing is None else {"on": to_plain(self.standing.simulator)}),
            **({} if self.taught_by is None else {"taught_by": to_plain(self.taught_by)}),
            **({} if self.began_from is None else {"began_from": self.began_from}),
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

    @property
    def taught_by(self) -> Teacher | None:
        """The teacher whose answers it learned; None for labels alone."""
        teacher: Teacher | None = getattr(self.facts, "taught_by", None)
        return teacher

    @property
    def began_from(self) -> str | None:
        """Fingerprint of the surrogate whose weights its training began from; None where that is not kept."""
        fingerprint: str | None = getattr(self.facts, "began_from", None)
        return fingerprint

    def with_facts(self, **changes: Any) -> Self:
        """The same weights with other facts, such as `scores` or a calibration."""
        copy = type(self)(self.model, replace(self.facts, **changes))
        copy._rung = self._rung
        return copy._with_programs_of(self)

    def _with_programs_of(self, other: Self) -> Self:
        """This surrogate, with what another one of the same model has compiled."""
        for name in self.PROGRAMS:
            setattr(self, name, getattr(other, name).twin())
        return self

    # The simulator that it stands on

    @property
    def standing(self) -> Standing | None:
        """The cheaper simulator whose answers it takes as inputs, as it is saved; None if there is none."""
        standing: Standing | None = getattr(self.facts, "on", None)
        return standing

    @property
    def stands_on(self) -> Mapping[str, str]:
        """What the Spec says of the cheaper method on which it stands; empty if there is none.

        `on` is its name. `on_fingerprint` is that of a simulator or a surrogate; a method that is fitted to the
        training samples has none, because it is part of the surrogate.
        """
        return {} if self.standing is None else self.standing.attrs()

    @property
    def rung(self) -> Simulator:
        """The cheaper simulator, which is rebuilt from its description if it was not given.

        Raises:
            InputError: it cannot be rebuilt, or another version of it is installed.
        """
        if self.standing is None:
            raise InputError("the surrogate stands on no other simulator")
        if self._rung is None:
            remedy = "Give the simulator to `with_rung`, or install the version that it learned with"
            self._rung = rebuild(self.standing.simulator, where="surrogate", remedy=remedy)
        return self._rung

    def with_rung(self, simulator: Simulator) -> Self:
        """A copy that asks this simulator.

        Raises:
            InputError: it stands on another one, or on none.
        """
        if self.standing is None:
            raise InputError("the surrogate stands on no other simulator")
        self.standing.variables(simulator)
        copy = self.with_facts()
        copy._rung = simulator
        return copy

    # Storage

    def hashed(self, weights: str, facts: Mapping[str, Any]) -> list[Any]:
        """What the fingerprint hashes.

        Args:
            weights: checksum of the arrays.
            facts: the facts as plain JSON, without scores.
        """
        return [FAMILIES[self.KIND].hashed_name, weights, facts]

    def arrays(self) -> Any:
        """The pytree of arrays that is saved."""
        return nnx.to_pure_dict(self._state)

    def save(self, directory: Path) -> None:
        """Write the surrogate to a directory, from which `surrogates.saved.load_surrogate` reads it."""
        card = {
            "spec": to_plain(self.spec),
            "facts": to_plain(self.facts),
            "labels_fingerprint": self.labels_fingerprint,
            "scores": dict(self.scores),
        }
        save_surrogate(Path(directory), self.KIND, self.arrays(), card | self.card_entries(), nested=self.nested())

    def nested(self) -> Mapping[str, Saves]:
        """Surrogates that are saved within this one, by their folder in its directory.

        That on which it stands is one, because a surrogate cannot be rebuilt from its description.
        """
        return {NESTED: self._rung} if isinstance(self._rung, TrainedSurrogate) else {}

    def card_entries(self) -> dict[str, Any]:
        """More entries of the card."""
        return {}

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """The surrogate that `save` wrote; runs no code from the directory.

        Raises:
            InputError: there is none, or it is of another kind.
            CorruptStoreError: its card cannot be used, or weights are missing or changed.
        """
        directory = Path(directory)
        facts: Any
        facts, card = read_facts(directory, cls.KIND, cls.FACTS)
        with card_errors(directory):
            # Only the structure is made, so that a card of another size than the weights costs no memory.
            model = nnx.eval_shape(facts.model)
            like = cls.arrays_like(facts, model)
        arrays = load_weights(directory, card, like)
        with card_errors(directory):
            surrogate = cls.restore(facts, arrays, card, model)
        return surrogate.with_rung(load_surrogate(directory / NESTED)) if (directory / NESTED).is_dir() else surrogate

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process of a campaign rebuilds this surrogate from; compiled functions are left out."""
        arrays = jax.device_get(self.arrays())
        # Facts in memory are those of the present format, whichever card they came from.
        entries = {"format": FORMAT, **self.card_entries()}
        return _rebuilt, (type(self), self.facts, arrays, entries, self._rung)

    @classmethod
    def arrays_like(cls, facts: Any, model: Any) -> Any:
        """Shapes and dtypes of what `arrays` returns for a surrogate of these facts, whose model is `model`."""
        return nnx.to_pure_dict(nnx.split(model)[1])

    @classmethod
    def restore(cls, facts: Any, arrays: Any, card: Mapping[str, Any], model: Any = None) -> Self:
        """The surrogate of these facts with the arrays that were saved.

        Args:
            facts: the facts.
            arrays: what `arrays` returned.
            card: the card, for the entries that `card_entries` added.
            model: the model of these facts, of which only the structure counts; None to make it.
        """
        # Every array is among those that were read.
        return cls(with_weights(nnx.eval_shape(facts.model) if model is None else model, arrays), facts)


def _rebuilt(kind: type[Any], facts: Any, arrays: Any, entries: Mapping[str, Any], rung: Simulator | None) -> Any:
    surrogate = kind.restore(facts, arrays, entries)
    surrogate._rung = rung
    return surrogate


def with_weights(model: Model, weights: Any) -> Model:
    """A model with other weights, which are a nested dict as `nnx.to_pure_dict` makes it."""
    graph, state = nnx.split(model)
    nnx.replace_by_pure_dict(state, weights)
    loaded: Model = nnx.merge(graph, state)
    return loaded


def refuse_not_finite(answer: xr.Dataset) -> None:
    """Refuse an answer with NaN or infinities, which no caller may take for a prediction.

    Raises:
        SimulationError: `not_converged`.
    """
    if not all(np.isfinite(variable.values).all() for variable in answer.data_vars.values()):
        raise SimulationError("not_converged", "the answer is not finite; the request lies far outside of the domain")
