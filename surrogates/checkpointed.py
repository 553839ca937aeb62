"""What a checkpoint says besides its arrays: how far its run is, and what whoever resumes has to share with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from data.errors import InputError
from data.plain import decode, reading, within
from surrogates.checkpoints import NOTE, RESTORE, checksum, read_note
from surrogates.recipe import TrainConfig

#: Settings of a recipe on which no weight depends.
FREE = ("max_seconds", "checkpoint_every_s", "mlflow", "epochs", "patience")


@dataclass
class Progressed:
    """Where a run is, as its checkpoints note it; `partial` holds the statistics of an epoch that was broken off."""

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    best: float = float("inf")
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    partial: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.epoch, self.batch, self.seconds, self.core_seconds, self.since_best) < 0:
            raise ValueError("counts and seconds must be 0 or more")

    def to_json(self) -> dict[str, Any]:
        """A plain dict; no best yet is null."""
        return {**asdict(self), "best": self.best if np.isfinite(self.best) else None}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Progressed:
        """What `to_json` described."""
        return decode(Progressed, {k: v for k, v in value.items() if not (k == "best" and v is None)})


def identity(config: TrainConfig, loss: Any, frozen: Any) -> dict[str, Any]:
    """What a resumed run has to share with the one that it resumes, as a note gives it back.

    Args:
        config: the recipe.
        loss: what is minimised; its settings count where it is a dataclass.
        frozen: the parameters that are not trained.
    """
    fixed = {name: value for name, value in asdict(config).items() if name not in FREE}
    # Frozen parameters are in no checkpoint: whoever resumes gives them again, and they have to be the same.
    fixed["frozen"] = ["/".join(str(key) for key in path) for path in nnx.to_flat_state(frozen).paths]
    fixed["frozen_sha256"] = checksum([np.asarray(leaf) for leaf in jax.tree.leaves(frozen)])
    if is_dataclass(loss) and not isinstance(loss, type):
        fixed["loss"] = asdict(loss)
    return dict(_plain(fixed))


def read_progress(place: Path, expected: Mapping[str, Any], loss: Any, run_dir: Path) -> Progressed:
    """How far the run of a checkpoint is, if it is the run that is to go on.

    A setting that the note lacks is one of a later version, and was what its default is.

    Args:
        place: of the checkpoint.
        expected: `identity` of the run.
        loss: of the run.
        run_dir: for the message.

    Raises:
        InputError: it was made with other settings.
        CorruptStoreError: its note is not what was written.
    """
    note = read_note(place)
    with reading(place / NOTE, remedy=RESTORE):
        with within("config"):
            stored = decode(dict[str, Any], note.get("config"))
        with within("progress"):
            progress = Progressed.from_json(decode(dict[str, Any], note.get("progress")))
    stored = {**_plain(_defaults(TrainConfig)), **stored}
    if isinstance(stored.get("loss"), dict) and is_dataclass(loss):
        stored["loss"] = {**_plain(_defaults(type(loss))), **stored["loss"]}  # type: ignore[arg-type]
    changed = [key for key, value in expected.items() if stored.get(key) != value]
    if changed:
        raise InputError(
            f"the run here was made with other settings: {', '.join(changed)}",
            where=str(run_dir),
            remedy="Give the same settings to resume it, or another run.dir",
        )
    return progress


def _defaults(kind: type) -> dict[str, Any]:
    """The settings of a dataclass that have a default, at it."""
    defaults = {}
    for f in fields(kind):
        plain = {"value": f.default}
        try:
            defaults[f.name] = _plain(plain)["value"]
        except TypeError:
            continue  # it has none, or none that a note could hold
    return defaults


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: lists where Python has tuples, and text for every key."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain
