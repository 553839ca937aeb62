"""Steady laminar flow on a mesh that is part of the request, by NGSolve at low order: a cheap rung for meshes.

The answer lies at the vertices of the request's own mesh, so that a surrogate of meshes can learn what is wrong with it
(`understudy train task=fluids/meshes on=ngsolve_mesh`). Sides are straight, so that a curved body is a polygon.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from data.errors import InputError
from data.spec import Coordinate, SimulationError, Spec, Variable, check
from simulators.fluids.ngsolve.flow import BOUNDARY_CONDITIONS, FIELDS, INPUTS, NUMBERS
from simulators.fluids.ngsolve.identity import NGSolveIdentity, check_that_it_is_installed, ngsolve_version
from simulators.fluids.ngsolve.solution import FLAGS, solve, triangle_mesh
from simulators.fluids.shapes import Channel

#: Largest distance between the sides of the mesh and of the channel, relative to the channel's length.
SAME_CHANNEL = 1e-6
_BY_NAME: Mapping[str, Variable] = {v.name: v for v in (*FIELDS, *NUMBERS, *INPUTS)}
GEOMETRY = tuple(_BY_NAME[name] for name in ("nodes", "elements", "boundary"))
OUTPUTS = tuple(_BY_NAME[name] for name in ("velocity", "pressure", "drag", "lift"))


@dataclass(frozen=True)
class NGSolveMeshFlow(NGSolveIdentity):
    """The steady flow in a channel around whatever the triangles of a request leave out.

    Requests have the variables of the answers of `NGSolveFlow` with `fields`: `nodes`, `elements` and `boundary`. Order
    1 solves for velocity and pressure in the same continuous, linear functions, which need a stabilisation (Tezduyar,
    Advances in Applied Mechanics 1991, 28, 1); from order 2 on, pressure is one order lower (Taylor, Hood 1973).

    Attributes:
        channel: geometry and inflow of the channel.
        radius: radius of the circle of equal area, m, which defines the Reynolds number and the coefficients.
        reynolds: Reynolds number (mean inflow x 2 radius / viscosity) if it is not varied.
        varied: numbers of each request beside the mesh: none, or reynolds.
        order: polynomial order of velocity, 1 or more.
        tolerance: residual relative to that of the empty channel's flow at which the solution counts as converged.
        max_steps: largest number of Newton steps at each Reynolds number of the continuation.
    """

    channel: Channel = field(default_factory=Channel)
    radius: float = 0.05
    reynolds: float = 20.0
    varied: tuple[str, ...] = ()
    order: int = 2
    tolerance: float = 1e-3
    max_steps: int = 12

    def __post_init__(self) -> None:
        object.__setattr__(self, "varied", tuple(self.varied))
        if self.varied not in {(), ("reynolds",)}:
            raise InputError(
                f"{list(self.varied)} cannot be varied", where="simulator.varied", remedy="Give [reynolds]"
            )
        if self.order < 1:
            raise InputError(f"order must be 1 or more, got {self.order}", where="simulator.order")
        for name in ("radius", "reynolds", "tolerance", "max_steps"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise InputError(f"{name} must be above 0, got {value}", where=f"simulator.{name}")

    @property
    def name(self) -> str:
        """Such as "ngsolve-mesh:P2/P1"."""
        return f"ngsolve-mesh:P{self.order}/P{max(self.order - 1, 1)}"

    @cached_property
    def spec(self) -> Spec:
        """The inputs are a mesh, and numbers; the outputs are the flow at the vertices and coefficients."""
        coords = (
            Coordinate("plane", ("x", "y"), "1", "coordinate"),
            Coordinate("component", ("x", "y"), "1", "direction of a velocity"),
            Coordinate("corner", ("0", "1", "2"), "1", "corner of a triangle"),
        )
        attrs = {"boundary_conditions": BOUNDARY_CONDITIONS, "solver": f"NGSolve {ngsolve_version()}, {self.name}"}
        return Spec((*GEOMETRY, *(_BY_NAME[name] for name in self.varied)), OUTPUTS, coords, attrs)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The flow on one mesh; see `simulators.adapter.Simulator`.

        Raises:
            SimulationError: `invalid_input`: the triangles are not a mesh of the channel, or the Reynolds number is not
                above 0; `not_converged`: Newton's method failed; `missing_component`: NGSolve is not installed.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        nodes = np.asarray(inputs["nodes"].values, np.float64)
        elements = np.asarray(inputs["elements"].values, np.int64)
        flags = np.asarray(inputs["boundary"].values, np.int64)
        reynolds = float(inputs["reynolds"]) if "reynolds" in self.varied else self.reynolds
        if not reynolds > 0:
            raise SimulationError("invalid_input", f"reynolds must be above 0, got {reynolds:g}")
        sides = _sides(nodes, elements, flags, self.channel)
        check_that_it_is_installed()
        mesh = triangle_mesh(nodes, elements, sides)
        diameter = 2 * self.radius
        viscosity = self.channel.mean * diameter / reynolds
        flow = solve(mesh, self.channel, viscosity, self.order, self.tolerance, self.max_steps, diameter)
        values, scale = flow.vertices(), 2 / (self.channel.mean**2 * diameter)
        outputs = {
            "velocity": values["velocity"],
            "pressure": values["pressure"],
            "drag": scale * flow.force[0],
            "lift": scale * flow.force[1],
        }
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise SimulationError("not_converged", f"{name} is not finite")
        log = {"steps": flow.steps, "residual": flow.residual, "unknowns": flow.unknowns, "triangles": len(elements)}
        return self.spec.answer(outputs).assign_attrs(log=json.dumps(log))


def _sides(
    nodes: Float[np.ndarray, "node plane"],
    elements: Int[np.ndarray, "element corner"],
    flags: Int[np.ndarray, " node"],
    channel: Channel,
) -> dict[str, Int[np.ndarray, "side end"]]:
    """The sides of triangles at each boundary, by its name, with the fluid on their left.

    A side lies at the first of inflow, outflow and body that one of its ends belongs to, otherwise at a wall, because a
    vertex at which two boundaries meet counts as wall.

    Raises:
        SimulationError: `invalid_input`.
    """
    problem = None
    if elements.size == 0 or elements.min() < 0 or elements.max() >= len(nodes):
        problem = f"its triangles name vertices beyond its {len(nodes):,}"
    elif flags.min() < 0 or flags.max() >= len(FLAGS):
        problem = f"boundary holds {flags.min()} to {flags.max()}, and not 0 to {len(FLAGS) - 1} ({', '.join(FLAGS)})"
    elif len(np.unique(elements)) != len(nodes):
        problem = "some of its vertices belong to no triangle"
    else:
        size = np.array([channel.length, channel.height])
        if np.abs(np.stack([nodes.min(0), nodes.max(0) - size])).max() > SAME_CHANNEL * channel.length:
            low, high = nodes.min(0), nodes.max(0)
            problem = (
                f"it reaches from ({low[0]:.6g}, {low[1]:.6g}) to ({high[0]:.6g}, {high[1]:.6g}) m, the channel from "
                f"(0, 0) to ({channel.length:g}, {channel.height:g}) m: give simulator.channel of the meshes"
            )
        first, second, third = (nodes[elements[:, k]] for k in range(3))
        if (((second - first)[:, ::-1] * (third - first) * (-1, 1)).sum(1) <= 0).any():
            problem = "its triangles are not all anticlockwise"
    if problem is None:
        sides = elements[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
        _, back, counts = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True, return_counts=True)
        outer = sides[counts[back] == 1]
        kinds = flags[outer]
        names = np.full(len(outer), FLAGS.index("wall"))
        for name in ("body", "outflow", "inflow"):
            names[(kinds == FLAGS.index(name)).any(axis=1)] = FLAGS.index(name)
        if counts.max() > 2:
            problem = "a side belongs to more than two triangles"
        elif (kinds == FLAGS.index("interior")).any():
            problem = "a vertex of its boundary is flagged as interior"
        elif lacking := [name for name in ("inflow", "outflow") if FLAGS.index(name) not in names]:
            problem = f"no side of it lies at the {lacking[0]}"
        else:
            return {name: outer[names == FLAGS.index(name)] for name in FLAGS[1:]}
    raise SimulationError("invalid_input", f"the mesh: {problem}")
