"""The frames of the first round: start geometries that are shaken, or frames drawn from a pool."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data.errors import InputError
from data.structures.structures import Structures
from experiments.active.exploration import CLOSEST


@dataclass(frozen=True)
class InitialConfig:
    """The frames of the first round, which are the start geometries with random displacements.

    Attributes:
        count: number of frames.
        shake_angstrom: standard deviation of the displacement of each coordinate, Angstrom; the first frame is not
            displaced.
    """

    count: int = 20
    shake_angstrom: float = 0.04

    def __post_init__(self) -> None:
        if self.count < 1 or self.shake_angstrom <= 0:
            raise ValueError(f"count must be at least 1 and shake_angstrom above 0; got {self}")


def shaken(start: Structures, config: InitialConfig, seed: int) -> Structures:
    """The start geometries in turn, each with random displacements; the first one is left as it is.

    Raises:
        InputError: two atoms of a start geometry are closer than `CLOSEST`.
    """
    if (start.shortest_distances() < CLOSEST).any():
        raise InputError(f"atoms are closer than {CLOSEST} Angstrom", where="start", remedy="Give another geometry")
    rng = np.random.default_rng(seed)
    frames = start.take(np.arange(config.count) % len(start))
    shaking = np.where(frames.fixed, 0.0, rng.normal(size=frames.positions.shape))
    moved = frames.positions + config.shake_angstrom * shaking
    moved[: frames.sizes[0]] = frames.positions[: frames.sizes[0]]
    unknown = np.full(len(frames), np.nan), np.full_like(moved, np.nan)
    displaced = replace(frames, positions=moved, energy=unknown[0], forces=unknown[1], _neighbours={})
    return displaced.take(np.flatnonzero(displaced.shortest_distances() >= CLOSEST))
