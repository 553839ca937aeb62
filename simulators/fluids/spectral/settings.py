"""Settings of a solver on a periodic box, which check themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.errors import InputError
from simulators.fluids.spectral.equations import EQUATIONS, Equation


@dataclass(frozen=True)
class BoxSettings:
    """Settings of one equation on one grid; see `exponax.Exponax`.

    Attributes:
        equation: a key of `spectral.equations.EQUATIONS`, which holds its parameters and their defaults.
        dim: number of space dimensions.
        points: grid points along each side.
        length: side of the periodic box.
        save_dt: time between saved states.
        steps: number of saved states after the initial one.
        dt: time step, which divides `save_dt`; None: `save_dt`.
        order: order of the Runge-Kutta method in time, 1 to 4.
        dealias: fraction of the wavenumbers that products keep; None: the default of the equation.
        parameters: coefficients that differ from their defaults.
        varied: names of coefficients that are inputs of each request.
        dtype: precision of the computation, "float32" or "float64"; the answer is float32 in either case.
        coefficients: "complex", or "real" as in exponax 0.2.0, which is of first order for dispersive equations and
            reproduces data that exponax computed; see `spectral.etdrk`. Other equations are not affected.
        refine: largest number of times that `dt` is halved for a request that blows up or misses `tolerance`.
        growth: ratio of amplitude to initial amplitude that counts as a blow-up; see `stability.bounds`.
        courant: largest Courant number (cells that the flow crosses in one step). Above about 1 the explicit part is
            unstable without diffusion, and an answer that stays bounded can be far from the solution. None: no check.
        tolerance: largest relative L2 difference, at any saved time, between the answer and that with twice the step;
            None: no check. It requires `refine` of at least 1.

    Raises:
        InputError: a setting is invalid; the message names valid values.
    """

    equation: str
    points: int
    length: float = 1.0
    save_dt: float = 1.0
    steps: int = 1
    dim: int = 1
    dt: float | None = None
    order: int = 4
    dealias: float | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    varied: tuple[str, ...] = ()
    dtype: str = "float32"
    coefficients: str = "complex"
    refine: int = 0
    growth: float = 100.0
    courant: float | None = 5.0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "varied", tuple(self.varied))
        object.__setattr__(self, "parameters", dict(self.parameters))
        _choice("equation", self.equation, tuple(EQUATIONS))
        _choice("dim", self.dim, self.row.dims)
        _choice("order", self.order, (1, 2, 3, 4))
        _choice("dtype", self.dtype, ("float32", "float64"))
        _choice("coefficients", self.coefficients, ("complex", "real"))
        for name, least in (("points", 4), ("steps", 1), ("refine", 0 if self.tolerance is None else 1)):
            if getattr(self, name) < least:
                raise InputError(f"must be at least {least}, got {getattr(self, name)}", where=f"simulator.{name}")
        for name in ("length", "save_dt", "dt", "dealias", "courant", "tolerance"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"must be above 0, got {value}", where=f"simulator.{name}")
        if not (math.isfinite(self.growth) and self.growth > 1):
            raise InputError(f"must be above 1, got {self.growth}", where="simulator.growth")
        if self.dealias is not None and self.dealias > 1:
            raise InputError(f"must be at most 1, got {self.dealias}", where="simulator.dealias")
        if abs(self.substeps * self.step - self.save_dt) > 1e-6 * self.save_dt:
            raise InputError(
                f"{self.step} does not divide save_dt {self.save_dt}",
                where="simulator.dt",
                remedy=f"Use {self.save_dt / max(1, self.substeps):.9g}",
            )
        self._check_parameters()

    @property
    def row(self) -> Equation:
        """The equation's row of the table."""
        return EQUATIONS[self.equation]

    @property
    def values(self) -> dict[str, float]:
        """Value of every parameter for a request that does not set it."""
        return {name: p.default for name, p in self.row.parameters_in(self.dim).items()} | dict(self.parameters)

    @property
    def step(self) -> float:
        """The time step."""
        return self.save_dt if self.dt is None else self.dt

    @property
    def substeps(self) -> int:
        """Time steps between saved states."""
        return round(self.save_dt / self.step)

    @property
    def name(self) -> str:
        """Such as "exponax:burgers-1d"."""
        return f"exponax:{self.equation}-{self.dim}d"

    def _check_parameters(self) -> None:
        self.row.check(self.parameters, self.dim, "simulator.parameters")
        parameters = self.row.parameters_in(self.dim)
        free = sorted(n for n, p in parameters.items() if not p.whole and n not in self.parameters)
        for name in self.varied:
            if name not in free or self.varied.count(name) > 1:
                raise InputError(f"{name!r} cannot vary", where="simulator.varied", remedy=f"Choose from {free}")
        mode = self.values.get("forcing_mode", 0)
        if mode * 2 >= self.points:
            raise InputError(
                f"{self.points} points cannot hold a force of wavenumber {mode:g}",
                where="simulator.points",
                remedy="Use more than twice as many points as the wavenumber",
            )


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise InputError(f"no {name} {value!r}", where=f"simulator.{name}", remedy=f"Choose from {list(choices)}")
