"""Detection of trajectories that blew up, and the search for a step that is short enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from data.spec import SimulationError
from simulators.fluids.spectral.equations import Equation


def bounds(initial: Float[np.ndarray, "B C *N"], growth: float) -> Float[np.ndarray, " B"]:
    """The amplitude above which a trajectory counts as blown up: growth x max(1, max |initial|).

    The dimensionless equations saturate at amplitudes of order one, even if they start from rest (an instability, a
    forced flow), whereas a numerical blow-up exceeds any bound within a few steps.
    """
    largest = np.abs(initial).max(axis=tuple(range(1, initial.ndim)))
    return growth * np.maximum(largest, 1.0)


def sound(trajectories: Float[np.ndarray, "B T C *N"], growth: float = 100.0) -> Bool[np.ndarray, "B T"]:
    """Whether each state and all states before it are finite and within the `bounds` of the trajectory."""
    values = np.asarray(trajectories)
    largest = np.abs(values).max(axis=tuple(range(2, values.ndim)))
    within = np.isfinite(largest) & (largest <= bounds(values[:, 0], growth)[:, None])
    return np.logical_and.accumulate(within, axis=1)


def courant(
    equation: Equation, states: Float[np.ndarray, "T C *N"], length: float, dt: float, parameters: Mapping[str, float]
) -> float | None:
    """The largest Courant number max |v| dt / dx of any state; None for equations without advection by the state."""
    points = states.shape[-1]
    if equation.carried == "state":
        speed = float(np.abs(states).max()) * abs(parameters.get("convection", 1.0))
    elif equation.carried == "vorticity":
        kx, ky = np.meshgrid(np.fft.fftfreq(points, 1 / points), np.fft.rfftfreq(points, 1 / points), indexing="ij")
        squared = (kx**2 + ky**2) * 2 * np.pi / length
        squared[0, 0] = 1.0
        stream = np.fft.rfft2(states[:, 0]) / squared
        speed = max(float(np.abs(np.fft.irfft2(1j * k * stream, s=(points, points))).max()) for k in (kx, ky))
    else:
        return None
    return speed * dt * points / length


def divergence(velocity: Float[np.ndarray, " D *N"]) -> float:
    """The norm of div v relative to that of grad v: 0 for an incompressible flow, of order 1 for any other."""
    dim, n = velocity.shape[0], velocity.shape[-1]
    axes = tuple(range(1, dim + 1))
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * dim, indexing="ij"))
    coefficients = np.fft.fftn(velocity.astype(np.float64), axes=axes)
    gradient = np.sqrt(np.sum(np.sum(k**2, axis=0) * np.abs(coefficients) ** 2))
    return float(np.linalg.norm(np.sum(k * coefficients, axis=0)) / gradient) if gradient > 0 else 0.0


def difference(a: Float[np.ndarray, "T C *N"], b: Float[np.ndarray, "T C *N"]) -> float:
    """The largest relative L2 difference at any time, relative to the norm of `b`."""
    axes = tuple(range(1, a.ndim))
    over = np.sqrt(np.sum(b.astype(np.float64) ** 2, axis=axes))
    apart = np.sqrt(np.sum((a.astype(np.float64) - b) ** 2, axis=axes))
    return float(np.max(np.where(apart > 0, apart / np.maximum(over, np.finfo(np.float64).tiny), 0.0)))


def solve_with_refinement(
    attempt: Callable[[int], tuple[Float[np.ndarray, "T C *N"], float, str]], refine: int, tolerance: float | None
) -> tuple[Float[np.ndarray, "T C *N"], dict[str, Any]]:
    """Halve the step until a trajectory is sound and, with a tolerance, close to the one with twice its step.

    Args:
        attempt: number of halvings -> trajectory, its step, and its fault ("" for none).
        refine: largest number of halvings.
        tolerance: largest `difference`; None: a sound trajectory is accepted.

    Returns:
        The trajectory, and facts: `refinements`, `dt` and (with a tolerance) `step_error`.

    Raises:
        SimulationError: `not_converged`, with the last fault.
    """
    before, problem, facts = None, "", dict[str, Any]()
    for level in range(refine + 1):
        trajectory, dt, fault = attempt(level)
        facts = {"refinements": level, "dt": dt}
        if fault:
            before, problem = None, fault
            continue
        if tolerance is None:
            return trajectory, facts
        if before is None:
            problem = f"dt {dt:.3g} is sound, and there is no shorter step to compare it with"
        else:
            facts["step_error"] = error = difference(before, trajectory)
            if error <= tolerance:
                return trajectory, facts
            problem = f"the answers with dt {dt:.3g} and with twice that differ by {error:.2g} (relative L2)"
        before = trajectory
    raise SimulationError(
        "not_converged", f"{problem}; with refine {refine}: use a shorter dt, or a larger refine", facts
    )
