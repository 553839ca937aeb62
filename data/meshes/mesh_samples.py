"""Flows on unstructured meshes: the samples that a mesh network learns from.

A sample is one record of a campaign whose answer holds its mesh: vertices (`nodes`), triangles (`elements`), kinds of
vertices (`boundary`, 0 inside), fields at the vertices, and numbers of the whole. A mesh of cells has their centres as
`nodes`, the two cells of each inner face as `elements`, and `volumes`. Every sample has a mesh of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from data.costs import core_seconds
from data.errors import InputError
from data.fields.physics import refuse_other_boundary
from data.grouping import one_key, repeats_note
from data.meshes.graphs import Mesh
from data.molecules.tally import kind_of_reason
from data.reading_summary import Reading
from data.spec import Coordinate, Variable
from data.store.records import RecordStore

#: The variables that make a mesh, in the order of `Mesh`.
NODES, ELEMENTS, FLAGS = "nodes", "elements", "boundary"
GEOMETRY = (NODES, ELEMENTS, FLAGS)
#: Volumes of cells, by which errors are weighted; no input of a surrogate.
VOLUMES = "volumes"
#: First dim of variables that are given at every vertex.
NODE = "node"


@dataclass(frozen=True)
class MeshLayout:
    """Describes the arrays of a sample.

    Attributes:
        geometry: `nodes`, `elements` and `boundary`.
        parameters: numbers that are given with the mesh, such as a Reynolds number.
        fields: answers along node, and dims of fixed length, such as components and times.
        scalars: answers that are numbers.
        axes: dims of fixed length.
        kinds: number of kinds of vertices, the inside among them.
        attrs: boundary conditions, solver and equation, as far as the source names them.
    """

    geometry: tuple[Variable, ...]
    parameters: tuple[Variable, ...]
    fields: tuple[Variable, ...]
    scalars: tuple[Variable, ...]
    axes: tuple[Coordinate, ...]
    kinds: int
    attrs: Mapping[str, str]

    def __post_init__(self) -> None:
        if tuple(v.name for v in self.geometry) != (NODES, ELEMENTS, FLAGS):
            raise ValueError(f"geometry must be {NODES}, {ELEMENTS} and {FLAGS}")
        sizes = {a.name: len(a.values) for a in self.axes}
        wrong = [v.name for v in self.fields if not v.dims or any(d not in sizes for d in v.dims[1:])]
        if wrong or any(v.dims for v in (*self.parameters, *self.scalars)):
            raise ValueError(f"fields must lie along nodes and the axes, others be numbers; {wrong} do not")
        if self.kinds < 0:
            raise ValueError(f"kinds must be 0 or more, got {self.kinds}")

    @property
    def plane(self) -> int:
        """Number of coordinates of a node."""
        return len(next(a.values for a in self.axes if a.name == self.geometry[0].dims[1]))

    def width(self, variable: Variable) -> int:
        """Channels of a field."""
        sizes = {a.name: len(a.values) for a in self.axes}
        return int(np.prod([sizes[d] for d in variable.dims[1:]], dtype=int))

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of each column of the fields, such as "velocity_x"."""
        names = []
        values = {a.name: [v if isinstance(v, str) else f"{v:g}" for v in a.values] for a in self.axes}
        for variable in self.fields:
            labels = product(*(values[d] for d in variable.dims[1:]))
            names += ["_".join((variable.name, *label)) for label in labels]
        return tuple(names)

    def flat(self, record: Mapping[str, Any]) -> Float[np.ndarray, "node channel"]:
        """Fields by name as columns."""
        return np.concatenate([np.asarray(record[v.name]).reshape(-1, self.width(v)) for v in self.fields], axis=1)

    def named(self, columns: Float[np.ndarray, "node channel"]) -> dict[str, np.ndarray]:
        """The inverse of `flat`."""
        arrays, start = {}, 0
        sizes = {a.name: len(a.values) for a in self.axes}
        for variable in self.fields:
            width = self.width(variable)
            part = columns[:, start : start + width]
            arrays[variable.name] = part.reshape(len(part), *(sizes[d] for d in variable.dims[1:]))
            start += width
        return arrays

    @property
    def question(self) -> tuple[Any, ...]:
        """What has to agree for two layouts to ask the same: names, dims and units of all variables, and their axes."""
        groups = (self.geometry, self.parameters, self.fields, self.scalars)
        axes = tuple((a.name, a.values) for a in self.axes)
        return (*(tuple((v.name, v.dims, v.units) for v in group) for group in groups), axes)


@dataclass(frozen=True)
class MeshSamples:
    """Samples of one layout, in its units.

    Attributes:
        layout: description of the arrays.
        meshes: with `parameters`, `fields` and `scalars` as the layout names them.
        fingerprint: identity of the simulator.
        seconds: core-seconds that each sample took.
        failed: records of the store that hold no sample.
        failed_seconds: core-seconds that those took.
        reading: summary of what was read from their store; None if they were not read.
        cheaper_costs: what the answers of a cheaper method, `extra` of the meshes, have cost, as metrics.
    """

    layout: MeshLayout
    meshes: tuple[Mesh, ...]
    fingerprint: str
    seconds: Float[np.ndarray, " sample"]
    failed: int = 0
    failed_seconds: float = 0.0
    reading: Reading | None = None
    cheaper_costs: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.meshes)

    def take(self, rows: Int[np.ndarray, " n"]) -> MeshSamples:
        """Some of the samples."""
        return replace(self, meshes=tuple(self.meshes[i] for i in rows), seconds=self.seconds[rows])

    def input_keys(self) -> list[str]:
        """A key for each sample: the same for the same mesh and parameters."""
        return [mesh_key(mesh) for mesh in self.meshes]

    def content(self) -> str:
        """SHA-256 (hex) of the arrays."""
        digest = hashlib.sha256()
        for mesh in self.meshes:
            fields = np.zeros((len(mesh.nodes), 0)) if mesh.fields is None else mesh.fields
            for array in (mesh.nodes, mesh.elements, mesh.flags, mesh.parameters, fields, mesh.scalars):
                digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()

    def refuse_other(self, layout: MeshLayout, where: str) -> None:
        """Refuse samples that do not answer the question that a layout asks.

        Raises:
            InputError: names, dims, components or units differ, or the boundary, or there are kinds of vertices that
                it does not know.
        """
        if self.layout.question != layout.question:
            present, needed = (str([v for group in x.question for v in group]) for x in (self.layout, layout))
            raise InputError(
                f"its variables are {present}, {needed} are needed",
                where=where,
                remedy="Give samples of the same simulator as those of the training",
            )
        refuse_other_boundary(self.layout.attrs, layout.attrs, where)
        if self.layout.kinds > layout.kinds:
            raise InputError(
                f"{FLAGS} reaches {self.layout.kinds - 1}, up to {layout.kinds - 1} has been learned",
                where=where,
                remedy="Train on meshes that hold every kind of boundary",
            )


def mesh_key(mesh: Mesh) -> str:
    """A key of a mesh with its parameters, by which equal inputs are told."""
    return one_key(mesh.nodes, mesh.elements, mesh.flags, mesh.parameters)


def read_meshes(
    path: Path,
    fields: Sequence[str] | None = None,
    scalars: Sequence[str] = (),
    parameters: Sequence[str] | None = (),
) -> tuple[MeshSamples, list[tuple[int, str]]]:
    """Samples from a store that `understudy simulate` made.

    Args:
        path: of the store.
        fields: outputs at the vertices to learn; None for all of floating point.
        scalars: outputs of the whole to learn.
        parameters: inputs that the mesh does not show; None for all inputs that are numbers.

    Returns:
        The samples, and (number, reason) for each record that was left out.

    Raises:
        InputError: the path is not a store or holds no meshes, a variable is missing or of another kind, or no sample
            is left.
    """
    where = str(path)
    if not (path / "store.json").is_file():
        raise InputError(
            "is no store of a campaign",
            where=where,
            remedy="Give one that `understudy simulate` made, or meshes of VTK (.vtu, .vtp, .pvd, or a folder of them)",
        )
    with RecordStore.open(path) as store:
        variables = [*store.inputs, *store.outputs]
        if lacking := [name for name in GEOMETRY if name not in variables]:
            raise InputError(
                f"its answers hold no mesh: no {' and no '.join(lacking)}",
                where=where,
                remedy="Make it with simulator.fields=true",
            )
        dataset = store.dataset()
        if parameters is None:
            parameters = [n for n in store.inputs if dataset[n].dims == ("sample",) and dataset[n].dtype.kind in "fiu"]
        records = [values for _, values in store.records(None)]
        fingerprint = str(store.attrs.get("fingerprint", ""))
    layout = _layout(dataset, fields, scalars, parameters, where)
    meshes, seconds, bad, lost = [], [], [], 0.0
    costs = core_seconds(dataset, where)
    for number, values in enumerate(records):
        cost = float(costs[number])
        reason = str(values["status"])
        if reason == "ok":
            try:
                meshes.append(_mesh(values, layout))
            except InputError as error:
                reason = str(error)
            else:
                seconds.append(cost)
                continue
        bad.append((number, reason))
        lost += cost
    if not meshes:
        raise InputError("no sample of it can be used", where=where, remedy="See rejects.csv in the run directory")
    kinds = 1 + max(int(mesh.flags.max()) for mesh in meshes)
    samples = MeshSamples(
        replace(layout, kinds=kinds),
        tuple(meshes),
        fingerprint,
        np.array(seconds),
        len(bad),
        float(np.nan_to_num(lost)),
    )
    samples = samples if fingerprint else replace(samples, fingerprint=samples.content())
    return replace(samples, reading=_reading(samples, dataset[variables], [r for _, r in bad], where)), bad


def _reading(samples: MeshSamples, dataset: xr.Dataset, reasons: Sequence[str], where: str) -> Reading:
    """How the meshes of a store, their boundaries and what lies on them were understood."""
    layout, meshes = samples.layout, samples.meshes
    nodes, elements, flags = layout.geometry
    cells = meshes[0].elements.shape[1] == 2
    at = "in the cells" if cells else "at the vertices"
    ends = np.concatenate([m.nodes for m in meshes])
    low, high = ends.min(axis=0), ends.max(axis=0)
    kinds = np.unique(np.concatenate([np.unique(m.flags) for m in meshes]))
    meanings = {
        nodes.name: f"{nodes.units}, "
        + ", ".join(f"{axis} {_span([low[k], high[k]])}" for k, axis in enumerate("xyz"[: len(low)]))
        + f"; {_span([len(m.nodes) for m in meshes])} a mesh",
        elements.name: f"{'pairs of neighbouring cells' if cells else 'triangles'}, "
        f"{_span([len(m.elements) for m in meshes])} a mesh",
        flags.name: f"kinds {', '.join(map(str, kinds))} occur, of {flags.long_name}",
    }
    start = 0
    for variable in layout.fields:
        columns = slice(start, start := start + layout.width(variable))
        values = [
            v for m in meshes if m.fields is not None for v in (m.fields[:, columns].min(), m.fields[:, columns].max())
        ]
        meanings[variable.name] = f"{variable.units}, learned {at}, {_span(values)}"
    for c, variable in enumerate(layout.scalars):
        meanings[variable.name] = f"{variable.units}, learned number, {_span([m.scalars[c] for m in meshes])}"
    for c, variable in enumerate(layout.parameters):
        meanings[variable.name] = (
            f"{variable.units}, number that decides it, {_span([m.parameters[c] for m in meshes])}"
        )
    return Reading(
        source=where,
        format="store of a campaign, meshes",
        unit="samples",
        total=len(meshes) + len(reasons),
        used=len(meshes),
        quantities=meanings,
        left_out=Counter(map(kind_of_reason, reasons)),
        unused=_unused(dataset, {**meanings, VOLUMES: ""}),
        assumed=repeats_note(samples.input_keys()),
    )


def _unused(dataset: xr.Dataset, used: Container[str]) -> dict[str, str]:
    """Other variables of a store at the vertices or as numbers: name -> what it is and which key uses it."""
    unused = {}
    for name in map(str, dataset.data_vars):
        if name in used or dataset[name].dtype.kind not in "fiu":
            continue
        units = dataset[name].attrs.get("units", "1")
        if dataset[name].dims[:1] == (NODE,):
            unused[name] = f"known at the vertices, {units}; data.fields takes it"
        elif dataset[name].dims == ("sample",):
            unused[name] = f"a number, {units}; data.scalars or data.parameters takes it"
    return unused


def _span(values: Sequence[float]) -> str:
    """The range of some numbers as text."""
    low, high = float(min(values)), float(max(values))
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


def _mesh(values: Mapping[str, Any], layout: MeshLayout) -> Mesh:
    """One sample.

    Raises:
        InputError: it is no mesh, or a value is not finite.
    """
    for variable in (*layout.parameters, *layout.fields, *layout.scalars):
        if not np.isfinite(values[variable.name]).all():
            raise InputError(f"{variable.name} is not finite")
    return Mesh(
        np.asarray(values[NODES], np.float64),
        np.asarray(values[ELEMENTS], np.int64),
        np.asarray(values[FLAGS], np.int64),
        np.array([values[v.name] for v in layout.parameters], np.float64),
        layout.flat(values) if layout.fields else None,
        np.array([values[v.name] for v in layout.scalars], np.float64),
        np.asarray(values[VOLUMES], np.float64) if VOLUMES in values else None,
    )


def _layout(
    dataset: xr.Dataset, fields: Sequence[str] | None, scalars: Sequence[str], parameters: Sequence[str], where: str
) -> MeshLayout:
    """What the variables are; the number of kinds is not known yet.

    Raises:
        InputError: a variable is missing, is no field or no number, or nothing is to be learned.
    """
    # Ragged dims have the records of all samples behind one another, without a dim `sample`.
    dims_of = {str(n): tuple(str(d) for d in dataset[n].dims if d != "sample") for n in dataset.data_vars}
    if fields is None:
        fields = [
            n
            for n, dims in dims_of.items()
            if dims[:1] == (NODE,) and dataset[n].dtype.kind == "f" and n not in (NODES, VOLUMES)
        ]
    for name in (*fields, *scalars, *parameters):
        if name not in dims_of:
            raise InputError(f"no variable {name} in it", where=where, remedy=f"It has {', '.join(dims_of)}")
    for name in fields:
        if dims_of[name][:1] != (NODE,) or any(d not in dataset.coords for d in dims_of[name][1:]):
            raise InputError(
                f"{name} is not known at the vertices", where=where, remedy="Name it in data.scalars if it is a number"
            )
    if wrong := [n for n in (*scalars, *parameters) if dims_of[n]]:
        raise InputError(f"{wrong[0]} is no number", where=where, remedy="Name it in data.fields if it is a field")
    if not fields and not scalars:
        raise InputError("nothing to learn is named", where=where, remedy="Give data.fields or data.scalars")
    dims = dict.fromkeys(d for n in (*GEOMETRY, *fields) for d in dims_of[n][1:])
    axes = []
    for d in dims:
        axis = dataset[d]
        axes.append(
            Coordinate(d, tuple(axis.values.tolist()), axis.attrs.get("units", "1"), axis.attrs.get("long_name", d))
        )

    def variables(names: Sequence[str]) -> tuple[Variable, ...]:
        return tuple(
            Variable(
                n,
                dims_of[n],
                dataset[n].attrs.get("units", "1"),
                str(dataset[n].dtype),
                dataset[n].attrs.get("long_name", n),
            )
            for n in names
        )

    attrs = {str(k): str(v) for k, v in dataset.attrs.items() if k in ("boundary_conditions", "solver", "equation")}
    return MeshLayout(
        variables(GEOMETRY), variables(parameters), variables(fields), variables(scalars), tuple(axes), 0, attrs
    )
