"""A mixture: several surrogates of one question, of which each molecule is answered by one.

The expert is chosen on the host, before batches are packed: among those that have learned its elements and charge, by a
gate that reads its composition (see `gate`); where the gate is not certain, by the expert to whose training data the
geometry is nearest. Molecules are then grouped by expert, and each expert packs and answers its own, so that every
expert stays one dense compiled program with fixed shapes, of whatever size it is. Nothing is averaged: an answer, its
interval and its domain are those of its expert, whose calibration holds for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import xarray as xr
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from data.errors import InputError
from data.spec import SimulationError, Spec, check
from data.structures.frame_names import FrameKeys
from data.structures.structures import Structures
from surrogates.mixture.facts import MixtureFacts
from surrogates.mixture.gate import Gate, describe
from surrogates.saved import Saves, load_surrogate
from surrogates.trained import TrainedSurrogate

#: Folder of the experts in the directory of a mixture.
EXPERTS = "experts"
#: Inputs that a request may leave out.
OPTIONAL = ("charge", "cell")


class MixtureSurrogate(TrainedSurrogate[Gate, MixtureFacts]):
    """A gate and its experts.

    An expert is a surrogate of geometries with `predict_structures`, and with `novelty` and `novelties`, its distances
    to its training data over the largest distance within its domain.

    Args:
        model: the gate.
        facts: settings, and what is known of the experts.
        experts: the experts, in the order of the facts.

    Raises:
        InputError: an expert is another one than the facts name.
    """

    KIND = "mixture"
    FACTS = MixtureFacts

    def __init__(self, model: Gate, facts: MixtureFacts, experts: Sequence[Any] = ()) -> None:
        super().__init__(model, facts)
        self.experts = tuple(experts)
        #: Number of structures that each expert has answered since the mixture was made or loaded.
        self.answered: Counter[str] = Counter()
        for expected, expert in zip(facts.experts, self.experts, strict=bool(self.experts)):
            if expert.fingerprint != expected.fingerprint:
                raise InputError(
                    f"the expert {expected.name} is another one than the mixture was made with",
                    where=f"{EXPERTS}/{expected.name}",
                    remedy="Restore it from a copy, or grow the mixture again",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the experts."""
        return tuple(expert.name for expert in self.facts.experts)

    @cached_property
    def spec(self) -> Spec:
        """The inputs, and the outputs that every expert has."""
        specs = [expert.spec for expert in self.experts]
        common = set.intersection(*({v.name for v in spec.outputs} for spec in specs))
        return Spec(specs[0].inputs, tuple(v for v in specs[0].outputs if v.name in common))

    @property
    def cutoff_angstrom(self) -> float:
        """The largest cutoff of the experts, Angstrom, within which a batch needs neighbours."""
        return float(max(expert.cutoff_angstrom for expert in self.experts))

    @property
    def frame_keys(self) -> FrameKeys | None:
        """Names of the labels in the files of frames of the last expert; None for the usual names."""
        keys: FrameKeys | None = self.experts[-1].frame_keys
        return keys

    @property
    def needs_spin(self) -> bool:
        """Whether spins matter, which they do for no expert."""
        return False

    # Routing

    def route(self, structures: Structures) -> Int[np.ndarray, " M"]:
        """The index of the expert that answers each structure.

        Raises:
            SimulationError: `invalid_input`: no expert has learned the elements and the charge of one of them;
                `not_converged`: the gate is not finite.
        """

        def novelties(expert: int, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
            values: Float[np.ndarray, " m"] = self.experts[expert].novelties(structures.take(rows))
            return values

        return self._route(structures.composition(self.facts.elements), structures.sizes, structures.charge, novelties)

    def by_expert(self, structures: Structures) -> list[tuple[int, Int[np.ndarray, " m"]]]:
        """The experts that answer structures, in their order, and the rows of each.

        Raises:
            SimulationError: see `route`.
        """
        chosen = self.route(structures)
        return [(int(expert), np.flatnonzero(chosen == expert)) for expert in np.unique(chosen)]

    def refuse_unknown(self, structures: Structures) -> None:
        """Refuse structures that cannot be answered.

        Raises:
            SimulationError: `invalid_input`: no expert has learned the elements and the charge of one of them, or its
                expert refuses it.
        """
        for expert, rows in self.by_expert(structures):
            self.experts[expert].refuse_unknown(structures.take(rows))

    def eligible(self, structures: Structures) -> Bool[np.ndarray, "M E"]:
        """Which experts have learned the elements and the charge of each structure."""
        counts = structures.composition(self.facts.elements)
        return self._eligible(counts, structures.sizes, structures.charge)

    def inside(self, structures: Structures) -> Bool[np.ndarray, " M"]:
        """Whether each structure lies in the domain of the expert that answers it; False where none can."""
        inside = np.zeros(len(structures), bool)
        rows = np.flatnonzero(self.eligible(structures).any(axis=1))
        if len(rows):
            chosen = self.route(structures.take(rows))
            for expert in np.unique(chosen):
                mine = rows[chosen == expert]
                inside[mine] = self.experts[expert].novelties(structures.take(mine)) <= 1.0
        return inside

    def shares(self, structures: Structures) -> dict[str, float]:
        """The load of each expert: its share of the structures."""
        counts = np.bincount(self.route(structures), minlength=len(self.experts))
        return {name: float(count) / max(len(structures), 1) for name, count in zip(self.names, counts, strict=True)}

    def _eligible(
        self, counts: Float[np.ndarray, "M Z"], sizes: Int[np.ndarray, " M"], charge: Int[np.ndarray, " M"]
    ) -> Bool[np.ndarray, "M E"]:
        columns = []
        for expert in self.facts.experts:
            learned = np.isin(self.facts.elements, expert.elements)
            # Atoms of elements that no expert has learned are in no column of the counts.
            columns.append((counts[:, learned].sum(axis=1) == sizes) & np.isin(charge, expert.charges))
        return np.stack(columns, axis=1)

    def _route(
        self,
        counts: Float[np.ndarray, "M Z"],
        sizes: Int[np.ndarray, " M"],
        charge: Int[np.ndarray, " M"],
        novelties: Any,
    ) -> Int[np.ndarray, " M"]:
        """See `route`; `novelties` gives those of rows by an expert."""
        eligible = self._eligible(counts, sizes, charge)
        lost = np.flatnonzero(~eligible.any(axis=1))
        if len(lost):
            names = ", ".join(chemical_symbols[z] for z in self.facts.elements)
            charges = sorted({c for expert in self.facts.experts for c in expert.charges})
            raise SimulationError(
                "invalid_input",
                f"no expert has learned all elements and the charge of structure {int(lost[0])}; "
                f"they know {names} and charges {', '.join(map(str, charges))}",
            )
        probabilities = self.model.probabilities(describe(counts, charge), eligible)
        if not np.isfinite(probabilities).all():
            raise SimulationError("not_converged", "the gate of the mixture is not finite")
        chosen: Int[np.ndarray, " M"] = probabilities.argmax(axis=1)
        unsure = np.flatnonzero(probabilities.max(axis=1) < self.facts.config.certain)
        if len(unsure):
            distances = np.full((len(unsure), len(self.experts)), np.inf)
            for expert in range(len(self.experts)):
                can = np.flatnonzero(eligible[unsure, expert])
                if len(can):
                    distances[can, expert] = novelties(expert, unsure[can])
            # Experts without a domain are all infinitely far, and leave the choice to the gate.
            nearest = distances.argmin(axis=1)
            chosen[unsure] = np.where(np.isfinite(distances).any(axis=1), nearest, chosen[unsure])
        return chosen

    # Answers

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Answer one request by its expert.

        Raises:
            SimulationError: see `route`, and the expert's own.
        """
        variables = self.spec.inputs if self.experts else ()
        check(inputs, variables, optional=tuple(v.name for v in variables if v.name in OPTIONAL))
        numbers = np.asarray(inputs["numbers"].values)
        one = Structures.from_arrays(
            [numbers],
            [inputs["positions"].values],
            charge=[int(inputs["charge"]) if "charge" in inputs else 0],
            lattice=[inputs["cell"].values if "cell" in inputs else np.zeros((3, 3))],
        )
        expert = int(self.route(one)[0])
        answer: xr.Dataset = self.experts[expert].simulate(inputs)
        self.answered[self.names[expert]] += 1
        extra = ["stress"] if "stress" in answer else []
        return answer[[*(v.name for v in self.spec.outputs), *extra]]

    def predict(self, batch: Any) -> dict[str, np.ndarray]:
        """Answer a batch of padded structures; every expert that has a row of it computes the whole batch.

        A batch that was packed for one expert costs one expert; `predict_structures` packs such batches.
        """
        numbers = np.asarray(batch.numbers)
        real = np.flatnonzero((numbers > 0).any(axis=1))
        counts = np.stack([(numbers[real] == z).sum(axis=1) for z in self.facts.elements], axis=1).astype(float)
        charge = np.asarray(batch.charge)[real].astype(int)

        def novelties(expert: int, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
            values: Float[np.ndarray, " m"] = self.experts[expert].novelty(batch)[real[rows]]
            return values

        chosen = self._route(counts, (numbers[real] > 0).sum(axis=1), charge, novelties)
        answer: dict[str, np.ndarray] = {}
        for expert in np.unique(chosen):
            rows = real[chosen == expert]
            self.answered[self.names[expert]] += len(rows)
            for name, values in self.experts[expert].predict(batch).items():
                answer.setdefault(name, np.zeros_like(values))[rows] = values[rows]
        common = {v.name for v in self.spec.outputs} | {"stress"}
        return {name: values for name, values in answer.items() if name in common}

    def predict_structures(self, structures: Structures, **options: Any) -> Any:
        """Answer a table of structures, each by its expert, which packs its own batches.

        Args:
            structures: the structures; labels are ignored.
            options: those of `predict_structures` of the experts.

        Returns:
            What the experts return, with the outputs that all experts have.

        Raises:
            SimulationError: see `route`.
        """
        chosen = self.route(structures)
        common = {v.name for v in self.spec.outputs} | {"stress"}
        columns: dict[str, np.ndarray] = {}
        kind: Any = None
        for expert in range(len(self.experts)):
            rows = np.flatnonzero(chosen == expert)
            # Without any structure the first expert gives the columns.
            if not len(rows) and (len(structures) or expert):
                continue
            part = self.experts[expert].predict_structures(structures.take(rows), **options)
            self.answered[self.names[expert]] += len(rows)
            kind, atoms = type(part), structures.atoms_of(rows)
            for name in common & {f.name for f in fields(part)}:
                values = getattr(part, name)
                if values is None:
                    continue
                per_atom = name.startswith("forces")
                if name not in columns:
                    count = len(structures.numbers) if per_atom else len(structures)
                    missing = np.nan if values.dtype.kind == "f" else False
                    columns[name] = np.full((count, *values.shape[1:]), missing, values.dtype)
                columns[name][atoms if per_atom else rows] = values
        return kind(**columns)

    # Storage

    def with_facts(self, **changes: Any) -> Self:
        """The same gate and experts with other facts, such as `scores`."""
        return type(self)(self.model, type(self.facts)(**{**_shallow(self.facts), **changes}), self.experts)

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process rebuilds this mixture from."""
        return _rebuilt, (jax.device_get(self.arrays()), self.facts, self.experts)

    def nested(self) -> Mapping[str, Saves]:
        """The experts, by their folder in the directory of the mixture."""
        return {f"{EXPERTS}/{name}": expert for name, expert in zip(self.names, self.experts, strict=True)}

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """The mixture that `save` wrote, with its experts.

        Raises:
            InputError: there is none, or an expert is another one than the mixture was made with.
            CorruptStoreError: its card or that of an expert cannot be used, or weights are missing or changed.
        """
        gate = super().load(directory)
        experts = [load_surrogate(Path(directory) / EXPERTS / name) for name in gate.names]
        return cls(gate.model, gate.facts, experts)


def _rebuilt(arrays: Any, facts: MixtureFacts, experts: Sequence[Any]) -> MixtureSurrogate:
    return MixtureSurrogate(MixtureSurrogate.restore(facts, arrays, {}).model, facts, experts)


def _shallow(facts: MixtureFacts) -> dict[str, Any]:
    return {f.name: getattr(facts, f.name) for f in fields(facts)}
