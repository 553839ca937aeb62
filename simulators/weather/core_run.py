"""Trajectories of a spectral core: states on the grid in, states at regular times out, one at a time.

Two programs are compiled for each size of batch and serve any length and interval; what is held is one state.
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
from simulators.weather.core_equations import Spectral, SpectralEquations

#: Steps of time between looks at whether a long run without saved states is sound.
LOOK = 480


@dataclass(frozen=True)
class Limits:
    """Values beyond which a state is no longer one of the atmosphere.

    Attributes:
        labels: of the channels.
        low, high: of each channel.
    """

    labels: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def fault(self, states: Float[np.ndarray, "batch latitude longitude channel"]) -> str:
        """What shows that a state is none, or "" for nothing."""
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
    """Equations with the programs that take them forward.

    Attributes:
        equations: of the core.
        limits: of its states.
        step_minutes: of time.
        dtype: of the computation.
    """

    equations: SpectralEquations
    limits: Limits
    step_minutes: float
    dtype: str

    def states(
        self,
        initial: Float[np.ndarray, "batch latitude longitude channel"],
        saves: int,
        save_hours: float,
        spin_up_hours: float = 0.0,
    ) -> Iterator[Float[np.ndarray, "batch latitude longitude channel"]]:
        """The state after the spin-up, truncated, and `saves` later ones, float32.

        Raises:
            SimulationError: `not_converged` with when and why, as soon as one is beyond the limits.
        """
        with jax.enable_x64(self.dtype == "float64"):
            spectral = self.to_spectral(jnp.asarray(initial, self.dtype))
        hours = -spin_up_hours
        for save in range(saves + 1):
            todo = self.steps(spin_up_hours if save == 0 else save_hours)
            while True:
                steps = min(todo, LOOK)
                # Not held over a yield: the setting is the caller's there.
                with jax.enable_x64(self.dtype == "float64"):
                    spectral, nodal = self.advance(spectral, jnp.int32(steps))
                fields = np.asarray(nodal, np.float32)
                hours += steps * self.step_minutes / 60
                if fault := self.limits.fault(fields):
                    raise SimulationError(
                        "not_converged",
                        f"{fault}, by hour {hours:g} after the spin-up with steps of {self.step_minutes:g} min; a "
                        "smaller step_minutes or stronger diffusion may hold it",
                    )
                todo -= steps
                if todo <= 0:
                    break
            yield fields

    def steps(self, hours: float) -> int:
        """Time steps in so many hours."""
        return round(hours * 60 / self.step_minutes)

    @cached_property
    def to_spectral(self) -> Any:
        """Compiled: a batch of states on the grid into spectral space."""
        return jax.jit(jax.vmap(self.equations.to_spectral))

    @cached_property
    def advance(self) -> Any:
        """Compiled: a batch in spectral space and a number of steps -> the same later, and its fields on the grid."""
        equations = self.equations
        # Outside of the program: the constants of a step are kept, and must be of the computation's dtype.
        with jax.enable_x64(self.dtype == "float64"):
            step = equations.step

        def program(states: Spectral, steps: Any) -> tuple[Spectral, Float[Array, "batch latitude longitude channel"]]:
            def member(state: Spectral) -> tuple[Spectral, Float[Array, "latitude longitude channel"]]:
                later = jax.lax.fori_loop(0, steps, lambda _, s: step(s), state)
                return later, equations.to_grid(later)

            # A state and its transforms fit a processor's cache, a batch of them does not: all together take up to
            # twice as long there as one after another.
            return jax.lax.map(member, states) if jax.default_backend() == "cpu" else jax.vmap(member)(states)

        return jax.jit(program)


@lru_cache(maxsize=16)
def spectral_run(equations: SpectralEquations, limits: Limits, step_minutes: float, dtype: str) -> SpectralRun:
    """The run of these settings, whose programs all simulators with them share in this process."""
    return SpectralRun(equations, limits, step_minutes, dtype)
