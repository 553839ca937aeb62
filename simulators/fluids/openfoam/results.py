"""What is read of a case that has run, whoever ran it: fields on its cells, and numbers of function objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.meshes.mesh_samples import NODE
from data.spec import Coordinate, Variable
from simulators.fluids.openfoam.cells import (
    AXES,
    COMPONENT,
    cell_coords,
    cell_outputs,
    check_axes,
    mesh_folder,
    read_cells,
)
from simulators.fluids.openfoam.files import read_field
from simulators.fluids.openfoam.function_objects import FunctionValue


@dataclass(frozen=True)
class CellResults:
    """Fields on the cells of a mesh of any shape, and the mesh.

    Attributes:
        axes: axes of the flow, such as ("x", "y"); of vectors, the components along them are read.
        patches: patches that are kinds of boundary, in the order of their numbers from 1.
        fields: name of a field -> (units, number of components).
        times: saved times to read, s; None: the last one.
    """

    axes: tuple[str, ...]
    patches: tuple[str, ...]
    fields: Mapping[str, tuple[str, int]]
    times: tuple[float, ...] | None

    def __post_init__(self) -> None:
        check_axes(self.axes)
        if not self.fields:
            raise InputError("no field is named", where="simulator.case.fields", remedy="Such as fields: [U, p]")

    @property
    def outputs(self) -> tuple[Variable, ...]:
        """The fields, along the cells, the times, and the components of vectors; and the mesh."""
        time = () if self.times is None else ("time",)
        fields = (
            Variable(name, (NODE, *time, *((COMPONENT,) if components > 1 else ())), units, "float32", f"field {name}")
            for name, (units, components) in self.fields.items()
        )
        return (*fields, *cell_outputs(self.patches))

    @property
    def coords(self) -> tuple[Coordinate, ...]:
        """Times and axes."""
        time = () if self.times is None else (Coordinate("time", self.times, "s", "time"),)
        return (*time, *cell_coords(self.axes))

    def read_mesh(self, case: Path, time: float | None = None) -> dict[str, Any]:
        """The mesh of a case at a time; None: at its last time."""
        return read_cells(mesh_folder(case, time), self.axes, self.patches)

    def read(self, case: Path, written: Sequence[Path]) -> dict[str, Any]:
        """The fields and the mesh of a case.

        Args:
            case: folder of the case.
            written: folder of each time, in the order of `times`; one if these are None.

        Raises:
            InputError: a file is missing or damaged, or the mesh is not the same at all times.
        """
        folders = {mesh_folder(case, float(path.name)) for path in written}
        if len(folders) > 1:
            raise InputError("the mesh differs between the times", where=str(case), remedy="Read one time")
        mesh = self.read_mesh(case, float(written[-1].name))
        count = len(mesh["nodes"])
        kept = [AXES.index(axis) for axis in self.axes]
        answer: dict[str, Any] = {}
        for name, (_, components) in self.fields.items():
            values = np.stack([read_field(path / name).over(count) for path in written], axis=1)
            values = values[:, :, kept] if components > 1 else values[:, :, 0]
            answer[name] = values[:, 0] if self.times is None else values
        return answer | mesh


def read_numbers(values: Mapping[str, FunctionValue], case: Path) -> dict[str, float]:
    """The numbers of function objects, by name of the output."""
    return {name: value.read(case) for name, value in values.items()}
