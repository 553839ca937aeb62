"""Grids and time steps for a spectral truncation, and checks of the settings of dynamical cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.extras import install_command
from data.spec import SimulationError
from data.sphere.states import WeatherGrid

if TYPE_CHECKING:
    from simulators.atmosphere.core.dycore import DynamicalCore
    from simulators.atmosphere.shallow_water.simulator import ShallowWater

INSTALL = f"Install it with `{install_command('weather')}`"
#: Time steps that divide an hour, in minutes.
STEPS = (60.0, 30.0, 20.0, 15.0, 12.0, 10.0, 7.5, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
#: Upper limit of minutes x truncation for the default step: 30 min at T21, 15 min at T42.
STEP_PRODUCT = 645.0
#: Smallest and largest truncation that is allowed.
TRUNCATIONS = (5, 213)
FORCINGS = ("held_suarez", "none")
STARTS = ("rest", "equilibrium", "state")
DTYPES = ("float32", "float64")


def gaussian_rows(truncation: int) -> int:
    """Number of latitudes of the smallest Gaussian grid on which products of two fields are free of aliasing.

    The grid has twice as many longitudes as latitudes, more than 3 x truncation: 32 latitudes for T21, 64 for T42.
    """
    return 2 * math.ceil((3 * truncation + 1) / 4)


def truncation_of(rows: int) -> int:
    """The largest truncation that a Gaussian grid with this many latitudes resolves without aliasing."""
    return (2 * rows - 1) // 3


def gaussian_grid(truncation: int) -> WeatherGrid:
    """The Gaussian grid of a truncation, from south to north and from 0 degrees east."""
    rows = gaussian_rows(truncation)
    sines, _ = np.polynomial.legendre.leggauss(rows)
    return WeatherGrid(
        tuple(float(v) for v in np.rad2deg(np.arcsin(sines))), tuple(180.0 * i / rows for i in range(2 * rows))
    )


def default_step(truncation: int) -> float:
    """Time step (min) at which the core is stable for winds of the atmosphere; it divides an hour."""
    return next(step for step in STEPS if step * truncation <= STEP_PRODUCT or step == STEPS[-1])


def layer_boundaries(layers: int, boundaries: Sequence[float]) -> Float[np.ndarray, " edge"]:
    """Sigma (pressure over surface pressure) at the edges of the layers, from 0 at the top to 1 at the ground."""
    return np.asarray(boundaries, float) if boundaries else np.linspace(0.0, 1.0, layers + 1)


def check_core(core: DynamicalCore) -> None:
    """Refuse invalid settings of a dynamical core.

    Raises:
        InputError: names the setting and its valid values.
    """
    _check_common(core)
    choice("forcing", core.forcing, FORCINGS)
    choice("start", core.start, STARTS)
    if core.layers < 2:
        raise InputError(f"must be at least 2, got {core.layers}", where="simulator.layers")
    if edges := core.boundaries:
        if len(edges) < 3 or edges[0] != 0 or edges[-1] != 1 or not (np.diff(edges) > 0).all():
            raise InputError(
                f"must ascend from 0 to 1 over two layers or more, got {list(edges)}", where="simulator.boundaries"
            )
        if core.layers != len(edges) - 1:
            raise InputError(
                f"{len(edges)} boundaries are of {len(edges) - 1} layers, not of {core.layers}",
                where="simulator.layers",
                remedy=f"Use {len(edges) - 1}",
            )
    if core.levels and not (core.levels[0] > 0 and (np.diff(core.levels) > 0).all()):
        raise InputError(f"must ascend from above 0 hPa, got {list(core.levels)}", where="simulator.levels")
    for name in ("perturbation_k", "spin_up_days"):
        not_negative(name, getattr(core, name))
    positive("mass_tolerance", core.mass_tolerance)
    whole_steps("spin_up_days", core.spin_up_days * 24 * 60, core.step)


def check_shallow_water(simulator: ShallowWater) -> None:
    """Refuse invalid settings of the shallow-water equations.

    Raises:
        InputError: names the setting and its valid values.
    """
    _check_common(simulator)
    choice("start", simulator.start, ("jet", "state"))
    positive("depth_m", simulator.depth_m)


def _check_common(simulator: DynamicalCore | ShallowWater) -> None:
    low, high = TRUNCATIONS
    if not low <= simulator.truncation <= high:
        raise InputError(f"must be {low} to {high}, got {simulator.truncation}", where="simulator.truncation")
    choice("dtype", simulator.dtype, DTYPES)
    if simulator.step_minutes is not None:
        positive("step_minutes", simulator.step_minutes)
    for name in ("days", "save_hours", "diffusion_hours"):
        positive(name, getattr(simulator, name))
    if simulator.diffusion_order < 1:
        raise InputError(f"must be at least 1, got {simulator.diffusion_order}", where="simulator.diffusion_order")
    whole_steps("save_hours", simulator.save_hours * 60, simulator.step)
    if not whole(simulator.days * 24 / simulator.save_hours):
        raise InputError(
            f"save_hours {simulator.save_hours:g} does not divide {simulator.days:g} days", where="simulator.save_hours"
        )


def whole(value: float) -> bool:
    """Whether a number is a whole number up to rounding errors."""
    return abs(value - round(value)) < 1e-6 * max(1.0, abs(value))


def whole_steps(name: str, minutes: float, step: float) -> None:
    """Refuse a time that is not a whole number of steps.

    Raises:
        InputError: names the setting.
    """
    if not whole(minutes / step):
        raise InputError(
            f"{minutes:g} min are no whole number of steps of {step:g} min",
            where=f"simulator.{name}",
            remedy="Change it, or set simulator.step_minutes",
        )


def positive(name: str, value: float) -> None:
    """Raise InputError unless the value of the setting is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"must be above 0, got {value}", where=f"simulator.{name}")


def not_negative(name: str, value: float) -> None:
    """Raise InputError unless the value of the setting is finite and at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"must be 0 or more, got {value}", where=f"simulator.{name}")


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless the value of the setting is one of `allowed`."""
    if value not in allowed:
        raise InputError(f"no {name} {value!r}", where=f"simulator.{name}", remedy=f"Choose from {list(allowed)}")


def dinosaur_version() -> str:
    """Version of the installed dinosaur; raises SimulationError `missing_component` if there is none."""
    try:
        return version("dinosaur")
    except PackageNotFoundError as error:
        raise SimulationError("missing_component", f"dinosaur is not installed. {INSTALL}") from error
