"""OpenFOAM as a simulator: parameters are written into a case, its programs run, and its fields are read.

Weller, Tabor, Jasak, Fureby, Computers in Physics 1998, 12, 620. Cases are objects (`foam_cases.Case`): the
cavity, a body in a channel, or a user's own directory.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.reading_summary import Reading
from data.spec import SimulationError, Spec, check, content_hash
from simulators.fluids.openfoam.case_reading import reading_of
from simulators.fluids.openfoam.cases import Case
from simulators.fluids.openfoam.convergence import Plateau, convergence, evolves
from simulators.fluids.openfoam.directory import Directory
from simulators.fluids.openfoam.programs import environment, run, version
from simulators.workers.scratch import scratch


@dataclass(frozen=True)
class OpenFOAM:
    """A solver of OpenFOAM on one case, in a temporary directory.

    Attributes:
        case: template, commands and reading of the results.
        timeout_s: wall time for all commands of a request together, after which they are killed, s.
        keep_failed: directory to which the cases of failed requests are moved, with their logs; None: only the last
            lines of the log are kept, in the error.
        plateau: whether residuals of a steady solver that stall above their targets are accepted.
    """

    case: Case
    timeout_s: float = 600.0
    keep_failed: str | None = None
    plateau: Plateau = field(default_factory=Plateau)

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < math.inf:
            raise InputError(f"timeout_s must be above 0 and finite, got {self.timeout_s}", where="simulator.timeout_s")

    @classmethod
    def from_directory(
        cls,
        path: str,
        parameters: Mapping[str, str],
        commands: Sequence[str | Sequence[str]],
        fields: Sequence[str],
        *,
        constants: Mapping[str, float] | None = None,
        grid: Mapping[str, tuple[float, float, int]] | None = None,
        times: Sequence[float] | None = None,
        mesh: Sequence[str] | None = None,
        patches: Sequence[str] | None = None,
        scalars: Mapping[str, Any] | None = None,
        timeout_s: float = 600.0,
        keep_failed: str | None = None,
        plateau: Plateau | None = None,
    ) -> OpenFOAM:
        """A simulator of a user's case; for the arguments see `foam_directory.Directory` and `OpenFOAM`."""
        case = Directory(
            path,
            parameters,
            tuple(tuple(shlex.split(c)) if isinstance(c, str) else tuple(c) for c in commands),
            tuple(fields),
            constants or {},
            grid,
            None if times is None else tuple(times),
            None if mesh is None else tuple(mesh),
            None if patches is None else tuple(patches),
            scalars,
        )
        return cls(case, timeout_s, keep_failed, plateau or Plateau())

    @property
    def name(self) -> str:
        """Such as "openfoam:cavity"."""
        return f"openfoam:{self.case.label}"

    @cached_property
    def version(self) -> str:
        """Version of the installed OpenFOAM; raises SimulationError `missing_component` if there is none."""
        return version()

    @cached_property
    def spec(self) -> Spec:
        """The inputs are parameters, the outputs fields."""
        attrs = {
            "boundary_conditions": self.case.boundary_conditions,
            "solver": f"{self.version}: {', '.join(command[0] for command in self.case.steps)}",
        }
        return Spec(self.case.inputs, self.case.outputs, self.case.coords, attrs)

    def reading(self) -> Reading | None:
        """A report of what is read from a user's case; None for a packaged case."""
        case = self.case
        return reading_of(case) if isinstance(case, Directory) and Path(case.path).is_dir() else None

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version, settings, and the hash of the template."""
        settings = {"case": self.case.settings, "template": self.case.template.hash}
        if self.plateau.window is not None:
            settings["plateau"] = asdict(self.plateau)
        return {"simulator": self.name, "version": self.version, "settings": json.loads(json.dumps(settings))}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def mesh(self, inputs: xr.Dataset) -> xr.Dataset:
        """The mesh of cells of a request without a solution: all commands but the last, which is the solver, are run.

        Surrogates on meshes take it as input.

        Raises:
            SimulationError: as `simulate`; `invalid_input`: answers of the case hold no mesh.
        """
        if not isinstance(self.case, Directory) or self.case.cells is None:
            raise SimulationError("invalid_input", f"answers of {self.name} hold no mesh: set simulator.case.mesh")
        values = self._values(inputs)
        with scratch() as temporary:
            folder = temporary / "case"
            self.case.template.write(folder, self.case.fill(values))
            env, deadline = environment(temporary / "home"), time.monotonic() + self.timeout_s
            for command in self.case.steps[:-1]:
                run(command, folder, env, deadline, self.timeout_s)
            try:
                return self.spec.answer(self.case.cells.read_mesh(folder))
            except InputError as error:
                raise SimulationError("crashed", str(error).replace(f"{folder}/", "")) from error

    def _values(self, inputs: xr.Dataset) -> dict[str, float]:
        """The parameters of a request; raises SimulationError `invalid_input`."""
        names = [v.name for v in self.case.inputs]
        for name in map(str, inputs.data_vars):
            if name not in names:
                raise SimulationError("invalid_input", f"no parameter {name!r}; there are {names}")
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        return {name: float(inputs[name]) for name in names}

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One run of the case; see `simulators.adapter.Simulator`."""
        values = self._values(inputs)
        filled = self.case.fill(values)
        with scratch() as temporary:
            folder = temporary / "case"
            self.case.template.write(folder, filled)
            try:
                log = self._run(folder, environment(temporary / "home"))
                answer = self._read(folder, values)
            except SimulationError as error:
                raise self._kept(error, folder) from error
        return answer.assign_attrs(log=json.dumps(log))

    def _run(self, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
        """Run all commands in order; returns facts from their logs."""
        log: dict[str, Any] = {}
        deadline = time.monotonic() + self.timeout_s
        for command in self.case.steps:
            began = time.monotonic()
            said = run(command, folder, env, deadline, self.timeout_s)
            transient = evolves(command[0], folder)
            facts = {
                "seconds": round(time.monotonic() - began, 3),
                **convergence(command[0], said, transient=transient, plateau=self.plateau),
            }
            log[command[0]] = facts
        return log

    def _read(self, folder: Path, values: Mapping[str, float]) -> xr.Dataset:
        try:
            answer = self.spec.answer(self.case.read(folder, values))
        except InputError as error:
            text = str(error).replace(f"{folder}/", "")
            raise SimulationError("crashed", f"{self.name} ran, but its results cannot be read: {text}") from error
        for name, array in answer.data_vars.items():
            bad = int((~np.isfinite(array.values)).sum())
            if bad:
                raise SimulationError("crashed", f"{self.name}: {bad} of {array.size} values of {name} are not finite")
        return answer

    def _kept(self, error: SimulationError, folder: Path) -> SimulationError:
        if self.keep_failed is None:
            return error
        kept = Path(self.keep_failed) / f"{self.case.label}-{uuid.uuid4().hex[:12]}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, kept)
        return SimulationError(
            error.kind, f"{error.message} (the case is in {kept})", {**error.details, "kept": str(kept)}
        )
