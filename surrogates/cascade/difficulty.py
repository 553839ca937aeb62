"""How far answers of a rung are from the labels, and what the answer itself says of how hard its request was.

Both are in units of the tolerance, the largest over the outputs that have one and over their entries. The difficulty is
that of the standard deviations that a rung gives with its answer. A rung without them is as far from the truth as the
rung before it disagrees with it; the first rung without them finds every request equally hard.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from data.spec import SimulationError

Answer = xr.Dataset | SimulationError


def distance(one: xr.Dataset, other: xr.Dataset, tau: Mapping[str, float]) -> float:
    """The largest absolute difference of two answers, in units of the tolerances.

    Args:
        one, other: answers.
        tau: output -> tolerance.

    Raises:
        SimulationError: `invalid_input`: an output has other sizes in the two, such as that of another mesh.
    """
    largest = 0.0
    for name, tolerance in tau.items():
        a, b = np.asarray(one[name].values, np.float64), np.asarray(other[name].values, np.float64)
        if a.shape != b.shape:
            raise SimulationError("invalid_input", f"{name} has the shape {a.shape} and not {b.shape}")
        largest = max(largest, float(np.abs(a - b).max(initial=0.0)) / tolerance)
    return largest


def difficulty(answer: Answer, before: Answer | None, tau: Mapping[str, float], *, domain: bool = True) -> float:
    """How hard the request was, by its answer; NaN for an answer that must not be given.

    Args:
        answer: of this rung, or its failure.
        before: of the rung before it, or its failure; None for the first rung.
        tau: output -> tolerance.
        domain: whether an answer that says that it lies outside of its domain must not be given.
    """
    if isinstance(answer, SimulationError):
        return float("nan")
    if domain and "in_domain" in answer and not bool(np.all(answer["in_domain"].values)):
        return float("nan")
    spreads = [answer[f"{name}_std"].values / value for name, value in tau.items() if f"{name}_std" in answer]
    if spreads:
        return max(float(np.max(spread, initial=0.0)) for spread in spreads)
    if before is None:
        return 1.0
    # Nothing to compare with says nothing of this answer, so that the next rung is asked.
    return float("nan") if isinstance(before, SimulationError) else distance(answer, before, tau)


def error(answer: Answer, label: Answer, tau: Mapping[str, float]) -> float:
    """The error of an answer in units of the tolerances; infinite where there is no label to compare with.

    Args:
        answer: of a rung, or its failure, which is no wrong answer.
        label: answer of the last rung, or its failure.
        tau: output -> tolerance.
    """
    if isinstance(answer, SimulationError):
        return 0.0
    return float("inf") if isinstance(label, SimulationError) else distance(answer, label, tau)
