"""The one table of the kinds of surrogates: a word for each kind, and where its code is.

A kind is named by what goes in and what comes out, and has the same word as a folder, in saved cards and in
configurations. Its modules are imported when they are first used, so that choosing one kind does not import the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data.errors import InputError
from data.suggestions import did_you_mean


@dataclass(frozen=True)
class Family:
    """A kind of surrogate.

    Attributes:
        name: word of the kind, which is also the name of its folder under `surrogates/`.
        word: singular of the name, with which its classes begin. `<word>Surrogate`, in the module `surrogate` of the
            folder, is the class of its surrogates. `<word>Task`, in the module `task`, is that of its trainings; it
            reads, splits, fits and scores, and names the settings of the data (`<word>Data`) and of the surrogate
            (`<word>Config`).
        earlier_name: word of the kind in cards of earlier versions, if it had another one. Fingerprints hash this
            word, so that those of surrogates that were saved before do not change.
        candidates: what a screen ranks by a surrogate of this kind; None if it cannot rank candidates.
        study: what an evaluation compares surrogates of this kind with besides files: their solver ("comparison"), or
            reference forecasts ("forecasts"); None for files alone.
        trained: whether `understudy train` makes surrogates of this kind, which then has settings of data and training.
    """

    name: str
    word: str
    earlier_name: str = ""
    candidates: Literal["molecules", "numbers"] | None = None
    study: Literal["comparison", "forecasts"] | None = None
    trained: bool = True

    @property
    def hashed_name(self) -> str:
        """The word of the kind that fingerprints hash."""
        return self.earlier_name or self.name

    @property
    def surrogate(self) -> type[Any]:
        """The class of the surrogates of this kind."""
        cls: type[Any] = getattr(importlib.import_module(f"surrogates.{self.name}.surrogate"), f"{self.word}Surrogate")
        return cls

    @property
    def task(self) -> type[Any]:
        """The class of the trainings of this kind, a `surrogates.learning.task.Task`."""
        cls: type[Any] = getattr(importlib.import_module(f"surrogates.{self.name}.task"), f"{self.word}Task")
        return cls


_ALL = (
    Family("properties", "Property", "molecular", candidates="molecules"),
    Family("potentials", "Potential", "potential"),
    Family("fields", "Field", "field", study="comparison"),
    Family("meshes", "Mesh", "mesh"),
    Family("parameters", "Parameter", "parametric", candidates="numbers"),
    Family("forecasts", "Forecast", "weather", study="forecasts"),
    Family("mixture", "Mixture", trained=False),
)
#: Word of a kind -> the kind.
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
#: Word of a kind in cards of earlier versions -> its word now.
RENAMED: Mapping[str, str] = {family.earlier_name: family.name for family in _ALL if family.earlier_name}


def family_of(kind: object, *, where: str) -> Family:
    """The kind that a configuration names.

    Args:
        kind: word of the kind.
        where: key of the configuration, for the message.

    Raises:
        InputError: there is no such kind, or it has another word now.
    """
    word = str(kind)
    if word in RENAMED:
        raise InputError(f"this kind is called {RENAMED[word]} now", where=where, remedy=f"Write {RENAMED[word]}")
    if word not in FAMILIES:
        remedies = [did_you_mean(word, list(FAMILIES)), f"There are {', '.join(FAMILIES)}"]
        raise InputError(f"no kind {word!r} of surrogates", where=where, remedy=" ".join(filter(None, remedies)))
    return FAMILIES[word]
