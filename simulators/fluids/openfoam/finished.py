"""Finished OpenFOAM cases as a simulator: their results are read, and nothing is run.

The cases are the folders of one folder. Their parameters stand in a table, or are read from their dictionaries.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.formats.headers import DELIMITERS, choose_delimiter, header_names
from data.formats.rows import finite
from data.reading_summary import Reading
from data.spec import Coordinate, SimulationError, Spec, Variable, check, content_hash
from simulators.fluids.openfoam.cases import scalar
from simulators.fluids.openfoam.cells import check_axes, mesh_folder
from simulators.fluids.openfoam.contents import read_contents
from simulators.fluids.openfoam.dictionary import number_at
from simulators.fluids.openfoam.files import at_time, header, latest, times
from simulators.fluids.openfoam.function_objects import FunctionValue, function_values, scalar_outputs
from simulators.fluids.openfoam.poly_mesh import read_poly_mesh
from simulators.fluids.openfoam.results import CellResults, read_numbers

#: Column of the table with the name of the folder of each case.
CASE = "case"
_TIME_USED = re.compile(r"^ExecutionTime = (\S+) s", re.M)
_PROCESSES = re.compile(r"^nProcs\s*:\s*(\d+)", re.M)


@dataclass(frozen=True)
class FinishedCases:
    """Results of cases that have run; see `simulators.adapter.Simulator` and `HoldsRequests`.

    A request is the parameters of a case, and the answer is what the case holds. Cases that cannot be read are failures
    with a reason. Rows of the table that name no case are left out and listed in the reading.

    Attributes:
        path: folder that contains the folders of the cases.
        parameters: name -> units of the inputs.
        table: .csv or .tsv file with a column `case` (folder of the case) and one for each parameter; None: the
            parameters are read at `places`.
        places: name of a parameter -> FILE:ENTRY in each case, such as `constant/transportProperties:nu` or
            `0/U:boundaryField.inlet.value[0]`.
        fields: fields to read, such as U and p.
        mesh: axes of the flow, [x, y] or [x, y, z].
        patches: patches that are kinds of boundary, of which a later one counts at a corner; None: those of the first
            field of the first case.
        times: saved times to read, s; None: the last one.
        scalars: name -> number of a function object, an output.
        cost_s: declared cost of a case, core-seconds; None: the mean of those in the logs, or 0 without logs.

    Raises:
        InputError: there is no such folder, table or case, parameters are missing, or nothing is read.
    """

    path: str
    parameters: Mapping[str, str]
    table: str | None = None
    places: Mapping[str, str] | None = None
    fields: tuple[str, ...] = ()
    mesh: tuple[str, ...] | None = None
    patches: tuple[str, ...] | None = None
    times: tuple[float, ...] | None = None
    scalars: Mapping[str, FunctionValue] | None = None
    cost_s: float | None = None
    left_out: Mapping[str, int] = field(init=False, repr=False, compare=False)
    values: Mapping[tuple[float, ...], str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "parameters", dict(self.parameters or {}))
        put(self, "places", dict(self.places or {}))
        put(self, "fields", tuple(self.fields or ()))
        put(self, "mesh", None if self.mesh is None else check_axes(tuple(self.mesh)))
        put(self, "patches", None if self.patches is None else tuple(self.patches))
        put(self, "times", None if self.times is None else tuple(map(float, self.times)))
        put(self, "scalars", function_values(self.scalars))
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder}", where="simulator.path", remedy="Name the folder of the cases")
        if not self.parameters:
            raise InputError("no parameter is named", where="simulator.parameters", remedy="Give {NAME: UNITS}")
        if not self.fields and not self.scalars:
            raise InputError("nothing is read", where="simulator", remedy="Name fields, scalars, or both")
        if bool(self.fields) != (self.mesh is not None):
            raise InputError(
                "fields are read on a mesh of cells", where="simulator.mesh", remedy="Give fields and mesh, or neither"
            )
        if (self.table is None) == (not self.places):
            raise InputError(
                "parameters stand either in a table or in the dictionaries of the cases",
                where="simulator.table",
                remedy="Give simulator.table=FILE or simulator.places={NAME: FILE:ENTRY}",
            )
        left_out: dict[str, int] = {}
        runs = self._in_table(folder, left_out) if self.table is not None else self._in_cases(folder, left_out)
        values: dict[tuple[float, ...], str] = {}
        for case, numbers in runs:
            if numbers in values:
                raise InputError(
                    f"{values[numbers]} and {case} have the same parameters",
                    where=self.table or str(folder),
                    remedy="Add the parameter in which they differ, or remove one of them",
                )
            values[numbers] = case
        if not values:
            commonest = max(left_out, key=lambda k: left_out[k], default="it holds no folder of a case")
            raise InputError(f"no case of it can be used: {commonest}", where=self.table or str(folder))
        put(self, "values", values)
        put(self, "left_out", left_out)
        _ = self._cells

    def _in_table(self, folder: Path, left_out: dict[str, int]) -> list[tuple[str, tuple[float, ...]]]:
        path = Path(str(self.table)).expanduser()
        if not path.is_file():
            raise InputError(f"no such file: {path}", where="simulator.table", remedy="Check the path")
        lines = path.read_text("utf-8-sig", errors="replace").splitlines()
        columns = [CASE, *self.parameters]
        delimiter = choose_delimiter(lines[0] if lines else "", DELIMITERS.get(path.suffix.lower(), ","), columns)
        names = header_names(lines[0], delimiter) if lines else []
        if lacking := [name for name in columns if name not in names]:
            raise InputError(
                f"no column {' and no '.join(lacking)}; there are {', '.join(names[:20])}",
                where=str(path),
                remedy=f"Give a column {CASE} with the folder of each case, and one for each parameter",
            )
        runs = []
        rows = csv.reader(lines[1:], delimiter=delimiter)
        for row in rows:
            if not row:
                continue
            cells = dict(zip(names, row, strict=False))
            case = cells.get(CASE, "").strip()
            numbers = [finite(cells.get(name, "")) for name in self.parameters]
            if not (case and _inside(folder, case) and (folder / case).is_dir()):
                reason = "no such folder of a case"
            elif len(row) != len(names) or any(n is None for n in numbers):
                reason = "a parameter that is no finite number"
            else:
                runs.append((case, tuple(float(n) for n in numbers if n is not None)))
                continue
            left_out[f"line {rows.line_num + 1}, {case or 'without a case'}: {reason}"] = 1
        return runs

    def _in_cases(self, folder: Path, left_out: dict[str, int]) -> list[tuple[str, tuple[float, ...]]]:
        places = dict(self.places or {})
        if set(places) != set(self.parameters):
            raise InputError(
                f"places are those of {sorted(places)}, parameters {sorted(self.parameters)}",
                where="simulator.places",
                remedy="Give a place for each parameter",
            )
        runs = []
        for case in sorted(p for p in folder.iterdir() if (p / "system" / "controlDict").is_file()):
            try:
                numbers = tuple(number_at(case, places[name]) for name in self.parameters)
            except InputError as error:
                left_out[f"{case.name}: {str(error).replace(f'{case}/', '')}"] = 1
                continue
            runs.append((case.name, numbers))
        return runs

    @cached_property
    def _cells(self) -> CellResults | None:
        """The reading of the fields, whose units and patches the first case that can be read gives."""
        if self.mesh is None:
            return None
        problem: InputError | None = None
        for case in self.values.values():
            try:
                return self._of_case(Path(self.path).expanduser() / case)
            except InputError as error:
                problem = error
        assert problem is not None
        raise problem

    def _of_case(self, folder: Path) -> CellResults:
        last = _last(folder)
        described: dict[str, tuple[str, int]] = {}
        for name in self.fields:
            kind, units, components = header(last / name, read_contents(last / name).text)
            if components not in (1, 3) or not kind.startswith("vol"):
                raise InputError(f"{kind}: only scalars and vectors of cells are read", where=str(last / name))
            described[name] = units, components
        patches = self.patches
        if patches is None:
            mesh = read_poly_mesh(mesh_folder(folder, float(last.name)))
            patches = tuple(name for name, patch in mesh.patches.items() if patch.kind != "empty" and patch.count)
        assert self.mesh is not None
        return CellResults(self.mesh, patches, described, self.times)

    @property
    def name(self) -> str:
        """Such as "openfoam_finished:runs"."""
        return f"openfoam_finished:{Path(self.path).resolve().name}"

    @cached_property
    def spec(self) -> Spec:
        """The inputs are parameters, the outputs fields with their mesh, and numbers."""
        inputs = tuple(scalar(name, units, f"parameter {name}") for name, units in self.parameters.items())
        cells = self._cells
        outputs: tuple[Variable, ...] = (*scalar_outputs(self.scalars or {}), *(cells.outputs if cells else ()))
        coords: tuple[Coordinate, ...] = cells.coords if cells else ()
        return Spec(inputs, outputs, coords, {"boundary_conditions": "as in the files of the cases"})

    @property
    def provenance(self) -> dict[str, Any]:
        """Settings, and a hash of the cases: their names, parameters, and sizes of the fields of their last time."""
        settings = {
            "parameters": dict(self.parameters),
            "fields": list(self.fields),
            "mesh": list(self.mesh or ()),
            "patches": [] if self._cells is None else list(self._cells.patches),
            "times": None if self.times is None else list(self.times),
            "scalars": {name: vars(value) for name, value in (self.scalars or {}).items()},
        }
        return {
            "simulator": self.name,
            "version": content_hash([[self._state(c), list(numbers)] for numbers, c in self.values.items()]),
            "settings": json.loads(json.dumps(settings)),
            "declared_cost_core_seconds": self.declared_cost_s,
        }

    def _state(self, case: str) -> list[Any]:
        written = times(Path(self.path).expanduser() / case)
        if not written:
            return [case]
        last = list(written.values())[-1]
        sizes = [[p.name, p.stat().st_size] for name in self.fields for p in sorted(last.glob(f"{name}*"))]
        return [case, last.name, sizes]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the settings, and of the cases with their parameters; not of the cost."""
        facts = self.provenance
        return content_hash(["finished", facts["version"], facts["settings"]])

    @cached_property
    def declared_cost_s(self) -> float:
        """Cost of one case, core-seconds."""
        if self.cost_s is not None:
            return self.cost_s
        costs = [cost for case in self.values.values() if (cost := cost_in_logs(Path(self.path).expanduser() / case))]
        return float(np.mean(costs)) if costs else 0.0

    def requests(self) -> Sequence[xr.Dataset]:
        """The parameters of each case."""
        return [self.spec.request(dict(zip(self.parameters, numbers, strict=True))) for numbers in self.values]

    def reading(self) -> Reading | None:
        """What is read of the cases."""
        quantities = {name: f"{units}, parameter" for name, units in self.parameters.items()}
        when = "the last time" if self.times is None else f"times {', '.join(f'{t:g}' for t in self.times)} s"
        if self._cells is not None:
            for name, (units, components) in self._cells.fields.items():
                quantities[name] = f"{units}, {'vector' if components > 1 else 'scalar'} of the cells, read at {when}"
            kinds = ", ".join(f"{k} {name}" for k, name in enumerate(self._cells.patches, 1))
            quantities["mesh of cells"] = f"along {' and '.join(self._cells.axes)}, kinds of boundary {kinds}"
        for name, value in (self.scalars or {}).items():
            quantities[name] = f"{value.units}, {value.column} of the function object {value.object}"
        cost = self.declared_cost_s
        quantities["cost of a case"] = (
            f"{cost:.4g} core-s, {'as declared' if self.cost_s is not None else 'mean of ExecutionTime in its logs'}"
        )
        if not cost:
            quantities["cost of a case"] = "not known: no log states ExecutionTime; simulator.cost_s=X declares it"
        assumed = []
        said_of = {case: [s for _, s in _logs(Path(self.path).expanduser() / case)] for case in self.values.values()}
        if unknown := [case for case, said in said_of.items() if not said]:
            assumed.append(
                f"{len(unknown):,} cases, such as {unknown[0]}, have no log: their last time is their result"
            )
        steady = [c for c, said in said_of.items() if any(map(_above_targets, said))]
        if steady:
            assumed.append(
                f"{len(steady):,} cases, such as {steady[0]}, are used although their steady solver stopped above its "
                "residual targets"
            )
        return Reading(
            source=self.path,
            format="finished OpenFOAM cases",
            unit="cases",
            total=len(self.values) + sum(self.left_out.values()),
            used=len(self.values),
            quantities=quantities,
            left_out=self.left_out,
            assumed=tuple(assumed),
        )

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The results of one case.

        Raises:
            SimulationError: `invalid_input`: no case has these parameters; `crashed`: its results cannot be read, or
                are not finite.
        """
        check(inputs, self.spec.inputs)
        case = self.values.get(tuple(float(inputs[name]) for name in self.parameters))
        if case is None:
            raise SimulationError("invalid_input", f"no case in {self.path} has these parameters")
        folder = Path(self.path).expanduser() / case
        if failed := [log.name for log, said in _logs(folder) if "FOAM FATAL" in said]:
            raise SimulationError("crashed", f"{case}: {failed[0]} ends with an error")
        try:
            answer: dict[str, Any] = dict(read_numbers(self.scalars or {}, folder))
            if self._cells is not None:
                written = [_last(folder)] if self.times is None else [at_time(folder, t) for t in self.times]
                answer |= self._cells.read(folder, written)
            dataset = self.spec.answer(answer)
        except InputError as error:
            text = str(error).replace(f"{folder}/", "")
            raise SimulationError("crashed", f"the results of {case} cannot be read: {text}") from error
        for name, array in dataset.data_vars.items():
            if bad := int((~np.isfinite(array.values)).sum()):
                raise SimulationError("crashed", f"{case}: {bad} of {array.size} values of {name} are not finite")
        return dataset.assign_attrs(log=json.dumps({"case": case}))


def _above_targets(said: str) -> bool:
    """Whether the log is that of a steady solver that did not reach its residual targets."""
    return re.search(r"^SIMPLE: ", said, re.M) is not None and "SIMPLE solution converged" not in said


def cost_in_logs(case: Path) -> float:
    """Core-seconds that the logs of a case state: ExecutionTime of each program times its processes; 0 without logs."""
    total = 0.0
    for _, said in _logs(case):
        if times := _TIME_USED.findall(said):
            processes = _PROCESSES.search(said)
            total += (finite(times[-1]) or 0.0) * (int(processes[1]) if processes else 1)
    return total


def _logs(case: Path) -> list[tuple[Path, str]]:
    return [(log, log.read_text("latin-1")) for log in sorted([*case.glob("log.*"), *case.glob("log")])]


def _inside(folder: Path, case: str) -> bool:
    return (folder / case).resolve().is_relative_to(folder.resolve())


def _last(folder: Path) -> Path:
    """The folder of the last time of a case; raises InputError if only the initial fields exist."""
    if not set(times(folder)) - {0.0} and any(folder.glob("processor*")):
        raise InputError("its results are decomposed", where=str(folder), remedy="Run reconstructPar in it")
    return latest(folder)
