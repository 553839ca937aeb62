"""Turns a simulator of geometries into a simulator of SMILES, by generating a conformer first."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import xarray as xr

from data.errors import InputError
from data.spec import SimulationError, Spec, Variable, check, content_hash, dataset
from simulators.adapter import Simulator
from simulators.chemistry.conformers import ConformerConfig, embed, method
from simulators.chemistry.variables import CELL, GEOMETRY

SMILES = Variable("smiles", (), "1", "str", "SMILES")


@dataclass(frozen=True)
class FromSmiles:
    """A simulator whose answer for a molecule is that of `simulator` for its lowest conformer.

    Attributes:
        simulator: a simulator of geometries.
        conformers: settings of the conformers.
    """

    simulator: Simulator
    conformers: ConformerConfig = field(default_factory=ConformerConfig)

    def __post_init__(self) -> None:
        inputs = {v.name for v in self.simulator.spec.inputs}
        if inputs - {CELL.name} != {v.name for v in GEOMETRY}:
            raise InputError(f"{self.simulator.name} takes {sorted(inputs)}, not a geometry")

    @property
    def name(self) -> str:
        """Name of the inner simulator."""
        return self.simulator.name

    @cached_property
    def spec(self) -> Spec:
        """The input is a SMILES; the outputs are those of the inner simulator and the geometry."""
        return Spec((SMILES,), (*self.simulator.spec.outputs, *GEOMETRY))

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the inner simulator, with the settings and methods of conformers."""
        return {**self.simulator.provenance, "conformers": {**asdict(self.conformers), **method()}}

    @property
    def fingerprint(self) -> str:
        """Hash of the inner fingerprint, and of the settings and methods of conformers."""
        return content_hash([self.simulator.fingerprint, asdict(self.conformers), method()])

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Generate a conformer, then simulate it; the log holds the seconds that the conformer took."""
        check(inputs, self.spec.inputs)
        start = time.perf_counter()
        conformer = embed(str(inputs["smiles"].item()), self.conformers)
        facts = {"conformer_seconds": time.perf_counter() - start, "conformer": conformer.facts}
        try:
            answer = self.simulator.simulate(conformer.geometry.dataset())
        except SimulationError as error:
            raise SimulationError(error.kind, error.message, {**error.details, **facts}) from error
        geometry = conformer.geometry
        if "relaxed_positions" in answer:
            geometry = replace(geometry, positions=answer["relaxed_positions"].values)
        with_geometry = answer.merge(dataset(GEOMETRY, {v.name: getattr(geometry, v.name) for v in GEOMETRY}))
        with_geometry.attrs["log"] = json.dumps({**json.loads(answer.attrs.get("log", "{}")), **facts})
        return with_geometry
