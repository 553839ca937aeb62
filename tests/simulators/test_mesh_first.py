"""A simulator of meshes answers requests of the solver that makes them, and only those of its own question."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import xarray as xr
from simulator_contract import assert_promises

from benchmarks.faults.small_surrogates import meshes
from data.errors import InputError
from data.spec import Coordinate, SimulationError, Spec, Variable, content_hash
from simulators.mesh_first import MeshFirst, takes_mesh

SPEED = Variable("speed", (), "m s-1", "float64", "speed")
WAVE = Variable("wave", ("mode",), "m", "float64", "amplitudes")
MODES = Coordinate("mode", (3.0, 4.0), "1", "waves")


@dataclass(frozen=True)
class Triangles:
    """A solver that meshes a square, whose corner its first amplitude moves; it has no solution."""

    inputs: tuple[Variable, ...] = (SPEED, WAVE)
    name = "triangles"

    @cached_property
    def spec(self) -> Spec:
        return Spec(self.inputs, (Variable("drag", (), "1", "float64", "drag coefficient"),), (MODES,))

    @property
    def provenance(self) -> dict[str, Any]:
        return {"simulator": self.name, "version": "1", "settings": {"inputs": [v.units for v in self.inputs]}}

    @property
    def fingerprint(self) -> str:
        return content_hash(self.provenance)

    def mesh(self, inputs: xr.Dataset) -> xr.Dataset:
        moved = float(inputs["wave"][0])
        if moved > 0.5:
            raise SimulationError("invalid_input", "the corner leaves the square")
        nodes = np.array([[0.0, 0.0], [1.0, 0.0], [1.0 - moved, 1.0], [0.0, 1.0]])
        elements = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
        return xr.Dataset(
            {
                "nodes": (("node", "plane"), nodes),
                "elements": (("element", "corner"), elements),
                "boundary": ("node", np.ones(4, np.int32)),
            }
        )

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        return self.spec.answer({"drag": 1.0})


def test_the_answer_is_that_on_the_mesh_of_the_request() -> None:
    surrogate, solver = meshes(), Triangles()
    first = MeshFirst(surrogate, solver)
    asked = first.spec.request({"speed": 1.2, "wave": [0.1, 0.0]})
    mesh = solver.mesh(asked)
    on_mesh = surrogate.simulate(
        surrogate.spec.request({"speed": 1.2, **{name: mesh[name].values for name in mesh.data_vars}})
    )
    answer = first.simulate(asked)
    for name in ("drag", "drag_std", "pressure"):
        assert np.array_equal(answer[name], on_mesh[name]), name
    assert json.loads(answer.attrs["log"])["mesh_seconds"] >= 0
    other = first.simulate(first.spec.request({"speed": 1.2, "wave": [0.3, 0.0]}))
    assert float(other["drag"]) != float(answer["drag"])
    assert takes_mesh(surrogate)
    assert not takes_mesh(first)


def test_it_is_a_simulator() -> None:
    first = MeshFirst(meshes(), Triangles())
    other = MeshFirst(meshes(), Triangles((WAVE, SPEED)))
    good = first.spec.request({"speed": 1.2, "wave": [0.1, 0.0]})
    bad = first.spec.request({"speed": 1.2, "wave": [0.6, 0.0]})
    assert first.fingerprint not in (meshes().fingerprint, other.fingerprint)
    assert_promises(first, other, good, bad)


def test_another_question_is_refused() -> None:
    with pytest.raises(InputError, match=r"takes speed in m s-1, and triangles does not"):
        MeshFirst(meshes(), Triangles((replace(SPEED, units="km h-1"), WAVE)))
    with pytest.raises(InputError, match="triangles takes no mesh"):
        MeshFirst(Triangles(), Triangles())
