"""Saved surrogates: a directory with a card, which is `surrogate.json`, and `weights/`, which are arrays of Orbax.

The card holds the kind, spec, settings, normalisation, calibration, the fingerprint of the labels, held-out scores and
the checksum of the weights. Loading reads arrays and JSON, and finds the class in the table of kinds of this package:
nothing from the directory is executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import numpy as np

from data.claim import claim
from data.errors import CorruptStoreError, InputError
from data.files import remove_listed, sync_directory, write_json
from data.json_files import read_plain
from data.plain import PlainError, entry, from_plain, to_plain, within
from data.ranges import refuse_out_of_range
from data.settings import existing_file
from surrogates.family import FAMILIES, RENAMED
from surrogates.learning.checkpoints import checksum, load_arrays, read_note, save_arrays
from surrogates.shipped import is_shipped, shipped_directory

#: Version of the card. Version 2 has the checksum of the weights, and the facts of every kind below one key.
FORMAT = 2
CARD = "surrogate.json"
#: Folder of the surrogate on which the saved one stands, if it stands on a surrogate.
NESTED = "on"
REMEDY = "Restore it from a copy, or train it again"
F = TypeVar("F")


class Saves(Protocol):
    """A surrogate that can be saved."""

    def save(self, directory: Path) -> None:
        """Write the surrogate to a directory."""
        ...


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {name: version(name) for name in ("understudy", "jax", "flax", "optax", "numpy")}


def save_surrogate(
    directory: Path, kind: str, params: Any, card: Mapping[str, Any], *, nested: Mapping[str, Saves] | None = None
) -> None:
    """Save weights and card; the card comes last, so that a directory with one is complete.

    Args:
        directory: created if absent; a surrogate in it is replaced, and anything else is refused.
        kind: a key of `surrogates.family.FAMILIES`.
        params: pytree of arrays.
        card: JSON-serialisable; whatever the class needs to build itself.
        nested: surrogates that are saved within this one, such as that on which it stands, by their folder.
    """
    if kind not in FAMILIES:
        raise ValueError(f"kind must be one of {sorted(FAMILIES)}, got {kind!r}")
    with claim(directory, "surrogate", adopt=_is_surrogate):
        remove_listed(directory / CARD)
        sync_directory(directory)
        leaves = [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(params))]
        save_arrays(directory / "weights", leaves, {"kind": kind})
        for folder, surrogate in (nested or {}).items():
            surrogate.save(directory / folder)
        facts = {"format": FORMAT, "kind": kind, "versions": package_versions(), "weights_sha256": checksum(leaves)}
        write_json(directory / CARD, {**facts, **card})


def _is_surrogate(directory: Path) -> bool:
    """Whether an earlier version saved a surrogate here, or began to."""
    return (directory / CARD).is_file() or (directory / "weights" / "note.json").is_file()


def read_card(directory: Path) -> dict[str, Any]:
    """The card of a saved surrogate; the kind of a card of an earlier version is given by its word of today.

    Raises:
        InputError: there is none, it is of a newer format or of an unknown kind.
        CorruptStoreError: it is not JSON, or no card.
    """
    path = Path(directory) / CARD
    if not path.exists():
        raise InputError(f"no {CARD} in it", where=str(directory), remedy="Name a directory that understudy train made")
    card = read_plain(path, dict[str, Any], remedy=REMEDY)
    kind, number = card.get("kind"), card.get("format", 0)
    if isinstance(kind, str):
        kind = card["kind"] = RENAMED.get(kind, kind)
    if not isinstance(kind, str) or kind not in FAMILIES:
        remedy = f"Known are {sorted(FAMILIES)}"
        raise InputError(f"unknown kind of surrogate {kind!r}", where=str(path), remedy=remedy)
    if not isinstance(number, int) or number < 0:
        raise CorruptStoreError(f"format must be a number of a version, got {number!r}", where=str(path), remedy=REMEDY)
    if number > FORMAT:
        raise InputError(f"format {number} is newer than {FORMAT}", where=str(path), remedy="Upgrade understudy")
    return card


def read_facts(directory: Path, kind: str, facts: type[F]) -> tuple[F, dict[str, Any]]:
    """Read the facts that are saved beside the weights of a surrogate, and its whole card.

    Args:
        directory: directory of the surrogate.
        kind: the kind, a key of `surrogates.family.FAMILIES`, that it has to be.
        facts: their class, a dataclass with `config`.

    Raises:
        InputError: there is none, or it is of another kind.
        CorruptStoreError: an entry of the card is missing, of another type or out of its range; names the key.
    """
    directory = Path(directory)
    card = read_card(directory)
    if card["kind"] != kind:
        raise InputError(f"a surrogate of {card['kind']}, not of {kind}", where=str(directory / CARD))
    # Surrogates of molecules had their facts at the top of a card of version 1.
    name = "" if kind == "properties" and card.get("format", 0) < 2 else "facts"
    with card_errors(directory), within(name):
        names = [f.name for f in fields(facts)]  # type: ignore[arg-type]
        instance = from_plain(facts, card.get(name) if name else {k: v for k, v in card.items() if k in names})
        refuse_out_of_range(to_plain(instance)["config"], "config")
    return instance, card


@contextmanager
def card_errors(directory: Path) -> Iterator[None]:
    """Raise every error of the block, which builds a surrogate from its card, as an error of that card.

    Raises:
        CorruptStoreError: names the card and what is wrong with it.
    """
    try:
        yield
    except InputError as error:
        if error.where and CARD in error.where:
            raise
        problem = f"{error.where}: {error.problem}" if error.where else error.problem
        raise CorruptStoreError(problem, where=str(directory / CARD), remedy=REMEDY) from error
    except Exception as error:  # a network of sizes that do not fit fails in as many ways as there are networks
        first = (str(error).strip().splitlines() or [""])[0][:300]
        if not isinstance(error, PlainError):
            text = first if isinstance(error, ValueError) and first else f"{type(error).__name__}: {first}"
            first = f"no surrogate can be built from it: {text}"
        raise CorruptStoreError(first, where=str(directory / CARD), remedy=REMEDY) from error


def load_weights(directory: Path, card: Mapping[str, Any], like: Any) -> Any:
    """The weights of a saved surrogate, verified.

    Args:
        directory: directory of the surrogate.
        card: its card. Cards of version 1 do not name their weights, and go with all weights of the same shapes.
        like: a pytree whose leaves have the shapes and dtypes of the weights of the model that its card describes.

    Raises:
        CorruptStoreError: bytes are missing or changed, or the card describes other weights or names others.
    """
    directory = Path(directory)
    with card_errors(directory):
        named = entry(card, "weights_sha256", str, "")
    try:
        if card.get("format", 0) >= 2 and read_note(directory / "weights")["sha256"] != named:
            raise InputError("they are those of another surrogate")
        return load_arrays(directory / "weights", like)
    except CorruptStoreError:
        raise
    except InputError as error:
        raise CorruptStoreError(
            f"it does not describe the weights beside it: {error.problem}", where=str(directory / CARD), remedy=REMEDY
        ) from error


def surrogate_directory(value: str | None, key: str) -> Path:
    """The directory of a surrogate, from its path or that of the run that trained it, or `shipped:NAME`.

    Raises:
        InputError: there is no surrogate.
    """
    if value is not None and is_shipped(value):
        return shipped_directory(value, key)
    path = existing_file(value, key)
    for candidate in (path, path / "surrogate"):
        if (candidate / CARD).exists():
            return candidate
    raise InputError(f"no {CARD} in it", where=str(path), remedy="Name a directory that understudy train made")


def load_surrogate(directory: str | Path) -> Any:
    """The surrogate that a directory holds, of whichever kind.

    Raises:
        InputError: see `read_card`.
        CorruptStoreError: weights are missing or changed.
    """
    return FAMILIES[read_card(Path(directory))["kind"]].surrogate.load(Path(directory))
