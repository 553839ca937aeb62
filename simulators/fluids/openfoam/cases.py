"""Interface of OpenFOAM cases, and the case of the lid-driven cavity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data.errors import InputError
from data.spec import Coordinate, SimulationError, Variable
from simulators.fluids.openfoam.files import at_time, read_field
from simulators.fluids.openfoam.template import Template

#: Folder of the packaged cases, one folder each.
CASES = Path(__file__).parent / "cases"
CELL_CENTRES = ("postProcess", "-func", "writeCellCentres", "-latestTime")


class Case(Protocol):
    """A template of files, the commands that run it, and the reading of its results.

    Attributes:
        label: short name, part of the simulator's name.
        settings: JSON-serialisable settings that change the answer.
        template: files of the case.
        steps: commands in order, each a program with its arguments.
        inputs, outputs, coords: as in `data.spec.Spec`; inputs are scalars.
        boundary_conditions: description of the boundary conditions.
    """

    @property
    def label(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]: ...

    @property
    def template(self) -> Template: ...

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]: ...

    @property
    def inputs(self) -> tuple[Variable, ...]: ...

    @property
    def outputs(self) -> tuple[Variable, ...]: ...

    @property
    def coords(self) -> tuple[Coordinate, ...]: ...

    @property
    def boundary_conditions(self) -> str: ...

    def fill(self, values: Mapping[str, float]) -> dict[str, float | int | str]:
        """Value of each placeholder; raises SimulationError `invalid_input` for parameters that describe no flow."""
        ...

    def read(self, folder: Path, values: Mapping[str, float]) -> dict[str, Any]:
        """Read the outputs of a case that has run; raises InputError if a file is missing or invalid."""
        ...


def scalar(name: str, units: str, long_name: str) -> Variable:
    """A float64 number of a request or an answer."""
    return Variable(name, (), units, "float64", long_name)


def centres(lower: float, upper: float, cells: int) -> tuple[float, ...]:
    """Centres of equal cells."""
    width = (upper - lower) / cells
    return tuple(lower + width * (i + 0.5) for i in range(cells))


def positive(values: Mapping[str, float], *names: str) -> None:
    """Refuse parameters that are not above 0.

    Raises:
        SimulationError: `invalid_input`.
    """
    for name in names:
        if not values[name] > 0:
            raise SimulationError("invalid_input", f"{name} must be above 0, got {values[name]:g}")


def at_least(where: str, settings: Mapping[str, tuple[float, float]]) -> None:
    """Refuse settings below their smallest sensible value.

    Args:
        where: configuration key of the case.
        settings: name -> (value, smallest valid value); a smallest value of 0 means that 0 itself is invalid.

    Raises:
        InputError: names the setting.
    """
    for name, (value, smallest) in settings.items():
        if smallest == 0 and not value > 0:
            raise InputError(f"{name} must be above 0, got {value:g}", where=where)
        if not value >= smallest:
            raise InputError(f"{name} must be at least {smallest:g}, got {value:g}", where=where)


@dataclass(frozen=True)
class Cavity:
    """Flow in a rectangular cavity, 1 m wide, whose lid starts to move at time 0; by icoFoam.

    Second order in space (central) and time (backward). The Reynolds number is lid velocity x width / viscosity.
    The benchmark of Ghia, Ghia, Shin, J. Comput. Phys. 1982, 48, 387.

    Attributes:
        cells_x, cells_y: cells of the mesh along x and y, which is also the grid of the answer.
        end: time of the last saved state, s.
        saves: number of saved times, equally spaced; the first is `end / saves`.
        courant: Courant number of the lid, which sets the time step.
        steady_tolerance: change of velocity over the last save, in lid velocities per `width / lid velocity`, below
            which the flow counts as steady.
    """

    cells_x: int = 32
    cells_y: int = 32
    end: float = 20.0
    saves: int = 10
    courant: float = 0.5
    steady_tolerance: float = 1e-4

    def __post_init__(self) -> None:
        at_least(
            "simulator.case",
            {
                "cells_x": (self.cells_x, 2),
                "cells_y": (self.cells_y, 2),
                "end": (self.end, 0),
                "saves": (self.saves, 1),
                "courant": (self.courant, 1e-6),
            },
        )

    @property
    def label(self) -> str:
        """Part of the simulator's name."""
        return "cavity"

    @property
    def settings(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @cached_property
    def template(self) -> Template:
        """The packaged case."""
        return Template.read(CASES / "cavity")

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """Commands that make the mesh and solve the flow."""
        return (("blockMesh",), ("icoFoam",))

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """Reynolds number, lid velocity and aspect ratio."""
        return (
            scalar("reynolds", "1", "Reynolds number of the lid and the width"),
            scalar("lid_velocity", "m s-1", "velocity of the lid"),
            scalar("aspect", "1", "height of the cavity over its width"),
        )

    @property
    def outputs(self) -> tuple[Variable, ...]:
        """Fields at the saved times."""
        return (
            Variable("velocity", ("time", "channel", "x", "y"), "m s-1", "float32", "velocity"),
            Variable("pressure", ("time", "x", "y"), "m2 s-2", "float32", "kinematic pressure, of mean 0"),
            Variable("steady", (), "1", "int32", "1 if the last save is steady, else 0"),
        )

    @cached_property
    def coords(self) -> tuple[Coordinate, ...]:
        """Saved times and centres of the cells."""
        saved = tuple(self.end * (i + 1) / self.saves for i in range(self.saves))
        return (
            Coordinate("time", saved, "s", "time since the lid started"),
            Coordinate("channel", ("x", "y"), "1", "component of the velocity"),
            Coordinate("x", centres(0, 1, self.cells_x), "m", "distance from the left wall"),
            # The height is a parameter: only the fraction of it is the same in every record.
            Coordinate("y", centres(0, 1, self.cells_y), "1", "distance from the floor over the height"),
        )

    @property
    def boundary_conditions(self) -> str:
        """Description of the boundary conditions."""
        return "no slip; the lid (top) moves along x at lid_velocity; normal pressure gradient 0"

    def fill(self, values: Mapping[str, float]) -> dict[str, float | int | str]:
        """Values of the placeholders: viscosity, size and time step."""
        positive(values, "reynolds", "lid_velocity", "aspect")
        speed, interval = values["lid_velocity"], self.end / self.saves
        finest = min(1 / self.cells_x, values["aspect"] / self.cells_y)
        steps = math.ceil(interval * speed / (self.courant * finest))
        return {
            "viscosity": speed / values["reynolds"],
            "lid_velocity": speed,
            "height": values["aspect"],
            "cells_x": self.cells_x,
            "cells_y": self.cells_y,
            "end": self.end,
            "step": interval / steps,
            "steps_between_saves": steps,
        }

    def read(self, folder: Path, values: Mapping[str, float]) -> dict[str, Any]:
        """Fields at the saved times, and whether the last is steady."""
        shape = (self.cells_y, self.cells_x)
        velocity, pressure = [], []
        for time in self.coords[0].values:
            written = at_time(folder, float(time))
            # blockMesh counts the cells of a block along x first.
            u = read_field(written / "U").over(shape[0] * shape[1])[:, :2].reshape(*shape, 2)
            p = read_field(written / "p").over(shape[0] * shape[1])[:, 0].reshape(shape)
            velocity.append(u.transpose(2, 1, 0))
            pressure.append(p.T - p.mean())
        before = velocity[-2] if self.saves > 1 else np.zeros_like(velocity[-1])
        turnovers = self.end / self.saves * values["lid_velocity"]
        rate = float(np.abs(velocity[-1] - before).max()) / values["lid_velocity"] / turnovers
        return {
            "velocity": np.stack(velocity),
            "pressure": np.stack(pressure),
            "steady": int(rate < self.steady_tolerance),
        }
