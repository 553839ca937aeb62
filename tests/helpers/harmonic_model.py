"""A model of bonds as springs that needs NumPy alone, for tests of models in other interpreters.

Its energy is half of `constant` times the squared deviation of each pair's distance from `rest`. Facts of a request may
ask it to fail: `raise`, `exit`, `memory`, `print`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np


def describe() -> dict[str, str]:
    """Version and hash, as every model has them."""
    print("text before the facts")
    return {"version": "harmonic 1", "weights": "springs"}


def load(settings: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The model with its settings `constant` and `rest`."""
    if "rest" not in settings:
        raise ValueError("no length at rest")
    constant, rest = settings.get("constant", 1.0), settings["rest"]

    def answer(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        if facts.get("print"):
            print("x" * facts["print"], flush=True)
        if facts.get("raise"):
            raise RuntimeError("no answer\nto this")
        if facts.get("memory"):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        if facts.get("exit"):
            print("the last words", flush=True)
            os._exit(3)
        energies, forces, failed, start = [], [], {}, 0
        for place, count in enumerate(arrays["counts"]):
            positions = arrays["positions"][start : start + count]
            start += count
            if 2 in arrays["numbers"][start - count : start]:
                failed[str(place)] = "no springs to helium"
                continue
            if 99 in arrays["numbers"][start - count : start]:
                os._exit(9)
            bonds = positions[:, None] - positions[None]
            lengths = np.linalg.norm(bonds, axis=-1) + np.eye(count)
            stretch = (lengths - rest) * (1 - np.eye(count))
            energies.append(constant * np.sum(stretch**2) / 4)
            forces.append(-constant * np.sum((stretch / lengths)[..., None] * bonds, axis=1))
        values = {"energy": np.array(energies), "forces": np.concatenate([np.zeros((0, 3)), *forces])}
        return {"failed": failed, "pid": os.getpid()}, values

    return answer
