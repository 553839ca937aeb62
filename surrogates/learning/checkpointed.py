"""The note of a checkpoint: how far its run is, and the settings that a resumed run has to share with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from flax import nnx

from data.errors import InputError
from data.json_files import reading
from data.plain import Form, PlainError, from_plain, to_plain, within
from surrogates.learning.checkpoints import NOTE, RESTORE, checksum, read_note
from surrogates.learning.recipe import TrainConfig

#: Settings of a recipe that may change when a run is resumed, because no weight depends on them.
FREE = ("max_seconds", "max_core_seconds", "checkpoint_every_s", "mlflow", "epochs", "patience")


#: The least loss of the validation is infinite before the first one, and null in JSON.
BEST = Form(float | None, lambda best: best if math.isfinite(best) else None, lambda x: math.inf if x is None else x)


@dataclass
class Progressed:
    """How far a run is, as its checkpoints record it; `partial` has the statistics of an interrupted epoch."""

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    best: Annotated[float, BEST] = math.inf
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    partial: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.epoch, self.batch, self.seconds, self.core_seconds, self.since_best) < 0:
            raise ValueError("counts and seconds must be 0 or more")


def identity(config: TrainConfig, loss: Any, frozen: Any) -> dict[str, Any]:
    """The settings that a resumed run has to share with the run that it resumes, in plain JSON types.

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
        fixed["loss"] = _entries(loss)
    plain: dict[str, Any] = to_plain(fixed)
    return plain


def read_progress(place: Path, expected: Mapping[str, Any], loss: Any, run_dir: Path) -> Progressed:
    """Read how far the run of a checkpoint is, and refuse a checkpoint of a run with other settings.

    A setting that is missing in the note was added by a later version; the run had its default.

    Args:
        place: directory of the checkpoint.
        expected: `identity` of the run that is resumed.
        loss: loss of that run.
        run_dir: run directory that the message names.

    Raises:
        InputError: it was made with other settings.
        CorruptStoreError: its note is not what was written.
    """
    note = read_note(place)
    with reading(place / NOTE, remedy=RESTORE):
        with within("config"):
            stored = from_plain(dict[str, Any], note.get("config"))
        with within("progress"):
            progress = from_plain(Progressed, note.get("progress"))
    stored = {**_defaults(TrainConfig), **stored}
    if isinstance(stored.get("loss"), dict) and is_dataclass(loss):
        stored["loss"] = {**_defaults(type(loss)), **stored["loss"]}  # type: ignore[arg-type]
    changed = [key for key, value in expected.items() if stored.get(key) != value]
    if changed:
        raise InputError(
            f"the run here was made with other settings: {', '.join(changed)}",
            where=str(run_dir),
            remedy="Give the same settings to resume it, or another run.dir",
        )
    return progress


def _entries(settings: Any) -> dict[str, Any]:
    """The settings of a dataclass by name, with those of a dataclass in it among them."""
    entries: dict[str, Any] = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        entries |= _entries(value) if is_dataclass(value) else {f.name: value}
    return entries


def _defaults(kind: type) -> dict[str, Any]:
    """The default of each setting of a dataclass that has one, with those of a dataclass in it among them."""
    defaults: dict[str, Any] = {}
    for f in fields(kind):
        default = f.default if f.default_factory is MISSING else f.default_factory()
        try:
            defaults |= to_plain(_entries(default)) if is_dataclass(default) else {f.name: to_plain(default)}
        except PlainError:
            continue  # it has no default, or one that JSON cannot hold
    return defaults
