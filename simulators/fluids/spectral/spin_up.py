"""Initial states after a spin-up: the last states of trajectories of a solver on a periodic box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.spec import SimulationError
from simulators.fluids.spectral.exponax import Exponax
from simulators.fluids.spectral.initial import Initial


@dataclass(frozen=True)
class SpunUp:
    """Initial states after a spin-up: the last saved states of trajectories from another generator's states.

    They represent the statistically steady state of chaotic or forced equations.

    Attributes:
        base: generator of the states from which the spin-up starts.
        simulator: solver of the spin-up, without varied parameters.
    """

    base: Initial
    simulator: Exponax

    def __post_init__(self) -> None:
        if self.simulator.varied:
            raise InputError("takes no varied parameters", where="initial.simulator.varied", remedy="Fix them")

    def sample(
        self, rng: np.random.Generator, count: int, points: int, dim: int, channels: int = 1
    ) -> Float[np.ndarray, "B C *N"]:
        """Draw states; see `Initial`.

        Raises:
            SimulationError: `not_converged` if a trajectory blows up.
        """
        solver = self.simulator
        if points != solver.points:
            solver = solver.at(points=points)
        start = self.base.sample(rng, count, points, dim, channels)
        reached = np.asarray(solver.trajectories(start), np.float32)
        if not (sound := solver.good(reached)).all():
            raise SimulationError("not_converged", f"{int((~sound).sum())} of {count} blew up while spinning up")
        return reached[:, -1]
