"""Steady incompressible flow around a body in a channel: mesh, Newton's method and forces, with NGSolve.

Taylor-Hood elements of any order on curved triangles (Taylor, Hood, Computers & Fluids 1973, 1, 73). Degrees of freedom
inside elements are eliminated before the sparse factorisation. Forces are the residual of the momentum equation
tested with functions that are 1 on the body, which converge at twice the rate of the surface integral of the stress
(Babuska, Miller, IJNME 1984, 20, 1085; John, Matthies, IJNMF 2001, 37, 885).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32

from data.spec import SimulationError
from simulators.fluids.shapes import Body, Channel

#: Number of points that the splines of the outline interpolate; for a circle the error is 1e-8 of the radius.
OUTLINE_POINTS = 256
#: If Newton's method fails from the empty channel's flow, it restarts at a Reynolds number of at most `DIRECT_REYNOLDS`
#: and increases it by the first factor of `APPROACH`; if that fails, by the second.
DIRECT_REYNOLDS = 50.0
APPROACH = (2.0, 1.3)
#: Tolerance of the residual at intermediate Reynolds numbers.
LOOSE = 1e-3
#: Growth of the residual that counts as divergence.
DIVERGED = 1e3
#: Largest factor by which `curvature` is increased to refine a mesh with folded triangles at sharp outlines.
REFINED = 4
#: Values of `Mesh.flags`.
FLAGS = ("interior", "wall", "inflow", "outflow", "body")


@dataclass(frozen=True)
class SteadyFlow:
    """A solution.

    Attributes:
        mesh: `ngsolve.Mesh` with boundaries "inflow", "outflow", "wall" and "body".
        velocity, pressure: `ngsolve.GridFunction`, m/s and m2/s2 (pressure over density).
        force: force on the body over density and depth, m3/s2.
        steps: number of Newton steps.
        residual: last residual relative to the first.
        unknowns: number of degrees of freedom.
    """

    mesh: Any
    velocity: Any
    pressure: Any
    force: tuple[float, float]
    steps: int
    residual: float
    unknowns: int

    def vertices(self) -> dict[str, Any]:
        """The result of `mesh_vertices`, and the solution at the vertices."""
        geometry = mesh_vertices(self.mesh)
        count = self.mesh.nv
        # The first degrees of freedom of a continuous space are its values at the vertices.
        velocity: Float32[np.ndarray, "N 2"] = np.stack(
            [c.vec.FV().NumPy()[:count] for c in self.velocity.components], -1
        ).astype(np.float32)
        pressure: Float32[np.ndarray, " N"] = self.pressure.vec.FV().NumPy()[:count].astype(np.float32)
        return {**geometry, "velocity": velocity, "pressure": pressure}


def mesh_vertices(mesh: Any) -> dict[str, Any]:
    """Vertices, triangles and flags (an index of `FLAGS`) of an `ngsolve.Mesh`."""
    # A copy: the array is a view of the mesh's memory, and does not keep it alive.
    nodes: Float64[np.ndarray, "N 2"] = np.array(mesh.ngmesh.Coordinates())[:, :2]
    table = mesh.ngmesh.Elements2D().NumPy()
    elements: Int32[np.ndarray, "E 3"] = table["nodes"][:, :3].astype(np.int32) - 1
    flags: Int32[np.ndarray, " N"] = np.zeros(mesh.nv, np.int32)
    # Where two boundaries meet, the later one overwrites: a corner counts as wall.
    for name in ("inflow", "outflow", "body", "wall"):
        for element in mesh.Boundaries(name).Elements():
            flags[[v.nr for v in element.vertices]] = FLAGS.index(name)
    return {"nodes": nodes, "elements": elements, "boundary": flags}


@dataclass(frozen=True)
class MeshSizes:
    """How fine a mesh is.

    Attributes:
        maxh: largest size of triangles, m.
        body_maxh: largest size of triangles on the body, m.
        curvature: ratio of the outline's radius of curvature to the largest size of triangles there.
        grading: allowed growth of size between neighbours, between 0 and 1; a smaller value gives a smoother and finer
            mesh.
        order: polynomial order of the curved sides.
    """

    maxh: float
    body_maxh: float
    curvature: float
    grading: float
    order: int


def channel_mesh(channel: Channel, body: Body | None, sizes: MeshSizes) -> Any:
    """Curved triangles that fill a channel around a body.

    Args:
        channel: channel whose sides are the boundaries "inflow", "outflow" and "wall".
        body: body that has passed `Body.check`; its outline is the boundary "body", with vertices at the foremost and
            rearmost points (`Body.facing` pi and 0). None: an empty channel.
        sizes: sizes of the triangles.

    Returns:
        An `ngsolve.Mesh`.

    Raises:
        SimulationError: `crashed`: the mesher failed, or a curved triangle is folded over.
    """
    import ngsolve as ng
    from netgen import occ
    from netgen.meshing import NgException

    face = occ.WorkPlane().Rectangle(channel.length, channel.height).Face()
    if body is not None:
        face = face - _solid(body)
    for edge in face.edges:
        edge.name = _side(edge.center, channel)
        if edge.name == "body":
            edge.maxh = sizes.body_maxh
    geometry = occ.OCCGeometry(face, dim=2)
    area = channel.length * channel.height - (0.0 if body is None else body.area)
    curvature = sizes.curvature
    while True:
        try:
            raw = geometry.GenerateMesh(maxh=sizes.maxh, grading=sizes.grading, curvaturesafety=curvature)
        except NgException as error:
            raise SimulationError("crashed", f"no mesh could be made: {' '.join(str(error).split())}") from error
        mesh = ng.Mesh(raw)
        mesh.Curve(sizes.order)
        if not (fault := _fault(mesh, area)):
            return mesh
        if curvature >= REFINED * sizes.curvature:
            raise SimulationError("crashed", f"{fault}; give a smaller body_maxh or a larger curvature")
        curvature *= 2


def triangle_mesh(
    nodes: Float[np.ndarray, "N 2"], elements: Int[np.ndarray, "E 3"], sides: Mapping[str, Int[np.ndarray, "S 2"]]
) -> Any:
    """An `ngsolve.Mesh` of straight triangles, whose vertices have the order of `nodes`.

    Args:
        nodes: vertices, m.
        elements: vertices of each triangle, anticlockwise, from 0.
        sides: name of a boundary -> the two vertices of each of its sides, with the triangle on their left.
    """
    import ngsolve as ng
    from netgen.meshing import Mesh

    raw = Mesh(dim=2)
    raw.AddPoints(np.column_stack([nodes, np.zeros(len(nodes))]))
    raw.AddElements(dim=2, index=raw.AddRegion("fluid", dim=2), data=np.asarray(elements, np.int32), base=0)
    for name, ends in sides.items():
        if len(ends):
            raw.AddElements(dim=1, index=raw.AddRegion(name, dim=1), data=np.asarray(ends, np.int32), base=0)
    return ng.Mesh(raw)


def _solid(body: Body) -> Any:
    from netgen import occ

    edges = []
    for begin, end in ((0.0, math.pi), (math.pi, 2 * math.pi)):
        first, last = body.facing(begin), body.facing(end)
        last += 2 * math.pi * (last <= first)
        points, tangents, _ = body.outline(np.linspace(first, last, OUTLINE_POINTS // 2 + 1))
        # With a tangent at every point the spline is local; with end tangents only it makes loops behind sharp ends.
        edges.append(
            occ.SplineInterpolation(
                [occ.gp_Pnt(*p, 0.0) for p in points.tolist()],
                tangents={i: occ.gp_Vec(*d, 0.0) for i, d in enumerate(tangents.tolist())},
            )
        )
    return occ.Face(occ.Wire(edges))


def _side(centre: Any, channel: Channel) -> str:
    small = 1e-9 * channel.length
    if abs(centre.x) < small:
        return "inflow"
    if abs(centre.x - channel.length) < small:
        return "outflow"
    return "wall" if min(abs(centre.y), abs(centre.y - channel.height)) < small else "body"


def _fault(mesh: Any, area: float) -> str:
    """The fault of a mesh with folded curved triangles, or that does not fill the fluid's area; "" if it is valid."""
    import ngsolve as ng

    determinant = ng.Det(ng.specialcf.JacobianMatrix(2))
    folded, filled = ng.Integrate(ng.CF((ng.IfPos(determinant, 0, 1), 1)), mesh, order=8)
    if folded == 0 and abs(filled / area - 1) < 1e-4:
        return ""
    return f"the mesh covers {filled:.6g} m2 of {area:.6g} m2, {folded:.3g} m2 of it folded over"


def solve(
    mesh: Any, channel: Channel, viscosity: float, order: int, tolerance: float, max_steps: int, size: float
) -> SteadyFlow:
    """Solve for the steady flow: no slip on walls and body, parabolic inflow, and nu du/dn = p n at the outflow.

    Args:
        mesh: mesh of `channel_mesh`.
        channel: channel that defines the inflow.
        viscosity: kinematic viscosity, m2/s.
        order: polynomial order of velocity; that of pressure is one lower, or 1 as well with order 1.
        tolerance: norm of the residual relative to the first one.
        max_steps: largest number of Newton steps at each Reynolds number.
        size: length in the Reynolds number, m.

    Raises:
        SimulationError: `not_converged`.
    """
    problem = _Problem(mesh, channel, order)
    reynolds = channel.mean * size / viscosity
    for factor in (math.inf, *APPROACH):
        problem.restart()
        levels = [reynolds]
        while math.isfinite(factor) and levels[0] > min(DIRECT_REYNOLDS, reynolds / 3):
            levels.insert(0, levels[0] / factor)
        for level in levels:
            goal = tolerance if level == reynolds else max(LOOSE, tolerance)
            if not problem.newton(channel.mean * size / level, goal, max_steps):
                break
        else:
            return problem.flow()
    raise SimulationError(
        "not_converged",
        f"Newton's method left {problem.left:.3g} of the residual at Reynolds number {level:.4g}, {goal:g} was "
        f"asked for; {problem.steps} steps were taken, at most {max_steps} each time",
        {"steps": problem.steps, "residual": problem.left, "reynolds": level},
    )


class _Problem:
    """The discrete equations and the state of Newton's method."""

    def __init__(self, mesh: Any, channel: Channel, order: int) -> None:
        import ngsolve as ng

        self.mesh, self.nu = mesh, ng.Parameter(1.0)
        V = ng.VectorH1(mesh, order=order, dirichlet="inflow|wall|body")
        self.X = X = V * ng.H1(mesh, order=max(order - 1, 1))
        (u, p), (v, q) = X.TnT()
        self.form = ng.BilinearForm(X, condense=True)
        # Two integrals, as the linearisation of the second one is more expensive.
        self.form += (self.nu * ng.InnerProduct(ng.Grad(u), ng.Grad(v)) - p * ng.div(v) - q * ng.div(u)) * ng.dx
        self.form += ng.InnerProduct(ng.Grad(u) * u, v) * ng.dx
        if order == 1:
            # Linear velocity and pressure lack inf-sup stability; the time scale is Tezduyar's (1991), equation 3.13,
            # with the channel's mean velocity. The second derivatives of the residual vanish in each triangle.
            h = ng.specialcf.mesh_size
            scale = 1 / ng.sqrt((2 * channel.mean / h) ** 2 + (4 * self.nu / h**2) ** 2)
            self.form += -scale * ng.InnerProduct(ng.Grad(p) + ng.Grad(u) * u, ng.Grad(q)) * ng.dx
        self.solution, self.start = ng.GridFunction(X), ng.GridFunction(X)
        # The initial guess is the empty channel's flow, set to 0 on the body: better than Stokes flow, and free.
        inflow = ng.CF((4 * channel.peak * ng.y * (channel.height - ng.y) / channel.height**2, 0))
        empty, velocity = ng.GridFunction(V), self.start.components[0]
        empty.Set(inflow)
        velocity.Set(inflow, definedon=mesh.Boundaries("inflow"))
        velocity.vec.data += ng.Projector(V.FreeDofs(), True) * empty.vec
        self.free = ng.Projector(X.FreeDofs(), True)
        self.residual, self.update = (self.solution.vec.CreateVector() for _ in range(2))
        self.inverse: Any = None
        self.steps, self.left = 0, math.inf

    def restart(self) -> None:
        """Reset the solution to the empty channel's flow."""
        self.solution.vec.data = self.start.vec
        self.first = 0.0

    def newton(self, viscosity: float, goal: float, max_steps: int) -> bool:
        """Iterate until the residual relative to the first is at most `goal`; whether it was reached."""
        import ngsolve as ng
        from netgen.meshing import NgException

        self.nu.Set(viscosity)
        for step in range(max_steps + 1):
            self.form.Apply(self.solution.vec, self.residual)
            self.update.data = self.free * self.residual
            norm = ng.Norm(self.update)
            self.first = self.first or norm
            self.left = norm / self.first
            if self.left <= goal:
                return True
            if step == max_steps or not self.left < DIVERGED:
                return False
            try:
                self.form.AssembleLinearization(self.solution.vec)
                if self.inverse is None:
                    self.inverse = self.form.mat.Inverse(self.X.FreeDofs(True), inverse="umfpack")
                else:
                    self.inverse.Update()
            except NgException:
                self.inverse = None
                return False
            # Static condensation: eliminate the inner unknowns, solve, and recover them.
            self.residual.data += self.form.harmonic_extension_trans * self.residual
            self.update.data = self.inverse * self.residual
            self.update.data += self.form.harmonic_extension * self.update
            self.update.data += self.form.inner_solve * self.residual
            self.solution.vec.data -= self.update
            self.steps += 1
        return False

    def flow(self) -> SteadyFlow:
        """The solution with the force, which is the residual tested with functions that are 1 on the body."""
        import ngsolve as ng

        force, ones = [0.0, 0.0], ng.GridFunction(self.X)
        if "body" in self.mesh.GetBoundaries():
            for axis, direction in enumerate(((1, 0), (0, 1))):
                ones.components[0].Set(ng.CF(direction), definedon=self.mesh.Boundaries("body"))
                force[axis] = -ng.InnerProduct(ones.vec, self.residual)
        velocity, pressure = self.solution.components
        return SteadyFlow(self.mesh, velocity, pressure, (force[0], force[1]), self.steps, self.left, self.X.ndof)
