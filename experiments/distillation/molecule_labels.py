"""Labelled molecules of a distillation, under the names of the teacher's targets, and what is kept apart of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.identity import molecule_keys
from data.molecules.foreign import graphs
from data.molecules.graph_tables import GraphTable
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import names
from data.splits import Split
from experiments.distillation.molecule_teachers import MoleculeTeacher
from experiments.distillation.settings import DistilRequest
from surrogates.learning.part_sizes import PARTS
from surrogates.properties.property_split import labelled_split
from surrogates.properties.property_table import PropertyData, PropertyTable
from surrogates.properties.scores import in_units_of
from surrogates.properties.surrogate import PropertyConfig
from surrogates.properties.task import PropertyTask


@dataclass(frozen=True)
class LabelledMolecules:
    """Labelled molecules under the names of the teacher's targets.

    Attributes:
        table: the labels; empty where there are none.
        graphs: the molecules.
        split: rows of each part.
        keys: key of each molecule (`data.identity`).
    """

    table: PropertyTable
    graphs: GraphTable
    split: Split
    keys: list[str]

    def kept_apart(self) -> set[str]:
        """Keys of the molecules that nothing may be learned about: those of validation, calibration and tests."""
        apart = {self.keys[i] for name in PARTS[1:] for i in self.split[name]}
        return apart.union(*(molecule_keys(other.smiles) for other in self.table.others.values()))


def labelled_molecules(
    teacher: MoleculeTeacher,
    request: DistilRequest,
    config: PropertyConfig,
    rejects: RejectLog,
    readings: list[Reading],
) -> LabelledMolecules:
    """The labelled molecules, split, under the names of the teacher's targets; none where no file is named.

    Raises:
        InputError: the file lacks a column, has other units, or too few labels.
    """
    labelled = request.data
    columns = names(labelled.target, "data.target") or list(teacher.targets)
    if labelled.train is None:
        none: Any = {name: np.zeros(0) for name in teacher.targets}
        empty = PropertyTable([], none, dict(teacher.units), "", Reading("", "", "rows", 0, 0))
        rows: Any = {name: np.zeros(0, np.int64) for name in PARTS}
        return LabelledMolecules(empty, GraphTable.concat([]), Split(rows), [])
    if len(columns) != len(teacher.targets):
        raise InputError(
            f"{len(columns)} columns are named, the teacher has {len(teacher.targets)} targets "
            f"({', '.join(teacher.targets)})",
            where="data.target",
            remedy="Name one column for each, in that order",
        )
    of_target = dict(zip(teacher.targets, columns, strict=True))
    binary = [of_target[name] for name in teacher.binary]
    data = PropertyData(
        labelled.train,
        request.smiles,
        columns,
        classification=binary or None,
        split=labelled.split,
        test=labelled.test,
        seed=labelled.seed,
        parts=labelled.parts,
    )
    read = PropertyTask(data, config, request.training).read(rejects, readings)

    def renamed(table: PropertyTable) -> PropertyTable:
        fitting = in_units_of(teacher.units, table, of_target, Path(table.reading.source))
        values = {target: fitting.values[column] for target, column in of_target.items()}
        return replace(fitting, values=values, units=dict(teacher.units), classification=teacher.binary)

    table = replace(renamed(read), others={name: renamed(other) for name, other in read.others.items()})
    split = labelled_split(table, data)
    return LabelledMolecules(table, graphs(table.smiles, str(labelled.train)), split, molecule_keys(table.smiles))


def answers_for(
    teacher: MoleculeTeacher, truth: LabelledMolecules, *parts: str
) -> Float[np.ndarray, "molecule target"]:
    """The teacher's answers for labelled molecules of some parts that lie in its domain; NaN for the others."""
    answers = np.full((len(truth.graphs), len(teacher.targets)), np.nan)
    rows = np.concatenate([np.asarray(truth.split[part], np.int64) for part in parts])
    rows = rows[teacher.inside(truth.graphs.take(rows))]
    if len(rows):
        answers[rows] = teacher.answers([truth.table.smiles[i] for i in rows], truth.graphs.take(rows))[0]
    return answers
