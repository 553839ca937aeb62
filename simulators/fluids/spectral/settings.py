"""Checks of the settings of a solver on a periodic box."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from simulators.fluids.spectral.equations import EQUATIONS

if TYPE_CHECKING:
    from simulators.fluids.spectral.exponax import Exponax


def check_settings(simulator: Exponax) -> None:
    """Refuse invalid settings.

    Raises:
        InputError: names the setting and its valid values.
    """
    _choice("equation", simulator.equation, tuple(EQUATIONS))
    _choice("dim", simulator.dim, simulator.row.dims)
    _choice("order", simulator.order, (1, 2, 3, 4))
    _choice("dtype", simulator.dtype, ("float32", "float64"))
    _choice("coefficients", simulator.coefficients, ("complex", "real"))
    for name, least in (("points", 4), ("steps", 1), ("refine", 0 if simulator.tolerance is None else 1)):
        if getattr(simulator, name) < least:
            raise InputError(f"must be at least {least}, got {getattr(simulator, name)}", where=f"simulator.{name}")
    for name in ("length", "save_dt", "dt", "dealias", "courant", "tolerance"):
        value = getattr(simulator, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"must be above 0, got {value}", where=f"simulator.{name}")
    if not (math.isfinite(simulator.growth) and simulator.growth > 1):
        raise InputError(f"must be above 1, got {simulator.growth}", where="simulator.growth")
    if simulator.dealias is not None and simulator.dealias > 1:
        raise InputError(f"must be at most 1, got {simulator.dealias}", where="simulator.dealias")
    if abs(simulator.substeps * simulator.step - simulator.save_dt) > 1e-6 * simulator.save_dt:
        raise InputError(
            f"{simulator.step} does not divide save_dt {simulator.save_dt}",
            where="simulator.dt",
            remedy=f"Use {simulator.save_dt / max(1, simulator.substeps):.9g}",
        )
    _check_parameters(simulator)


def _check_parameters(simulator: Exponax) -> None:
    simulator.row.check(simulator.parameters, simulator.dim, "simulator.parameters")
    parameters = simulator.row.parameters_in(simulator.dim)
    free = sorted(n for n, p in parameters.items() if not p.whole and n not in simulator.parameters)
    for name in simulator.varied:
        if name not in free or simulator.varied.count(name) > 1:
            raise InputError(f"{name!r} cannot vary", where="simulator.varied", remedy=f"Choose from {free}")
    mode = simulator.values.get("forcing_mode", 0)
    if mode * 2 >= simulator.points:
        raise InputError(
            f"{simulator.points} points cannot hold a force of wavenumber {mode:g}",
            where="simulator.points",
            remedy="Use more than twice as many points as the wavenumber",
        )


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise InputError(f"no {name} {value!r}", where=f"simulator.{name}", remedy=f"Choose from {list(choices)}")
