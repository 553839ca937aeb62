"""SO3LR by the ASE calculator of its own package, one structure after another; run by the interpreter that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def load(settings: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The calculator with its own arguments."""
    from ase import Atoms
    from so3krates_torch.calculator.so3 import SO3LRCalculator

    calculator = SO3LRCalculator(**settings)
    (model,) = calculator.models

    def answer(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        values: dict[str, list[np.ndarray]] = {}
        # As its constructor sets it.
        calculator.r_max_lr = model.r_max_lr = facts["reach"]
        starts = np.cumsum(arrays["counts"])[:-1]
        for numbers, positions, charge in zip(
            np.split(arrays["numbers"], starts), np.split(arrays["positions"], starts), arrays["charge"], strict=True
        ):
            calculator.calculate(Atoms(numbers, positions, info={"charge": float(charge)}))
            for name in ("energy", "forces", "dipole", "partial_charges"):
                values.setdefault(name, []).append(np.asarray(calculator.results[name]))
        atoms = {name: np.concatenate(values[name]) for name in ("forces", "partial_charges")}
        return {}, {**{name: np.stack(values[name]) for name in ("energy", "dipole")}, **atoms}

    return answer
