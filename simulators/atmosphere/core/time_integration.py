"""Time integration of a spectral core, from states on the grid to states on the grid at regular times.

Two programs are compiled per batch size, for any length and interval. States are yielded one at a time, so that memory
holds only one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.spec import SimulationError
from simulators.atmosphere.core.equations import Spectral, SpectralEquations
from simulators.precision import jit_float32

#: Time steps between checks of a long run without saved states.
LOOK = 480


@dataclass(frozen=True)
class PlausibleRanges:
    """Range of physically plausible values for each channel.

    Attributes:
        labels: label of each channel.
        low, high: lowest and highest plausible value of each channel, in its unit.
    """

    labels: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def fault(self, states: Float[np.ndarray, "batch latitude longitude channel"]) -> str:
        """What is wrong with the states, or "" if all values are finite and plausible."""
        if not np.isfinite(states).all():
            return f"{int((~np.isfinite(states)).any(axis=(1, 2, 3)).sum())} of {len(states)} states are not finite"
        for values, ends, sign in ((states.min((0, 1, 2)), self.low, -1), (states.max((0, 1, 2)), self.high, 1)):
            beyond = sign * (values - np.array(ends)) > 0
            if beyond.any():
                at = int(np.argmax(beyond))
                return f"{self.labels[at]} reached {values[at]:.4g}, beyond {ends[at]:g}"
        return ""


@dataclass(frozen=True)
class SpectralRun:
    """Equations with the compiled programs that integrate them.

    Attributes:
        equations: the equations of the core.
        limits: plausible values of its states.
        step_minutes: time step, min.
        dtype: precision of the computation, "float32" or "float64".
    """

    equations: SpectralEquations
    limits: PlausibleRanges
    step_minutes: float
    dtype: str

    def states(
        self,
        initial: Float[np.ndarray, "batch latitude longitude channel"],
        saves: int,
        save_hours: float,
        spin_up_hours: float = 0.0,
    ) -> Iterator[Float[np.ndarray, "batch latitude longitude channel"]]:
        """Yield the truncated state after the spin-up and `saves` later states, float32.

        Raises:
            SimulationError: `not_converged`, with the time and the reason, as soon as a state is beyond the limits.
        """
        with jax.enable_x64(self.dtype == "float64"):
            spectral = self.to_spectral(jnp.asarray(initial, self.dtype))
        hours = -spin_up_hours
        for save in range(saves + 1):
            todo = self.steps(spin_up_hours if save == 0 else save_hours)
            while True:
                steps = min(todo, LOOK)
                # The setting must not be active during a yield, where the caller's code runs.
                with jax.enable_x64(self.dtype == "float64"):
                    spectral, nodal = self.advance(spectral, jnp.int32(steps))
                fields = np.asarray(nodal, np.float32)
                hours += steps * self.step_minutes / 60
                if fault := self.limits.fault(fields):
                    raise SimulationError(
                        "not_converged",
                        f"{fault}, by hour {hours:g} after the spin-up with steps of {self.step_minutes:g} min; a "
                        "smaller step_minutes or stronger diffusion may keep it stable",
                    )
                todo -= steps
                if todo <= 0:
                    break
            yield fields

    def steps(self, hours: float) -> int:
        """Number of time steps in this many hours."""
        return round(hours * 60 / self.step_minutes)

    @cached_property
    def to_spectral(self) -> Any:
        """Compiled program that transforms a batch of states on the grid to spectral space."""
        return jit_float32(jax.vmap(self.equations.to_spectral))

    @cached_property
    def advance(self) -> Any:
        """Compiled program: (batch in spectral space, steps) -> (batch after the steps, its fields on the grid)."""
        equations = self.equations
        # Built outside of the program: the constants of a step are cached and need the dtype of the computation.
        with jax.enable_x64(self.dtype == "float64"):
            step = equations.step

        def program(states: Spectral, steps: Any) -> tuple[Spectral, Float[Array, "batch latitude longitude channel"]]:
            def member(state: Spectral) -> tuple[Spectral, Float[Array, "latitude longitude channel"]]:
                later = jax.lax.fori_loop(0, steps, lambda _, s: step(s), state)
                return later, equations.to_grid(later)

            # On a CPU, one state and its transforms fit into the cache and a batch does not: a batch that is computed
            # all at once takes up to twice as long as its states one after another.
            return jax.lax.map(member, states) if jax.default_backend() == "cpu" else jax.vmap(member)(states)

        return jit_float32(program)


@lru_cache(maxsize=16)
def spectral_run(equations: SpectralEquations, limits: PlausibleRanges, step_minutes: float, dtype: str) -> SpectralRun:
    """The run with these settings; all simulators of this process with the same settings share its programs."""
    return SpectralRun(equations, limits, step_minutes, dtype)
