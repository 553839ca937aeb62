"""The one table of the kinds of surrogates: a word for each kind, and where its code is.

A kind is named by what goes in and what comes out, and has the same word as a folder, in saved cards and in
configurations. Its modules are imported when they are first used, so that choosing one kind does not import the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """A kind of surrogate.

    Attributes:
        name: word of the kind, which is also the name of its folder under `surrogates/`.
        surrogate_name: name of the class of its surrogates, in the module `surrogate` of that folder.
        earlier_name: word of the kind in cards of earlier versions, if it had another one. Fingerprints hash this
            word, so that those of surrogates that were saved before do not change.
    """

    name: str
    surrogate_name: str
    earlier_name: str = ""

    @property
    def hashed_name(self) -> str:
        """The word of the kind that fingerprints hash."""
        return self.earlier_name or self.name

    @property
    def surrogate(self) -> type[Any]:
        """The class of the surrogates of this kind."""
        cls: type[Any] = getattr(importlib.import_module(f"surrogates.{self.name}.surrogate"), self.surrogate_name)
        return cls


_ALL = (
    Family("properties", "MolecularSurrogate", "molecular"),
    Family("potentials", "Potential", "potential"),
    Family("fields", "FieldSurrogate", "field"),
    Family("meshes", "MeshSurrogate", "mesh"),
    Family("parameters", "ParametricSurrogate", "parametric"),
    Family("forecasts", "Forecaster", "weather"),
)
#: Word of a kind -> the kind.
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
#: Word of a kind in cards of earlier versions -> its word now.
RENAMED: Mapping[str, str] = {family.earlier_name: family.name for family in _ALL if family.earlier_name}
