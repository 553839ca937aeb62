"""The file of predictions of a run: whether it is there already, and what stands in the run beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.files import remove_directory, write_json
from data.json_files import read_plain
from experiments.application.run_directory import configuration_checked
from experiments.prediction.rows import PARTS
from experiments.prediction.truth import Truth
from experiments.screening.candidate_sources import identity

#: File of a run that says what the finished file of predictions was made from.
DONE = "done.json"


@dataclass(frozen=True)
class Delivered:
    """A finished file of predictions.

    Attributes:
        metrics: flat metrics for `metrics.json`.
        said: what the closing table of the command shows.
        scores: scores of each quantity whose true values stand in the input.
        columns: name of each column or variable of the file -> its unit.
    """

    metrics: Mapping[str, float]
    said: Mapping[str, object]
    scores: Mapping[str, Truth] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


def content_of(path: Path) -> dict[str, int | str]:
    """What identifies a file or a directory, from its size and samples of its bytes."""
    if path.is_file():
        return identity(path)
    digest = hashlib.sha256()
    size = 0
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        size += file.stat().st_size
        digest.update(f"{file.relative_to(path)} {identity(file)}".encode())
    return {"bytes": size, "sha256_of_samples": digest.hexdigest()}


def refuse_same(inputs: Path, out: Path) -> None:
    """Refuse to write over the input.

    Raises:
        InputError: both are the same path, or one lies in the other.
    """
    one, other = inputs.resolve(), out.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise InputError(f"{out} would replace the input", where="out", remedy="Name another file")


def is_delivered(out: Path, run_dir: Path, made_from: Mapping[str, Any]) -> bool:
    """Whether the file of predictions is complete.

    Args:
        out: path of the file.
        run_dir: directory of the run.
        made_from: what the predictions depend on; JSON-serialisable.

    Raises:
        InputError: another command wrote the file, or this one wrote it from another input or surrogate.
    """
    if not out.exists():
        return False
    if not (run_dir / DONE).is_file():
        if (run_dir / PARTS).is_dir():
            # A killed run may leave the file before it says that it is complete.
            return False
        raise InputError("exists, and is not replaced", where=str(out), remedy="Remove it, or name another out=FILE")
    done = read_plain(run_dir / DONE, dict[str, Any], remedy=f"Remove {run_dir} and {out}")
    if done.get("file") != content_of(out):
        raise InputError("was changed since it was written", where=str(out), remedy="Remove it, or name another out")
    if done.get("made_from") != dict(made_from):
        changed = [key for key, value in made_from.items() if done.get("made_from", {}).get(key) != value]
        raise InputError(
            f"holds the predictions for another {' and '.join(changed)}",
            where=str(out),
            remedy=f"Remove it and {run_dir}, or name another out=FILE",
        )
    return True


def deliver(answer: Delivered, out: Path, run_dir: Path, made_from: Mapping[str, Any]) -> None:
    """Write what stands beside the file of predictions, and remove the parts."""
    configuration_checked(run_dir)
    write_json(run_dir / "metrics.json", dict(sorted(answer.metrics.items())))
    write_json(run_dir / "columns.json", dict(answer.columns))
    if any(scores.pairs for scores in answer.scores.values()):
        # A run without true values draws nothing, and does not import matplotlib.
        from experiments.prediction.page import write_page

        write_page(run_dir, out, answer.scores, answer.metrics)
    write_json(run_dir / DONE, {"file": content_of(out), "made_from": dict(made_from)})
    if (run_dir / PARTS).is_dir():
        remove_directory(run_dir / PARTS)
