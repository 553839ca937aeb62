"""Turns a simulator or surrogate of meshes into one of the requests of a solver, by making the solver's mesh first."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xarray as xr

from data.errors import InputError
from data.meshes.mesh_samples import GEOMETRY
from data.spec import SimulationError, Spec, content_hash
from simulators.adapter import KeysRequests, MakesMeshes, Simulator


@dataclass(frozen=True)
class MeshFirst:
    """A simulator whose answer to a request is that of `simulator` on the mesh that `solver` makes for it.

    Numbers that `simulator` takes beside the mesh, such as a Reynolds number, are those of the request. What the mesh
    does not determine and `simulator` does not take, it does not see.

    Attributes:
        simulator: a simulator of meshes, such as a trained surrogate.
        solver: the solver that makes the meshes, and whose requests are answered.

    Raises:
        InputError: `simulator` takes no mesh, or a number that is no input of `solver` or has another unit there.
    """

    simulator: Simulator
    solver: MakesMeshes

    def __post_init__(self) -> None:
        if not takes_mesh(self.simulator):
            raise InputError(f"{self.simulator.name} takes no mesh", remedy=f"A mesh is {', '.join(GEOMETRY)}")
        asked = {v.name: v for v in self.solver.spec.inputs}
        for variable in self.simulator.spec.inputs:
            if variable.name in GEOMETRY:
                continue
            theirs = asked.get(variable.name)
            if theirs is None or (theirs.units, theirs.dims) != (variable.units, variable.dims):
                raise InputError(
                    f"{self.simulator.name} takes {variable.name} in {variable.units}, and {self.solver.name} does not",
                    remedy=f"{self.solver.name} takes {', '.join(f'{v.name} in {v.units}' for v in asked.values())}",
                )

    @property
    def name(self) -> str:
        """Name of the inner simulator."""
        return self.simulator.name

    @cached_property
    def spec(self) -> Spec:
        """The inputs are those of the solver, the outputs those of the inner simulator."""
        inner, asked = self.simulator.spec, self.solver.spec
        ours = {c.name for c in inner.coords}
        coords = (*inner.coords, *(c for c in asked.coords if c.name not in ours))
        return Spec(asked.inputs, inner.outputs, coords, inner.attrs)

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the inner simulator, with that of the solver as `meshes`."""
        return {**self.simulator.provenance, "meshes": self.solver.provenance}

    @property
    def fingerprint(self) -> str:
        """Hash of both fingerprints."""
        return content_hash([self.simulator.fingerprint, self.solver.fingerprint])

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Make the mesh, then simulate on it; the log holds the seconds that the mesh took.

        Raises:
            SimulationError: that of the solver, which makes no mesh, or of the inner simulator.
        """
        start = time.perf_counter()
        mesh = self.solver.mesh(inputs)
        facts = {"mesh_seconds": time.perf_counter() - start}
        try:
            answer = self.simulator.simulate(self._request(inputs, mesh))
        except SimulationError as error:
            raise SimulationError(error.kind, error.message, {**error.details, **facts}) from error
        return answer.assign_attrs(log=json.dumps({**json.loads(answer.attrs.get("log", "{}")), **facts}))

    def request_key(self, inputs: xr.Dataset) -> str:
        """See `simulators.adapter.KeysRequests`; the key is that of the mesh.

        Raises:
            SimulationError: the solver makes no mesh, or the simulator of meshes has no keys.
        """
        if not isinstance(self.simulator, KeysRequests):
            raise SimulationError("invalid_input", f"{self.name} has learned from nothing")
        return self.simulator.request_key(self._request(inputs, self.solver.mesh(inputs)))

    def _request(self, inputs: xr.Dataset, mesh: xr.Dataset) -> xr.Dataset:
        """The request to the simulator of meshes."""
        spec = self.simulator.spec
        return spec.request({v.name: (mesh if v.name in GEOMETRY else inputs)[v.name].values for v in spec.inputs})


def takes_mesh(simulator: Simulator) -> bool:
    """Whether a mesh is among the inputs of a simulator."""
    return set(GEOMETRY) <= {v.name for v in simulator.spec.inputs}
