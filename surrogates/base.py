"""A surrogate is a simulator, only cheaper: the same spec, an error bar, and a directory to live in.

A saved surrogate is `surrogate.json` (kind, spec, settings, normalisation, calibration, the labels'
fingerprint, held-out scores) and `weights/` (Orbax). Loading reads arrays and JSON, and finds the class in a table
of this package: nothing from the directory is executed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from data.claim import claim
from data.errors import CorruptStoreError, InputError
from data.files import write_json
from simulators.base import Simulator
from surrogates.checkpoints import load_arrays, save_arrays

FORMAT = 1
CARD = "surrogate.json"

#: Every kind of surrogate that a directory may hold, and the class that reads it.
KINDS: Mapping[str, tuple[str, str]] = {
    "molecular": ("surrogates.graph.molecular", "MolecularSurrogate"),
    "potential": ("surrogates.graph.potential", "Potential"),
    "field": ("surrogates.operator.field", "FieldSurrogate"),
    "mesh": ("surrogates.graph.mesh_surrogate", "MeshSurrogate"),
    "parametric": ("surrogates.parametric.parametric", "ParametricSurrogate"),
    "weather": ("surrogates.weather.forecaster", "Forecaster"),
}


@runtime_checkable
class Surrogate(Simulator, Protocol):
    """A learned simulator.

    Attributes:
        labels_fingerprint: of the simulator, or of the data, whose labels it learned from.
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


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {name: version(name) for name in ("understudy", "jax", "flax", "optax", "numpy")}


def save_surrogate(directory: Path, kind: str, params: Any, card: Mapping[str, Any]) -> None:
    """Save weights and card; the card comes last, so that a directory with one is complete.

    Args:
        directory: made if absent; a surrogate that is there is replaced, and anything else refused.
        kind: a key of `KINDS`.
        params: pytree of arrays.
        card: JSON-serialisable; whatever the class needs to build itself.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {sorted(KINDS)}, got {kind!r}")
    with claim(directory, "surrogate", adopt=_is_surrogate):
        (directory / CARD).unlink(missing_ok=True)
        save_arrays(directory / "weights", params, {"kind": kind})
        write_json(directory / CARD, {"format": FORMAT, "kind": kind, "versions": package_versions(), **card})


def _is_surrogate(directory: Path) -> bool:
    """Whether an earlier version saved a surrogate here, or began to."""
    return (directory / CARD).is_file() or (directory / "weights" / "note.json").is_file()


def read_card(directory: Path) -> dict[str, Any]:
    """The card of a saved surrogate.

    Raises:
        InputError: there is none, it is of a newer format or of an unknown kind.
        CorruptStoreError: it is not JSON.
    """
    path = Path(directory) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"no {CARD} in it", where=str(directory), remedy="Name a directory that understudy train made"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptStoreError(f"not readable: {error}", where=str(path), remedy="Restore it from a copy") from error
    if not isinstance(card, dict) or card.get("kind") not in KINDS:
        kind = card.get("kind") if isinstance(card, dict) else None
        raise InputError(f"unknown kind of surrogate {kind!r}", where=str(path), remedy=f"Known are {sorted(KINDS)}")
    if card.get("format", 0) > FORMAT:
        raise InputError(
            f"format {card['format']} is newer than {FORMAT}", where=str(path), remedy="Upgrade understudy"
        )
    return card


def load_weights(directory: Path, like: Any) -> Any:
    """The weights of a saved surrogate, with the structure, shapes and dtypes of `like`; verified."""
    return load_arrays(Path(directory) / "weights", like)


def load_surrogate(directory: str | Path) -> Any:
    """The surrogate that a directory holds, of whichever kind.

    Raises:
        InputError: see `read_card`.
        CorruptStoreError: weights are missing or changed.
    """
    module, name = KINDS[read_card(Path(directory))["kind"]]
    return getattr(importlib.import_module(module), name).load(Path(directory))
