"""Case of steady flow past an ellipse or a rectangle in a channel, solved by simpleFoam, with drag and lift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree

from data.errors import InputError
from data.spec import Coordinate, SimulationError, Variable
from simulators.fluids.openfoam.body_mesh import DEPTH, around
from simulators.fluids.openfoam.cases import CASES, CELL_CENTRES, at_least, centres, positive, scalar
from simulators.fluids.openfoam.files import Field, latest, read_field, read_table
from simulators.fluids.openfoam.template import Template

#: Smallest gap between the body and a wall, in heights of the channel.
GAP = 0.05


@dataclass(frozen=True)
class BodyInChannel:
    """A body in plane channel flow, with a parabolic inflow; steady, laminar, second order (central).

    The Reynolds number is mean velocity x body height / viscosity. Coefficients of drag and lift are force per depth
    over (1/2 density x mean velocity^2 x body height). With the defaults and a circle of 0.1 m at (0.2, 0.2) m it is
    the benchmark 2D-1 of Schäfer, Turek, Notes on Numerical Fluid Mechanics 1996, 52, 547.

    Attributes:
        shape: "ellipse" or "rectangle".
        length, height: size of the channel, m.
        mean_velocity: mean velocity of the inflow, m s-1.
        cells: cells along each of the four sides of the body; all other counts of cells follow from it.
        grid: points along x and y of the answer, to which the fields are interpolated linearly.
        tolerance: target for the initial residuals of velocity and pressure.
        max_iterations: iterations after which a flow counts as not converged.
    """

    shape: Literal["ellipse", "rectangle"] = "ellipse"
    length: float = 2.2
    height: float = 0.41
    mean_velocity: float = 0.2
    cells: int = 20
    grid: tuple[int, int] = (128, 32)
    tolerance: float = 1e-5
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        where = "simulator.case"
        if self.shape not in ("ellipse", "rectangle"):
            raise InputError(f"no shape {self.shape!r}", where=where, remedy="Choose ellipse or rectangle")
        if len(self.grid) != 2:
            raise InputError(f"grid must be [points along x, along y], got {list(self.grid)}", where=where)
        at_least(
            where,
            {
                "length": (self.length, 0),
                "height": (self.height, 0),
                "mean_velocity": (self.mean_velocity, 0),
                "cells": (self.cells, 4),
                "grid": (min(self.grid), 1),
                "tolerance": (self.tolerance, 1e-12),
                "max_iterations": (self.max_iterations, 1),
            },
        )

    @property
    def label(self) -> str:
        """Part of the simulator's name: the shape."""
        return self.shape

    @property
    def settings(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @cached_property
    def template(self) -> Template:
        """The packaged case."""
        return Template.read(CASES / "body")

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """Commands that make the mesh, solve the flow, and write the centres of the cells."""
        return (("blockMesh",), ("simpleFoam",), CELL_CENTRES)

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """Reynolds number, size and position of the body."""
        return (
            scalar("reynolds", "1", "Reynolds number of the mean velocity and the body's height"),
            scalar("body_width", "m", "extent of the body along the channel"),
            scalar("body_height", "m", "extent of the body across the channel"),
            scalar("body_x", "m", "distance of the body's centre from the inlet"),
            scalar("body_y", "m", "distance of the body's centre from the lower wall"),
        )

    @property
    def outputs(self) -> tuple[Variable, ...]:
        """Fields on the grid and the two coefficients."""
        return (
            Variable("velocity", ("channel", "x", "y"), "m s-1", "float32", "velocity, 0 in the body"),
            Variable(
                "pressure", ("x", "y"), "m2 s-2", "float32", "kinematic pressure, 0 at the outlet and in the body"
            ),
            Variable("solid", ("x", "y"), "1", "int32", "1 in the body, else 0"),
            scalar("drag_coefficient", "1", "coefficient of drag"),
            scalar("lift_coefficient", "1", "coefficient of lift"),
        )

    @cached_property
    def coords(self) -> tuple[Coordinate, ...]:
        """Centres of equal boxes that fill the channel."""
        return (
            Coordinate("channel", ("x", "y"), "1", "component of the velocity"),
            Coordinate("x", centres(0, self.length, self.grid[0]), "m", "distance from the inlet"),
            Coordinate("y", centres(0, self.height, self.grid[1]), "m", "distance from the lower wall"),
        )

    @property
    def boundary_conditions(self) -> str:
        """Description of the boundary conditions."""
        return (
            "parabolic inflow at x = 0; pressure 0 and normal velocity gradient 0 at the outlet; no slip on the walls "
            "and the body"
        )

    def fill(self, values: Mapping[str, float]) -> dict[str, float | int | str]:
        """Values of the placeholders: mesh, inflow and viscosity."""
        positive(values, "reynolds", "body_width", "body_height")
        half = (values["body_width"] / 2, values["body_height"] / 2)
        centre = (values["body_x"], values["body_y"])
        gaps = [
            centre[0] - half[0],
            self.length - centre[0] - half[0],
            centre[1] - half[1],
            self.height - centre[1] - half[1],
        ]
        if min(gaps) < GAP * self.height:
            raise SimulationError(
                "invalid_input",
                f"the body leaves a gap of {min(gaps):.3g} m to the edge of the channel, "
                f"{GAP * self.height:.3g} m at least expected",
            )
        mesh = around(self.shape, centre, half, (self.length, self.height), min(gaps), self.cells)
        # u(y) = 6 U y (H - y) / H^2, whose mean is U.
        first = 6 * self.mean_velocity / self.height
        return {
            "viscosity": self.mean_velocity * values["body_height"] / values["reynolds"],
            "mean_velocity": self.mean_velocity,
            "profile_1": first,
            "profile_2": -first / self.height,
            "body_height": values["body_height"],
            "body_x": centre[0],
            "body_y": centre[1],
            "frontal_area": values["body_height"] * DEPTH,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
            **mesh,
        }

    def inside(
        self, values: Mapping[str, float], x: Float64[np.ndarray, "*points"], y: Float64[np.ndarray, "*points"]
    ) -> Bool[np.ndarray, "*points"]:
        """Whether points (m) lie in the body that `values` describe."""
        across = 2 * np.abs(x - values["body_x"]) / values["body_width"]
        along = 2 * np.abs(y - values["body_y"]) / values["body_height"]
        return across**2 + along**2 < 1 if self.shape == "ellipse" else np.maximum(across, along) < 1

    def read(self, folder: Path, values: Mapping[str, float]) -> dict[str, Any]:
        """Fields interpolated from cells and boundaries; coefficients of the last iteration."""
        last = latest(folder)
        where, velocity, pressure = (read_field(last / name) for name in ("C", "U", "p"))
        points, u, p = _with_boundaries(where, velocity, pressure)
        x, y = np.meshgrid(*(np.array(self.coords[i].values, np.float64) for i in (1, 2)), indexing="ij")
        on_grid = LinearNDInterpolator(points, np.column_stack([u, p]), rescale=False)(x, y)
        solid = self.inside(values, x, y)
        on_grid[solid] = 0
        names, rows = read_table(folder / "postProcessing" / "coefficients" / "0" / "coefficient.dat")
        coefficients = dict(zip(names, rows[-1], strict=True))
        for name in ("Cd", "Cl"):
            if name not in coefficients:
                raise InputError(f"no column {name}; there are {list(names)}", where="coefficient.dat")
        return {
            "velocity": on_grid[..., :2].transpose(2, 0, 1),
            "pressure": on_grid[..., 2],
            "solid": solid,
            "drag_coefficient": coefficients["Cd"],
            "lift_coefficient": coefficients["Cl"],
        }


def _with_boundaries(
    where: Field, velocity: Field, pressure: Field
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"]]:
    """Points and values at cells and boundary faces, whose hull includes every point of the channel."""
    cells = where.values
    points, u, p = [cells], [velocity.over(len(cells))], [pressure.over(len(cells))[:, 0]]
    nearest = cKDTree(cells[:, :2])
    for name, faces in where.patches.items():
        # Patches without values: velocity is 0 on walls and body; otherwise the normal gradient is 0.
        neighbours = nearest.query(faces[:, :2])[1]
        free = u[0][neighbours] if name == "outlet" else np.zeros((1, 3))
        points.append(faces)
        u.append(np.broadcast_to(velocity.patches.get(name, free), faces.shape))
        stated = pressure.patches.get(name)
        p.append(p[0][neighbours] if stated is None else np.broadcast_to(stated[:, 0], len(faces)))
    # Face centres end half a width before the corners of the channel, where the velocity is 0 as on the walls.
    low, high = np.concatenate(points).min(0), np.concatenate(points).max(0)
    corners = np.array([[x, y, 0] for x in (low[0], high[0]) for y in (low[1], high[1])])
    points.append(corners)
    u.append(np.zeros((4, 3)))
    p.append(p[0][nearest.query(corners[:, :2])[1]])
    return np.concatenate(points)[:, :2], np.concatenate(u)[:, :2], np.concatenate(p)
