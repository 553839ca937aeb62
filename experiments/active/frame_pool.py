"""Candidates from a file of geometries in place of the surrogate's own dynamics: a library, or other trajectories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from data.errors import InputError
from data.structures.structures import Structures
from experiments.active.exploration import Explored, refuse_without_spread
from experiments.active.frame_selection import worst_atom
from surrogates.potentials.surrogate import PotentialSurrogate


def draw_frames(pool: Structures, count: int, seed: int) -> Structures:
    """Frames of the pool drawn uniformly, without repetition.

    Raises:
        InputError: the pool has fewer.
    """
    if len(pool) < count:
        raise InputError(
            f"{len(pool):,} frames, and the first round labels {count:,}",
            where="pool",
            remedy="Give more frames, or a smaller initial.count",
        )
    return pool.take(np.sort(np.random.default_rng(seed).choice(len(pool), count, replace=False)))


def rows_left(pool: Structures, asked: set[bytes]) -> Int[np.ndarray, " k"]:
    """Rows of the frames of the pool that are none of those asked before; see `frame_bytes`."""
    return np.array([row for row, key in enumerate(frame_bytes(pool)) if key not in asked], np.int64)


def frame_bytes(structures: Structures) -> list[bytes]:
    """Atoms and positions of each frame, to the last bit."""
    inner = structures.atom_start[1:-1]
    numbers, positions = np.split(structures.numbers, inner), np.split(structures.positions, inner)
    return [n.tobytes() + x.tobytes() for n, x in zip(numbers, positions, strict=True)]


def survey(potential: PotentialSurrogate, pool: Structures, rows: Int[np.ndarray, " k"]) -> Explored:
    """The answers of the surrogate and their uncertainties for these rows of the pool.

    Raises:
        InputError: the potential has no standard deviations.
    """
    refuse_without_spread(potential)
    frames = pool.take(rows)
    answer = potential.predict_structures(frames)
    assert answer.forces_std is not None
    frames = replace(frames, energy=answer.energy, forces=answer.forces)
    return Explored(frames, np.arange(len(frames)), worst_atom(frames, answer.forces_std), 0.0)
