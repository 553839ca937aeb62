"""What made the labels of a surrogate, in words and settings, saved beside its weights and copied to its exports.

The fingerprint of labels says whether two are the same; this says what they are: the simulator with its settings, such
as functional and basis, where a store of a campaign has them, and what the user states where a file does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.files import write_json
from data.json_files import read_plain
from data.store.store_reader import StoreReader
from simulators.adapter import Simulator

FILE = "labels.json"
#: What a store says of the simulator of its records.
KEPT = ("simulator", "version", "settings", "level_of_theory", "licence", "fingerprint")
REMEDY = "Restore it from a copy, or remove it"


def label_sources(files: Sequence[Path], level: str | None) -> list[dict[str, Any]]:
    """Files of labels, each with its simulator, or with the level of theory that the user states.

    Args:
        files: the files, of which stores say what made them.
        level: level of theory of the other files, such as "B3LYP/6-31G(2df,p)"; None if it is not stated.
    """
    return [{"file": path.name, **_described(path, level)} for path in files]


def sources_before(directory: Path, sources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels that a surrogate had learned before a training began from its weights, with those of that training.

    Args:
        directory: of that surrogate.
        sources: the new labels.
    """
    return [*(read_label_sources(directory) or [{"level": None}]), *sources]


def _described(path: Path, level: str | None) -> dict[str, Any]:
    if not (path / "store.json").is_file():
        return {"level": level}
    attrs = StoreReader(path).attrs
    kept: dict[str, Any] = {key: attrs[key] for key in KEPT if key in attrs}
    return kept if level is None else {**kept, "level": level}


def teacher_source(teacher: Simulator, directory: Path | None) -> dict[str, Any]:
    """What made the answers that a student learned: a simulator with its settings, or a surrogate with its own labels.

    Args:
        teacher: the simulator or surrogate.
        directory: where the surrogate is saved; None for a simulator.
    """
    stated = {**teacher.provenance, "fingerprint": teacher.fingerprint}
    kept: dict[str, Any] = {"answers_of": teacher.name, **{key: stated[key] for key in KEPT if key in stated}}
    return kept if directory is None else {**kept, "labels": read_label_sources(directory)}


def save_label_sources(directory: Path, sources: Sequence[dict[str, Any]]) -> None:
    """Write what made the labels into the directory of a surrogate."""
    write_json(Path(directory) / FILE, {"labels": list(sources)})


def read_label_sources(directory: Path) -> list[dict[str, Any]] | None:
    """What made the labels of a saved surrogate; None where its training did not write it.

    Raises:
        CorruptStoreError: the file is not what was written.
    """
    path = Path(directory) / FILE
    if not path.is_file():
        return None
    sources: list[dict[str, Any]] = read_plain(path, dict[str, list[dict[str, Any]]], remedy=REMEDY)["labels"]
    return sources
