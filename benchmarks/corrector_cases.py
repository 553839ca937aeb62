"""The flows of `benchmarks.corrector`: their solvers, ladders and networks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data.errors import InputError

#: Answers are this many times as long as the trajectories that training unrolls.
LONGER = 10
#: Grid points along each side, time step, and the fraction of the wavenumbers that products keep.
Rung = tuple[int, float, float]
#: The usual fraction, which is free of aliasing errors, and one that keeps nearly all wavenumbers: on coarse grids the
#: latter has a third of the error at the same cost, where the time step keeps it stable.
SAFE, WIDE = 2 / 3, 0.95


@dataclass(frozen=True)
class CorrectorCase:
    """Settings of the comparison for one equation.

    Attributes:
        equation, dim, length, parameters: see `simulators.fluids.spectral.settings.BoxSettings`.
        initial: generator of the states from which the spin-up starts.
        spin_up: time units before the first state.
        early, settle: rung of the spin-up, and time units on the grid of each solver after it; None for a spin-up on
            the grid of each solver.
        save_dt: time of a step of the surrogate.
        unroll: steps that are unrolled in training.
        labels, label_steps: rung of the solver that it learns from, and steps of a trajectory.
        reference, finer: rungs of the reference, and of the refinement that checks it.
        rungs: the ladder.
        points: grid points on which answers are compared and between which the surrogate steps.
        coarse: rung of the solver that is corrected.
        corrections: corrections in a step of the surrogate.
        network: settings of the network.
    """

    equation: str
    dim: int
    initial: tuple[str, dict[str, Any]]
    spin_up: float
    save_dt: float
    unroll: int
    labels: Rung
    label_steps: int
    reference: Rung
    finer: Rung
    rungs: tuple[Rung, ...]
    points: int
    coarse: Rung
    corrections: int
    network: dict[str, Any]
    length: float = 1.0
    parameters: dict[str, float] = field(default_factory=dict)
    early: Rung | None = None
    settle: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of an answer."""
        return LONGER * self.unroll

    def correcting(self, points: float, dt: float, kept: float) -> CorrectorCase:
        """The case with another solver that is corrected: grid points, time step, and fraction of the wavenumbers."""
        coarse = int(points)
        if self.points % coarse:
            raise InputError(
                f"{coarse} points do not divide {self.points}", where="--coarse", remedy="Give a divisor of them"
            )
        return replace(self, coarse=(coarse, dt, kept), network=self.network | {"fold": self.points // coarse})

    def solver(self, rung: Rung, *, steps: int, save_dt: float | None = None) -> Any:
        """The solver of one rung."""
        from simulators.fluids.spectral.exponax import Exponax

        points, dt, dealias = rung
        return Exponax(
            self.equation,
            points,
            length=self.length,
            dim=self.dim,
            save_dt=save_dt or self.save_dt,
            steps=steps,
            dt=dt,
            dealias=dealias,
            parameters=self.parameters,
            courant=None,
        )


def _li(viscosity: float, **more: Any) -> CorrectorCase:
    """The vorticity on the unit torus with the forcing of Li et al. (arXiv:2010.08895, section 5.3)."""
    settings: dict[str, Any] = {
        "equation": "navier_stokes_li",
        "dim": 2,
        "initial": ("MaternField", {"amplitude": 343.0}),
        "spin_up": 10.0,
        "save_dt": 1.0,
        "unroll": 2,
        "label_steps": 20,
        "points": 64,
        "parameters": {"viscosity": viscosity},
    }
    return CorrectorCase(**settings | more)


CASES = {
    "li_1e-4": _li(
        1e-4,
        labels=(64, 0.025, SAFE),
        reference=(96, 0.0125, SAFE),
        finer=(128, 0.00625, SAFE),
        rungs=(
            *((16, 0.125, WIDE), (32, 0.1, SAFE), (32, 0.0625, WIDE), (40, 0.05, WIDE), (48, 0.04, WIDE)),
            (64, 0.025, WIDE),
        ),
        coarse=(32, 0.0625, WIDE),
        corrections=2,
        network={"width": 16, "fold": 2, "dilations": [1, 2, 1]},
    ),
    "li_1e-5": _li(
        1e-5,
        labels=(96, 0.02, SAFE),
        reference=(128, 0.0125, SAFE),
        finer=(192, 0.01, SAFE),
        rungs=(
            *((16, 0.125, WIDE), (32, 0.1, SAFE), (32, 0.0625, WIDE), (40, 0.05, WIDE), (48, 0.04, WIDE)),
            *((64, 0.025, WIDE), (96, 0.02, SAFE)),
        ),
        coarse=(32, 0.0625, WIDE),
        corrections=2,
        network={"width": 16, "fold": 2, "dilations": [1, 2, 1]},
    ),
    # The flow of Kochkov et al. (arXiv:2102.01010) at Reynolds number 1,000.
    "kolmogorov": CorrectorCase(
        equation="navier_stokes_kolmogorov",
        dim=2,
        length=2 * np.pi,
        parameters={"viscosity": 1e-3, "drag": 0.1, "forcing": 1.0, "forcing_mode": 4},
        initial=("FourierSeries", {"cutoff": 4, "normalise": "std"}),
        early=(64, 0.0125, SAFE),
        spin_up=20.0,
        settle=2.0,
        save_dt=0.25,
        unroll=4,
        labels=(128, 0.00625, SAFE),
        label_steps=20,
        reference=(192, 0.005, SAFE),
        finer=(256, 0.003125, SAFE),
        rungs=(
            *((32, 0.025, SAFE), (32, 0.0178571429, WIDE), (48, 0.0125, WIDE), (64, 0.0125, SAFE)),
            *((64, 0.01, WIDE), (96, 0.00625, WIDE), (128, 0.00625, SAFE)),
        ),
        points=64,
        coarse=(32, 0.0178571429, WIDE),
        corrections=2,
        network={"width": 16, "fold": 2, "dilations": [1, 2, 1]},
    ),
    "kuramoto_sivashinsky": CorrectorCase(
        equation="kuramoto_sivashinsky_conservative",
        dim=1,
        length=60.0,
        initial=("FourierSeries", {"cutoff": 5}),
        spin_up=100.0,
        save_dt=1.0,
        unroll=4,
        labels=(128, 0.1, SAFE),
        label_steps=80,
        reference=(128, 0.05, SAFE),
        finer=(192, 0.025, SAFE),
        rungs=(
            *((32, 0.5, WIDE), (40, 0.5, WIDE), (48, 1.0, WIDE), (48, 0.5, SAFE), (48, 0.5, WIDE)),
            *((48, 0.25, WIDE), (64, 0.25, SAFE), (64, 0.125, SAFE)),
        ),
        points=64,
        coarse=(32, 0.5, WIDE),
        corrections=1,
        network={"width": 16, "fold": 2, "kernel": 5, "dilations": [1, 1]},
    ),
    "burgers": CorrectorCase(
        equation="burgers",
        dim=1,
        parameters={"viscosity": 5e-3},
        initial=("FourierSeries", {"cutoff": 5}),
        spin_up=0.05,
        save_dt=0.05,
        unroll=4,
        labels=(256, 0.0025, SAFE),
        label_steps=40,
        reference=(384, 0.00125, SAFE),
        finer=(512, 0.000625, SAFE),
        rungs=(
            *((32, 0.0125, WIDE), (48, 0.0125, WIDE), (64, 0.0125, WIDE), (96, 0.0125, SAFE), (96, 0.00625, WIDE)),
            (128, 0.005, SAFE),
        ),
        points=128,
        coarse=(64, 0.00625, WIDE),
        corrections=1,
        network={"width": 16, "fold": 2, "kernel": 5, "dilations": [1, 1]},
    ),
}
