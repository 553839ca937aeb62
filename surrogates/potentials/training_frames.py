"""The frames that a potential is trained on: their files, and the parts into which they are split."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.settings import MISSING, existing_file, names
from data.spec import content_hash
from data.structures.frame_names import FrameKeys
from data.structures.frame_settings import KeySettings
from data.structures.structures import Structures

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """The files that a potential is trained and scored on.

    Attributes:
        train: one or more files of training frames.
        valid: file of validation frames, or the fraction of the training frames used for validation, which chooses the
            best weights.
        test: files that are scored separately.
        isolated_atoms: file of single atoms whose energies the potential reproduces exactly; None to use the single
            atoms among the training frames, if there are any.
        calibration: fraction of the training frames set aside to calibrate the interval of the energy.
        seed: seed of the choice of validation and calibration frames.
        keys: names of the entries of a frame that hold labels, charge and spin.
        weights: kind of frame, by its entry `config_type` -> weight in the loss; see `frame_weights`.
    """

    train: tuple[Path, ...]
    valid: Path | float
    test: tuple[Path, ...] = ()
    isolated_atoms: Path | None = None
    calibration: float = 0.0
    seed: int = 0
    keys: FrameKeys = field(default_factory=FrameKeys)
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightSettings:
    """The keys of `data.weights`: kind of frame, by its entry `config_type` -> weight in the loss."""

    config_type: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PotentialData(KeySettings):
    """The keys of `data` for potentials; see `Files`.

    Raises:
        ValueError: the seed is negative, or the calibration part is not in [0, 1).
    """

    train: Any = MISSING
    valid: Any = 0.05
    test: Any = field(default_factory=list)
    seed: int = 0
    isolated_atoms: str | None = None
    calibration: float = 0.0
    weights: WeightSettings = field(default_factory=WeightSettings)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if not 0 <= self.calibration < 1:
            raise ValueError(f"calibration must lie in [0, 1), got {self.calibration}")

    def files(self) -> Files:
        """The files that these settings name.

        Raises:
            InputError: a file is missing.
        """
        valid, isolated = str(self.valid), self.isolated_atoms
        return Files(
            train=tuple(existing_file(name, "data.train") for name in names(self.train, "data.train") or [""]),
            valid=float(valid) if _is_number(valid) else existing_file(valid, "data.valid"),
            test=tuple(existing_file(name, "data.test") for name in names(self.test, "data.test")),
            isolated_atoms=None if isolated is None else existing_file(isolated, "data.isolated_atoms"),
            calibration=self.calibration,
            seed=self.seed,
            keys=self.keys("data."),
            weights=dict(self.weights.config_type),
        )


def fingerprint(structures: Structures) -> str:
    """Hash of geometries and labels, which does not depend on the files that they come from."""
    arrays = [
        structures.numbers,
        structures.positions,
        structures.energy,
        structures.forces,
        structures.charge,
        structures.lattice,
        structures.stress,
    ]
    # Fingerprints of older runs omit spins, so frames in their lowest spin still do.
    if not np.array_equal(structures.spins, structures.lowest_spins):
        arrays.append(structures.spins)
    # Likewise for frames without weights.
    if not np.array_equal(structures.weight, np.ones(len(structures))):
        arrays.append(structures.weight)
    return content_hash([np.ascontiguousarray(a).tobytes().hex() for a in arrays])


def split_frames(
    frames: Structures, valid_file: Structures | None, files: Files
) -> tuple[Structures, Structures, Structures | None, dict[str, np.ndarray]]:
    """Training, validation and calibration frames, and their rows among the frames of `files.train`.

    Raises:
        InputError: a part would be empty, or leave nothing to train on.
    """
    fractions = {
        "valid": 0.0 if isinstance(files.valid, Path) else files.valid,
        "calibration": files.calibration,
    }
    order = np.random.default_rng(files.seed).permutation(len(frames))
    # Single atoms set the reference energies, and therefore stay in the training part.
    alone = frames.alone()
    order = order[~alone[order]]
    total = len(order)
    rows: dict[str, np.ndarray] = {}
    for name, fraction in fractions.items():
        n = round(fraction * total)
        needs_frames = fraction > 0 or (name == "valid" and not isinstance(files.valid, Path))
        if needs_frames and not 0 < n < len(order):
            # Rounding gives one frame to every fraction above a half.
            enough = math.floor(0.5 / fraction) + 1 if fraction > 0 else 0
            needed = f": it takes {max(enough, 2)} frames" if 0 < fraction < 0.5 else ""
            raise InputError(
                f"a fraction of {fraction} of {total} frames leaves none for it, or none to train on{needed}",
                where=f"data.{name}",
                remedy="Give a fraction between 0 and 1" + (", or a file" if name == "valid" else ""),
            )
        rows[name], order = np.sort(order[:n]), order[n:]
    if len(order) == 1:
        LOG.warning("there is only 1 training frame")
    rows["train"] = np.sort(np.concatenate([order, np.flatnonzero(alone)]))
    # Scores and intervals count every frame alike.
    valid = frames.take(rows["valid"]).unweighted() if valid_file is None else valid_file
    calibration = frames.take(rows["calibration"]).unweighted() if files.calibration > 0 else None
    return frames.take(rows["train"]), valid, calibration, rows


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", text.lower()) is not None
