"""Which frames are worth a label by their energy: dynamics of an early potential visits far more than thermal ones.

A harmonic molecule with f internal coordinates has a potential energy of f kT / 2 above its minimum on average, with a
standard deviation of sqrt(f / 2) kT. Energies are therefore compared per internal coordinate.
"""

from __future__ import annotations

import numpy as np
from ase import units
from jaxtyping import Bool, Float, Int

from data.structures.structures import Structures


def internal_coordinates(structures: Structures) -> Int[np.ndarray, " M"]:
    """Coordinates of each structure that are not fixed, without those of motion as a whole; at least 1."""
    free = np.bincount(structures.molecule, weights=(~structures.fixed).sum(axis=1), minlength=len(structures))
    rigid = np.where(structures.periodic.any(axis=1), 3, 6)
    anchored = np.bincount(structures.molecule, weights=structures.fixed.any(axis=1), minlength=len(structures)) > 0
    return np.maximum(free - np.where(anchored, 0, rigid), 1).astype(np.int64)


def excess(frames: Structures, labelled: Structures) -> Float[np.ndarray, " F"]:
    """Energy of each frame above the lowest labelled one of the same molecule, by internal coordinate, eV.

    The same molecule has the same atoms in the same order, charge and spin. Where none is labelled, the lowest of
    `frames` takes its place.
    """
    ours, theirs = _molecules(frames), _molecules(labelled)
    lowest: dict[tuple[bytes, int, int], float] = {}
    for names, energy in ((theirs, labelled.energy), (ours, frames.energy)):
        earlier = set(lowest)
        for name, value in zip(names, energy, strict=True):
            if name not in earlier and np.isfinite(value):
                lowest[name] = min(lowest.get(name, np.inf), float(value))
    return (frames.energy - np.array([lowest.get(name, np.nan) for name in ours])) / internal_coordinates(frames)


def inside_window(
    frames: Structures, labelled: Structures, window_kt: float | None, temperature_kelvin: float
) -> Bool[np.ndarray, " F"]:
    """Whether each frame lies at most `window_kt` kT by internal coordinate above the lowest labelled one.

    Args:
        frames: explored frames with predicted energies.
        labelled: labelled frames.
        window_kt: height of the window; None for no limit.
        temperature_kelvin: temperature of kT, K.
    """
    if window_kt is None:
        return np.ones(len(frames), bool)
    return np.asarray(excess(frames, labelled) <= window_kt * units.kB * temperature_kelvin)


def _molecules(structures: Structures) -> list[tuple[bytes, int, int]]:
    """Atomic numbers in their order, charge and spin of each structure."""
    parts = np.split(structures.numbers, structures.atom_start[1:-1]) if len(structures) else []
    return [
        (part.tobytes(), int(charge), int(spin))
        for part, charge, spin in zip(parts, structures.charge, structures.spins, strict=True)
    ]
