"""Small meshes with fields in closed form, in memory and as a store of a campaign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import Delaunay

from data.meshes.graphs import Mesh
from data.meshes.mesh_samples import MeshLayout, MeshSamples
from data.spec import Coordinate, Variable
from data.store.records import RecordStore

GEOMETRY = (
    Variable("nodes", ("node", "plane"), "m", "float64", "vertices"),
    Variable("elements", ("element", "corner"), "1", "int32", "triangles"),
    Variable("boundary", ("node",), "1", "int32", "kinds of vertices"),
)
FLOW = (
    Variable("velocity", ("node", "component"), "m s-1", "float32", "velocity"),
    Variable("pressure", ("node",), "m2 s-2", "float32", "pressure over density"),
)
DRAG = Variable("drag", (), "1", "float64", "drag coefficient")
SPEED = Variable("speed", (), "m s-1", "float64", "speed of the lid")
COORDS = (
    Coordinate("plane", ("x", "y"), "1", "coordinate"),
    Coordinate("component", ("x", "y"), "1", "direction"),
    Coordinate("corner", ("0", "1", "2"), "1", "corner"),
)


def channel(seed: int, count: int = 40, speed: float = 1.0) -> Mesh:
    """A channel 2 long and 1 high with shear flow: u = speed y, p = 2 - x, and a drag that is the speed."""
    random = np.random.default_rng(seed)
    nodes = random.uniform(size=(count, 2)) * [2.0, 1.0]
    flags = np.where(nodes[:, 1] < 0.15, 1, np.where(nodes[:, 0] > 1.7, 2, 0))
    fields = np.stack([speed * nodes[:, 1], np.zeros(count), 2.0 - nodes[:, 0]], axis=1)
    return Mesh(nodes, Delaunay(nodes).simplices, flags, np.array([speed]), fields, np.array([speed]))


def layout() -> MeshLayout:
    """The layout of `channel`."""

    def plain(*variables: Variable) -> tuple[Variable, ...]:
        return tuple(Variable(v.name, v.dims, v.units, v.dtype, v.long_name) for v in variables)

    axes = tuple(Coordinate(c.name, c.values, c.units, c.long_name) for c in COORDS)
    # In the order in which a reader encounters them.
    order = {"plane": 0, "corner": 1, "component": 2}
    axes = tuple(sorted(axes, key=lambda axis: order[axis.name]))
    return MeshLayout(plain(*GEOMETRY), plain(SPEED), plain(*FLOW), plain(DRAG), axes, 3, {})


def samples(count: int, first: int = 0) -> MeshSamples:
    """Channels of 30 to 50 vertices at speeds from 0.5 to 1.5."""
    speeds = np.random.default_rng(first).uniform(0.5, 1.5, count)
    meshes = tuple(channel(first + k, 30 + (7 * k) % 21, float(s)) for k, s in enumerate(speeds))
    return MeshSamples(layout(), meshes, "f" * 64, np.ones(count))


def write_store(path: Path, meshes: MeshSamples) -> Path:
    """Write the samples as a campaign stores them."""
    with RecordStore.create(
        path, (SPEED,), (*GEOMETRY, *FLOW, DRAG), provenance={"fingerprint": "f" * 64}, coords=COORDS
    ) as store:
        for k, mesh in enumerate(meshes.meshes):
            assert mesh.fields is not None
            values = {"speed": mesh.parameters[0], "nodes": mesh.nodes, "elements": mesh.elements}
            values |= {"boundary": mesh.flags, "drag": mesh.scalars[0]}
            values |= {"velocity": mesh.fields[:, :2], "pressure": mesh.fields[:, 2]}
            store.append(str(k), values, seconds=1.0, threads=1)
    return path
