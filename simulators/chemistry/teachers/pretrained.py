"""What all simulators by pre-trained models share: their process, their identity, and batches of structures."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from ase.units import Debye

from data.errors import InputError
from data.spec import SimulationError, Spec, content_hash
from simulators.chemistry.teachers.environment import interpreter, remedy
from simulators.chemistry.variables import Geometry, answer
from simulators.workers.model_process import ModelProcess, ServedModel, describe, process_of

#: Modules that the interpreters of models run.
MODELS = Path(__file__).with_name("models")


@dataclass(frozen=True)
class Pretrained:
    """A published model.

    Attributes:
        package: name by which its package is imported.
        module: name of its module below `MODELS`.
        licence: licence of the package and its weights.
        level_of_theory: what the labels were that it learned from.
        reference: the paper that describes it.
    """

    package: str
    module: str
    licence: str
    level_of_theory: str
    reference: str

    @property
    def facts(self) -> Mapping[str, Any]:
        """Version of the installed package and hash of its weights.

        Raises:
            InputError: it is not installed; the message names the command that installs it.
        """
        try:
            return describe(interpreter(self.package), self._path)
        except InputError as error:
            if error.remedy is None:
                error.give_remedy(f"{remedy()}, where {self.package} is missing")
            raise

    def provenance(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The provenance of labels by this model."""
        facts = self.facts
        return {
            "simulator": name,
            "version": facts["version"],
            "settings": json.loads(json.dumps(dict(settings))),
            "weights": facts["weights"],
            "licence": self.licence,
            "level_of_theory": self.level_of_theory,
            "reference": self.reference,
        }

    def process(self, settings: Mapping[str, Any]) -> ModelProcess:
        """The process that holds the model with some settings.

        Raises:
            SimulationError: `missing_component`: it is not installed.
        """
        try:
            settings = {**settings, "weights": self.facts["weights"]}
            return process_of(ServedModel(interpreter(self.package), self._path, json.dumps(settings, sort_keys=True)))
        except InputError as error:
            raise SimulationError("missing_component", str(error)) from error

    @property
    def _path(self) -> Path:
        return MODELS / f"{self.module}.py"


class PretrainedSimulator(ABC):
    """What is the same in all simulators by pre-trained models: identity, and one answer as a batch of one."""

    @property
    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Package, its version, hash of the weights, licence, origin of the labels and settings."""

    @property
    def fingerprint(self) -> str:
        """Hash of package, version, weights and settings."""
        provenance = self.provenance
        return content_hash([provenance[key] for key in ("simulator", "version", "settings", "weights")])

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One request; see `simulators.adapter.Simulator`."""
        (result,) = self.simulate_many([inputs])
        if isinstance(result, SimulationError):
            raise result
        return result

    @abstractmethod
    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Requests in batches; see `simulators.adapter.AnswersMany`."""


def batches(sizes: Sequence[int], largest: int) -> Iterator[slice]:
    """Consecutive requests whose sizes add up to `largest` at most; one that is larger is alone."""
    start, total = 0, 0
    for place, size in enumerate(sizes):
        if place > start and total + size > largest:
            yield slice(start, place)
            start, total = place, 0
        total += size
    if sizes:
        yield slice(start, len(sizes))


def answer_structures(
    inputs: Sequence[xr.Dataset],
    *,
    read: Callable[[xr.Dataset], Geometry],
    process: Callable[[], ModelProcess],
    facts: Mapping[str, Any],
    spec: Spec,
    each_atom: frozenset[str],
    largest: int,
    size: Callable[[Geometry], int] = lambda geometry: len(geometry.numbers),
) -> list[xr.Dataset | SimulationError]:
    """The answers to requests for structures in batches; see `simulators.adapter.AnswersMany`.

    Args:
        inputs: the requests.
        read: reads a request, or refuses it by a `SimulationError`.
        process: the process of the model, which is asked for only if a request is left.
        facts: facts of each batch.
        spec: the spec of the simulator. A dipole is expected in e Angstrom.
        each_atom: names of answers with a row for each atom.
        largest: largest sum of the sizes of a batch.
        size: size of a structure.
    """
    results: dict[int, xr.Dataset | SimulationError] = {}
    geometries: dict[int, Geometry] = {}
    for place, request in enumerate(inputs):
        try:
            geometries[place] = read(request)
        except SimulationError as error:
            results[place] = error
    places = list(geometries)
    for part in batches([size(geometries[place]) for place in places], largest):
        chosen = places[part]
        try:
            values = ask_structures(process(), [geometries[place] for place in chosen], facts, each_atom)
        except SimulationError as error:
            values = [error] * len(chosen)
        results |= {place: _answer(spec, one) for place, one in zip(chosen, values, strict=True)}
    return [results[place] for place in range(len(inputs))]


def _answer(spec: Spec, values: dict[str, np.ndarray] | SimulationError) -> xr.Dataset | SimulationError:
    if isinstance(values, SimulationError):
        return values
    if "dipole" in values:
        dipole = values["dipole"] / Debye
        values = {**values, "dipole": dipole, "dipole_moment": np.asarray(np.linalg.norm(dipole))}
    try:
        return answer(spec, values)
    except SimulationError as error:
        return error


def ask_structures(
    process: ModelProcess, geometries: Sequence[Geometry], facts: Mapping[str, Any], each_atom: frozenset[str]
) -> list[dict[str, np.ndarray] | SimulationError]:
    """The values of a batch of structures by one request to a model.

    If the process dies or memory runs out, the structures are asked one by one, so that one of them alone fails.

    Args:
        process: process of the model.
        geometries: structures.
        facts: facts of the request.
        each_atom: names of answers with a row for each atom; others have one for each structure.

    Returns:
        Values by name, or the failure of a structure.
    """
    arrays = {
        "numbers": np.concatenate([g.numbers for g in geometries]),
        "positions": np.concatenate([g.positions for g in geometries]),
        "counts": np.array([len(g.numbers) for g in geometries], np.int64),
        "charge": np.array([g.charge for g in geometries], np.int64),
        "cell": np.stack([np.zeros((3, 3)) if g.cell is None else g.cell for g in geometries]),
    }
    try:
        said, values = process.ask(facts, arrays)
    except SimulationError as error:
        if len(geometries) == 1 or error.kind == "missing_component":
            return [error] * len(geometries)
        return [answer for g in geometries for answer in ask_structures(process, [g], facts, each_atom)]
    failed = {int(place): reason for place, reason in said.get("failed", {}).items()}
    answers: list[dict[str, np.ndarray] | SimulationError] = []
    row = atom = 0
    for place, geometry in enumerate(geometries):
        if place in failed:
            answers.append(SimulationError("invalid_input", failed[place]))
            continue
        count = len(geometry.numbers)
        answers.append(
            {k: v[atom : atom + count] if k in each_atom else v[row] for k, v in values.items()}  # one row or its atoms
        )
        row, atom = row + 1, atom + count
    return answers
