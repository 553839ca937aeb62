"""Checks of the settings that spectral simulators of the atmosphere share."""

from __future__ import annotations

import math
from typing import Any, Protocol

from data.errors import InputError

#: Smallest and largest truncation that is allowed.
TRUNCATIONS = (5, 213)
DTYPES = ("float32", "float64")


class SpectralSettings(Protocol):
    """The settings that `check_common` checks; see `core.settings.CoreSettings`."""

    @property
    def truncation(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def step_minutes(self) -> float | None: ...
    @property
    def step(self) -> float: ...
    @property
    def days(self) -> float: ...
    @property
    def save_hours(self) -> float: ...
    @property
    def diffusion_hours(self) -> float: ...
    @property
    def diffusion_order(self) -> int: ...


def check_common(simulator: SpectralSettings) -> None:
    """Refuse an invalid truncation, precision, time step, time or diffusion.

    Raises:
        InputError: names the setting and its valid values.
    """
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
