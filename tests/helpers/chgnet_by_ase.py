"""CHGNet by the ASE calculator of its own package, one crystal after another; run by the interpreter that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def load(settings: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The calculator with its own arguments."""
    from ase import Atoms
    from chgnet.model.dynamics import CHGNetCalculator

    def answer(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        values: dict[str, list[np.ndarray]] = {}
        starts = np.cumsum(arrays["counts"])[:-1]
        for numbers, positions, cell in zip(
            np.split(arrays["numbers"], starts), np.split(arrays["positions"], starts), arrays["cell"], strict=True
        ):
            atoms = Atoms(numbers, positions, cell=cell, pbc=True, calculator=CHGNetCalculator(**settings))
            values.setdefault("energy", []).append(np.asarray(atoms.get_potential_energy()))
            values.setdefault("forces", []).append(atoms.get_forces())
            values.setdefault("stress", []).append(atoms.get_stress(voigt=False))
            values.setdefault("magnetic_moments", []).append(atoms.get_magnetic_moments())
        by_atom = {name: np.concatenate(values[name]) for name in ("forces", "magnetic_moments")}
        return {}, {**{name: np.stack(values[name]) for name in ("energy", "stress")}, **by_atom}

    return answer
