"""A user's OpenFOAM case directory as a case with named parameters."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from data.errors import InputError
from data.spec import Coordinate, Variable
from simulators.fluids.openfoam.cases import CASES, CELL_CENTRES, centres, scalar
from simulators.fluids.openfoam.cells import AXES, patches_of_field
from simulators.fluids.openfoam.contents import without_comments
from simulators.fluids.openfoam.files import at_time, header, latest, read_field
from simulators.fluids.openfoam.function_objects import FunctionValue, function_values, scalar_outputs
from simulators.fluids.openfoam.results import CellResults, read_numbers
from simulators.fluids.openfoam.template import Template, match_placeholders

#: Largest distance of a cell's centre from its grid point, in widths of a cell.
OFF_GRID = 0.01


@dataclass(frozen=True)
class Directory:
    """A case whose files contain `{{name}}` in place of a parameter or constant.

    The files are read when the object is created, and their content is part of the simulator's identity. Only the
    commands are executed; dictionaries that compile or run code are refused (`foam_template`).

    Attributes:
        path: directory, or name of a packaged case.
        parameters: name -> units of the inputs, which are float64 numbers.
        commands: commands in order, such as blockMesh, snappyHexMesh and a solver, as strings or lists of arguments.
        fields: names of scalar or vector fields to read; the files of the same name in `0/` or `0.orig/` define their
            class and dimensions.
        constants: name -> number that is the same in every run, such as a count of cells.
        grid: axis -> (lower, upper, cells): the cells form this regular grid, and fields have its axes as dims. None:
            fields have a ragged dim `cell`, and `cell_centres` (m) is an output.
        times: saved times to read, s; None: the last one, without a dim `time`.
        mesh: axes of the flow, [x, y] or [x, y, z]: answers hold the cells as a mesh (`cells.cell_outputs`), on which
            `task=fluids/meshes` learns; None: they do not.
        patches: patches that are kinds of boundary of that mesh, of which a later one counts at a corner; None: those
            of the first field.
        scalars: name -> number of a function object, an output.

    Raises:
        InputError: no such case, a placeholder without a value, a value without a placeholder, code in a dictionary, or
            a field that the case does not describe.
    """

    path: str
    parameters: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]
    fields: tuple[str, ...]
    constants: Mapping[str, float] = field(default_factory=dict)
    grid: Mapping[str, tuple[float, float, int]] | None = None
    times: tuple[float, ...] | None = None
    mesh: tuple[str, ...] | None = None
    patches: tuple[str, ...] | None = None
    scalars: Mapping[str, FunctionValue] | None = None
    template: Template = field(init=False, repr=False)

    def __post_init__(self) -> None:
        folder = Path(self.path)
        if not folder.is_dir() and self.path in {p.name for p in CASES.iterdir()}:
            folder = CASES / self.path
        put = object.__setattr__
        split = (shlex.split(c) if isinstance(c, str) else c for c in self.commands)
        put(self, "commands", tuple(tuple(map(str, c)) for c in split))
        put(self, "fields", tuple(self.fields or ()))
        put(self, "times", None if self.times is None else tuple(map(float, self.times)))
        put(self, "parameters", dict(self.parameters or {}))
        put(self, "constants", dict(self.constants or {}))
        put(self, "mesh", None if self.mesh is None else tuple(self.mesh))
        put(self, "patches", None if self.patches is None else tuple(self.patches))
        put(self, "scalars", function_values(self.scalars))
        put(self, "grid", None if self.grid is None else {axis: _axis(axis, g) for axis, g in self.grid.items()})
        for name in self.constants:
            if name in self.parameters:
                raise InputError(f"{name} is both a parameter and a constant", where="simulator.case")
        if not self.commands or not all(self.commands):
            raise InputError("no command", where="simulator.case.commands", remedy="Such as [blockMesh, icoFoam]")
        put(self, "template", Template.read(folder))
        sources = dict.fromkeys(self.parameters, "parameters") | dict.fromkeys(self.constants, "constants")
        match_placeholders(self.template, sources, str(folder))
        for name in self.fields:
            self._described(name)
        if not self.fields and not self.scalars:
            raise InputError("nothing is read", where="simulator.case", remedy="Name fields, scalars, or both")
        if self.mesh is not None and self.grid is not None:
            raise InputError("a grid is set too", where="simulator.case.mesh", remedy="Set grid: null or mesh: null")
        # Built now, so that settings that do not fit are refused before anything runs.
        _ = self.cells

    @cached_property
    def cells(self) -> CellResults | None:
        """The reading of fields on a mesh of cells; None if no mesh is asked for."""
        if self.mesh is None:
            return None
        fields = {name: self._described(name) for name in self.fields}
        return CellResults(self.mesh, self._patches() if self.fields else (), fields, self.times)

    def _patches(self) -> tuple[str, ...]:
        if self.patches is not None:
            return self.patches
        place = self._place(self.fields[0])
        patches = patches_of_field(without_comments(self.template.text(place)))
        if patches is None:
            raise InputError(
                "the names of its patches cannot be told from its boundaryField",
                where=f"{self.path}/{place}",
                remedy="Name them: simulator.case.patches=[inlet,outlet,walls]",
            )
        return patches

    @property
    def label(self) -> str:
        """Name of the directory."""
        return Path(self.path).resolve().name

    @property
    def settings(self) -> dict[str, Any]:
        """All settings except the path; the simulator hashes the content of the files."""
        # What is not set is left out, so that it leaves the identity of cases that lack it.
        chosen: dict[str, Any] = {} if self.cells is None else {"mesh": self.mesh, "patches": self.cells.patches}
        if self.scalars:
            chosen["scalars"] = {name: asdict(value) for name, value in self.scalars.items()}
        return {
            **chosen,
            "parameters": dict(self.parameters),
            "commands": [list(c) for c in self.commands],
            "fields": list(self.fields),
            "constants": dict(self.constants),
            "grid": None if self.grid is None else {axis: list(g) for axis, g in self.grid.items()},
            "times": None if self.times is None else list(self.times),
        }

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The parameters."""
        return tuple(scalar(name, units, f"parameter {name}") for name, units in self.parameters.items())

    @cached_property
    def outputs(self) -> tuple[Variable, ...]:
        """The fields, with their mesh or the centres of their cells if these are not on a grid; and the scalars."""
        numbers = scalar_outputs(self.scalars or {})
        if self.cells is not None:
            return (*numbers, *self.cells.outputs)
        time = () if self.times is None else ("time",)
        variables = list(numbers)
        for name in self.fields:
            units, components = self._described(name)
            if self.grid is not None:
                dims = (*time, *(("channel",) if components > 1 else ()), *self.grid)
            else:
                dims = ("cell", *time, *(("axis",) if components > 1 else ()))
            variables.append(Variable(name, dims, units, "float32", f"field {name}"))
        if self.grid is None and self.fields:
            variables.append(Variable("cell_centres", ("cell", "axis"), "m", "float64", "centres of the cells"))
        return tuple(variables)

    @cached_property
    def coords(self) -> tuple[Coordinate, ...]:
        """Times, components along the grid's axes, and centres of its cells."""
        if self.cells is not None:
            return self.cells.coords
        if not self.fields:
            return ()
        coordinates = [] if self.times is None else [Coordinate("time", self.times, "s", "time")]
        if self.grid is not None:
            coordinates.append(Coordinate("channel", tuple(self.grid), "1", "component"))
            coordinates += [
                Coordinate(axis, centres(*g), "m", f"position along {axis}") for axis, g in self.grid.items()
            ]
        return tuple(coordinates)

    @property
    def boundary_conditions(self) -> str:
        """Reference to the files that define the boundary conditions."""
        return f"as in the files of the case {self.label}"

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """The commands of the user, and one that writes the centres of the cells where they are read."""
        return (*self.commands, CELL_CENTRES) if self.fields and self.mesh is None else self.commands

    def fill(self, values: Mapping[str, float]) -> dict[str, float | int | str]:
        """Values of the placeholders: parameters and constants."""
        return {**self.constants, **values}

    def read(self, folder: Path, values: Mapping[str, float]) -> dict[str, Any]:
        """The fields, on the grid or cell by cell, and the scalars."""
        numbers = read_numbers(self.scalars or {}, folder)
        return {**numbers, **self._read_fields(folder, values)} if self.fields else numbers

    def _read_fields(self, folder: Path, values: Mapping[str, float]) -> dict[str, Any]:
        start = float(self.template.start)
        last = latest(folder, after=start, timeless=self.times is None)
        if self.times is None:
            self._refuse_unwritten(folder, last, values)
        written = [last] if self.times is None else [at_time(folder, t) for t in self.times]
        if self.cells is not None:
            return self.cells.read(folder, written)
        where = read_field(last / "C").values
        read: dict[str, Any] = {}
        for name in self.fields:
            _, components = self._described(name)
            per_time = np.stack([read_field(path / name).over(len(where)) for path in written])
            if self.grid is None:
                array = np.moveaxis(per_time, 0, 1)[..., slice(None) if components > 1 else 0]
                read[name] = array[:, 0] if self.times is None else array
            else:
                array = _on_grid(self.grid, where, per_time)
                array = array if components > 1 else array[:, 0]
                read[name] = array[0] if self.times is None else array
        return read if self.grid is not None else {**read, "cell_centres": where}

    def _refuse_unwritten(self, folder: Path, last: Path, values: Mapping[str, float]) -> None:
        """Refuse fields that are unchanged from the initial fields of the case.

        Programs such as potentialFoam overwrite the initial field with their result.
        """
        for name in self.fields:
            place = f"{last.name}/{name}"
            began = self.template.filled(place, self.fill(values))
            if began is not None and (folder / place).is_file() and (folder / place).read_bytes() == began:
                raise InputError(
                    f"no command has written {name}: {place} is as the case begins with it",
                    where=place,
                    remedy="Check writeInterval in system/controlDict and the options of the commands "
                    "(potentialFoam writes p with -writep)",
                )

    def _described(self, name: str) -> tuple[str, int]:
        """Units and number of components of a field, from its file in the template."""
        place = self._place(name)
        kind, units, components = header(Path(self.path) / place, without_comments(self.template.text(place)))
        if components in (1, 3) and kind.startswith("vol"):
            return units, components
        raise InputError(f"{kind}: only scalars and vectors of cells are read", where=f"{self.path}/{place}")

    def _place(self, name: str) -> str:
        """The file of the template that describes a field."""
        for place in (f"{self.template.start}/{name}", f"0/{name}", f"0.orig/{name}"):
            if place in self.template.names():
                return place
        raise InputError(f"no file 0/{name} that describes the field", where=self.path)


def _axis(name: str, extent: Any) -> tuple[float, float, int]:
    where = f"simulator.case.grid.{name}"
    if name not in AXES:
        raise InputError(f"no axis {name!r}; there are {AXES}", where=where)
    if len(extent) != 3 or not float(extent[0]) < float(extent[1]) or int(extent[2]) != extent[2] or extent[2] < 1:
        raise InputError(f"must be [lower, upper, cells], got {list(extent)}", where=where)
    return float(extent[0]), float(extent[1]), int(extent[2])


def _on_grid(
    grid: Mapping[str, tuple[float, float, int]],
    where: Float64[np.ndarray, "cells 3"],
    values: Float64[np.ndarray, "times cells components"],
) -> Float64[np.ndarray, "times kept_components *grid"]:
    """Values of cells at their grid points; of a vector, the components along the grid's axes."""
    kept = values[..., [AXES.index(axis) for axis in grid]] if values.shape[-1] > 1 else values
    on_grid = np.empty((len(kept), kept.shape[-1], *(g[2] for g in grid.values())))
    index: tuple[Any, ...] = (slice(None), slice(None), *_places(grid, where))
    on_grid[index] = np.moveaxis(kept, 2, 1)
    return on_grid


def _places(
    grid: Mapping[str, tuple[float, float, int]], where: Float64[np.ndarray, "cells 3"]
) -> tuple[Int64[np.ndarray, " cells"], ...]:
    """Index of each cell along each axis of the grid.

    Raises:
        InputError: the cells are not those of the grid, one for one.
    """
    shape = tuple(g[2] for g in grid.values())
    places = []
    for axis, (lower, upper, cells) in grid.items():
        position = (where[:, AXES.index(axis)] - lower) / (upper - lower) * cells - 0.5
        index = np.rint(position).astype(np.int64)
        off = float(np.abs(position - index).max())
        if off > OFF_GRID or index.min() < 0 or index.max() >= cells:
            raise InputError(
                f"the cells of the mesh are not those of the grid along {axis}",
                where=f"simulator.case.grid.{axis}",
                remedy="Mend [lower, upper, cells], or leave grid out for a list of cells",
            )
        places.append(index)
    if len(where) != int(np.prod(shape)) or len(np.unique(np.ravel_multi_index(tuple(places), shape))) != len(where):
        raise InputError(f"{len(where)} cells on a grid of {shape}, one each expected", where="simulator.case.grid")
    return tuple(places)
