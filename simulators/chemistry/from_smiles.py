"""Turns a simulator of geometries into a simulator of SMILES, by generating a conformer first."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import xarray as xr

from data.errors import InputError
from data.spec import SimulationError, Spec, Variable, check, content_hash, dataset
from simulators.adapter import AnswersMany, Simulator, answer_each
from simulators.chemistry.conformers import ConformerConfig, embed, method
from simulators.chemistry.variables import CELL, GEOMETRY, Geometry

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
        prepared = self._with_geometry(inputs)
        try:
            answer = self.simulator.simulate(prepared.geometry.dataset())
        except SimulationError as error:
            raise prepared.failure(error) from error
        return prepared.complete(answer)

    def _with_geometry(self, inputs: xr.Dataset) -> _Made:
        """The geometry for a request."""
        check(inputs, self.spec.inputs)
        start = time.perf_counter()
        conformer = embed(str(inputs["smiles"].item()), self.conformers)
        return _Made(
            conformer.geometry, {"conformer_seconds": time.perf_counter() - start, "conformer": conformer.facts}
        )


@dataclass(frozen=True)
class FromManySmiles(FromSmiles):
    """`FromSmiles` of a simulator that answers many requests together, and so does it."""

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Generate all conformers, then simulate them; see `simulators.adapter.AnswersMany`."""
        results: dict[int, xr.Dataset | SimulationError] = {}
        prepared: dict[int, _Made] = {}
        for place, request in enumerate(inputs):
            try:
                prepared[place] = self._with_geometry(request)
            except SimulationError as error:
                results[place] = error
        answers = answer_each(self.simulator, [one.geometry.dataset() for one in prepared.values()]) if prepared else []
        for (place, one), answer in zip(prepared.items(), answers, strict=True):
            results[place] = one.failure(answer) if isinstance(answer, SimulationError) else one.complete(answer)
        return [results[place] for place in range(len(inputs))]


def from_smiles(simulator: Simulator, conformers: ConformerConfig) -> FromSmiles:
    """The simulator of SMILES, which answers many together where the simulator of geometries does."""
    return (FromManySmiles if isinstance(simulator, AnswersMany) else FromSmiles)(simulator, conformers)


@dataclass(frozen=True)
class _Made:
    """A geometry that was made from SMILES, and facts about that for the log."""

    geometry: Geometry
    facts: dict[str, Any]

    def failure(self, error: SimulationError) -> SimulationError:
        """The error of the simulator with the facts."""
        return SimulationError(error.kind, error.message, {**error.details, **self.facts})

    def complete(self, answer: xr.Dataset) -> xr.Dataset:
        """The answer of the simulator with the geometry, and the facts in its log."""
        geometry = self.geometry
        if "relaxed_positions" in answer:
            geometry = replace(geometry, positions=answer["relaxed_positions"].values)
        with_geometry = answer.merge(dataset(GEOMETRY, {v.name: getattr(geometry, v.name) for v in GEOMETRY}))
        with_geometry.attrs["log"] = json.dumps({**json.loads(answer.attrs.get("log", "{}")), **self.facts})
        return with_geometry
