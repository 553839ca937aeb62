"""Teachers of molecular properties: surrogates, which answer in this process, and simulators, which campaigns ask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from data.errors import InputError
from data.molecules.graph_tables import GraphTable
from data.spec import dataset
from data.splits import canonical
from experiments.distillation.answering_teacher import AnsweringTeacher
from experiments.distillation.costs import teacher_costs
from experiments.distillation.simulator_answers import SimulatorAnswers, facts_of
from simulators.adapter import Simulator
from simulators.campaigns.config import CampaignConfig
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.from_smiles import from_smiles
from surrogates.learning.learned_from import read_hashes
from surrogates.learning.scores import scores
from surrogates.properties.property_table import PropertyTable
from surrogates.properties.scores import score_table
from surrogates.properties.surrogate import PropertySurrogate

#: Molecules that a surrogate answers before the answers are written.
PART_ROWS = 8192
#: Ends of names of outputs that are error bars of another output.
ERROR_BARS = ("_std", "_low", "_high")


@dataclass(frozen=True)
class MoleculeTeacher(AnsweringTeacher):
    """What answers for molecules.

    Attributes:
        units: unit of each target, in their order.
        binary: targets that are probabilities of binary labels.
        part_rows: number of rows that are answered before the answers are written; None for all.
    """

    units: Mapping[str, str]
    binary: tuple[str, ...]
    part_rows: int | None

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(self.units)

    @abstractmethod
    def inside(self, table: GraphTable) -> Bool[np.ndarray, " molecule"]:
        """Whether each molecule lies in its domain."""

    @abstractmethod
    def answers(
        self, smiles: Sequence[str], table: GraphTable
    ) -> tuple[Float[np.ndarray, "molecule target"], dict[int, str]]:
        """Its answers, NaN where there is none, and the reason of each failure by the place of the molecule."""

    @abstractmethod
    def score(self, labels: PropertyTable, rows: np.ndarray, prefix: str) -> dict[str, float]:
        """Its scores on labelled molecules."""

    @abstractmethod
    def timed(self, table: GraphTable) -> Callable[[], Any] | float:
        """A function that answers for molecules; or the processor time of one answer, s."""


@dataclass(frozen=True)
class SurrogateOfMolecules(MoleculeTeacher):
    """A trained surrogate as a teacher.

    Attributes:
        surrogate: the surrogate.
        directory: where it is saved.
    """

    surrogate: PropertySurrogate
    directory: Path

    @staticmethod
    def of(surrogate: PropertySurrogate, directory: Path) -> SurrogateOfMolecules:
        """The teacher.

        Raises:
            InputError: it asks another simulator itself.
        """
        if surrogate.standing is not None:
            raise InputError(
                f"the teacher stands on {surrogate.standing.name}, which would be asked about every molecule",
                where="teacher",
                remedy="Distil a surrogate that was trained without on=",
            )
        return SurrogateOfMolecules(
            surrogate.name,
            surrogate.fingerprint,
            surrogate.labels_fingerprint,
            read_hashes(directory),
            {},
            {name: surrogate.facts.units[name] for name in surrogate.targets},
            tuple(surrogate.facts.classification),
            PART_ROWS,
            surrogate,
            directory,
        )

    def inside(self, table: GraphTable) -> Bool[np.ndarray, " molecule"]:
        """See `MoleculeTeacher`."""
        return self.surrogate.facts.domain.holds(table)

    def answers(
        self, smiles: Sequence[str], table: GraphTable
    ) -> tuple[Float[np.ndarray, "molecule target"], dict[int, str]]:
        """See `MoleculeTeacher`."""
        return self.surrogate.raw(table)[0], {}

    def score(self, labels: PropertyTable, rows: np.ndarray, prefix: str) -> dict[str, float]:
        """See `MoleculeTeacher`."""
        return score_table(self.surrogate, labels, rows, prefix)

    def costs(self) -> dict[str, float]:
        """See `MoleculeTeacher`."""
        return teacher_costs(self.directory, self.surrogate.scores)

    def timed(self, table: GraphTable) -> Callable[[], Any] | float:
        """See `MoleculeTeacher`."""
        return partial(self.surrogate.raw, table)


@dataclass(frozen=True)
class SimulatorOfMolecules(MoleculeTeacher):
    """A simulator as a teacher: of SMILES, or of geometries, which are then made from SMILES.

    Its domain is what it answers: requests that fail are left out and counted.
    """

    asked: SimulatorAnswers = field(repr=False)

    @staticmethod
    def of(
        simulator: Simulator, conformers: ConformerConfig, store: Path, config: CampaignConfig
    ) -> SimulatorOfMolecules:
        """The teacher, whose answers go to a store.

        Raises:
            InputError: it takes no molecules, or gives no number.
        """
        outputs = [v for v in simulator.spec.outputs if not v.dims and v.dtype.startswith("float")]
        names = {v.name for v in outputs}
        units = {
            v.name: v.units
            for v in outputs
            if not any(v.name.endswith(end) and v.name.removesuffix(end) in names for end in ERROR_BARS)
        }
        takes = {v.name for v in simulator.spec.inputs}
        if not units or not takes & {"smiles", "positions"}:
            raise InputError(
                f"{simulator.name} does not give numbers for molecules",
                where="simulator",
                remedy="Name a simulator of molecules, such as admet or xtb, and its simulator.outputs",
            )
        asker = simulator if "smiles" in takes else from_smiles(simulator, conformers)
        asked = SimulatorAnswers(asker, store, config)
        print_of_it = asker.fingerprint
        return SimulatorOfMolecules(
            asker.name, print_of_it, print_of_it, None, facts_of(simulator), units, (), None, asked
        )

    def inside(self, table: GraphTable) -> Bool[np.ndarray, " molecule"]:
        """See `MoleculeTeacher`."""
        return np.ones(len(table), bool)

    def answers(
        self, smiles: Sequence[str], table: GraphTable
    ) -> tuple[Float[np.ndarray, "molecule target"], dict[int, str]]:
        """See `MoleculeTeacher`."""
        variables = self.asked.simulator.spec.inputs
        requests = (dataset(variables, {"smiles": text}) for text in canonical(list(smiles)))
        got = self.asked.ask(requests, self.targets, len(smiles))
        values = np.stack([got.column(name) for name in self.targets], axis=1)
        reasons = zip(got.status, got.message, strict=True)
        return values, {place: f"{kind}: {said}" for place, (kind, said) in enumerate(reasons) if kind != "ok"}

    def score(self, labels: PropertyTable, rows: np.ndarray, prefix: str) -> dict[str, float]:
        """See `MoleculeTeacher`."""
        if not len(rows):
            return {}
        values, _ = self.answers([labels.smiles[i] for i in rows], GraphTable.concat([]))
        metrics: dict[str, float] = {}
        for k, name in enumerate(self.targets):
            truth = labels.values[name][rows]
            present = np.isfinite(truth) & np.isfinite(values[:, k])
            if present.any():
                head = prefix if len(self.targets) == 1 else f"{prefix}/{name}"
                of_target = scores(truth[present], values[present, k], "1")
                metrics |= {f"{head}/{key}": value for key, value in of_target.items()}
        return metrics

    @property
    def core_seconds(self) -> float | None:
        """See `MoleculeTeacher`."""
        return self.asked.core_seconds

    def timed(self, table: GraphTable) -> Callable[[], Any] | float:
        """See `MoleculeTeacher`."""
        return self.asked.core_seconds_each
