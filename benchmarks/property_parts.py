"""Tables of measured molecular properties that the user brings, their parts, and the scores of predictions of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from data.errors import InputError

if TYPE_CHECKING:
    from data.rejects import RejectLog

#: By kind of label: the score that decides, and whether a larger one is better. They are those that MoleculeNet
#: (Wu et al. 2018, doi:10.1039/C7SC02664A, table 1) recommends for the tables of these kinds that are used here.
DECIDES = {"regression": ("rmse", False), "classification": ("roc_auc", True)}
#: Names of the columns of the files that are written for a training.
SMILES, TARGET, PART = "smiles", "target", "part"
#: Shares of the molecules. The peer, which calibrates no intervals, gets the calibration part for its validation too.
SHARES = {"train": 0.8, "valid": 0.05, "calibration": 0.05, "test": 0.1}


@dataclass(frozen=True)
class TableChoice:
    """What `--table` names.

    Attributes:
        file: table with SMILES.
        column: column with the labels.
        kind: one of `DECIDES`.
        smiles: column with SMILES.
    """

    file: Path
    column: str
    kind: str
    smiles: str = SMILES

    @staticmethod
    def parse(text: str) -> TableChoice:
        """The choice that FILE:COLUMN:KIND or FILE:COLUMN:KIND:SMILES_COLUMN states.

        Raises:
            InputError: it has another form, or there is no such kind or file.
        """
        pieces = text.split(":")
        if len(pieces) not in (3, 4) or not all(pieces):
            raise InputError(
                f"{text!r} is not FILE:COLUMN:KIND or FILE:COLUMN:KIND:SMILES_COLUMN",
                where="--table",
                remedy="For example esol.csv:solubility:regression",
            )
        choice = TableChoice(Path(pieces[0]).expanduser(), *pieces[1:])
        if choice.kind not in DECIDES:
            raise InputError(f"{choice.kind!r} is no kind", where="--table", remedy=f"Write {' or '.join(DECIDES)}")
        if not choice.file.is_file():
            raise InputError(f"no such file: {choice.file}", where="--table", remedy="The guide says who publishes it")
        return choice

    @property
    def name(self) -> str:
        """Name in results: that of the file, and the column where several of one file are compared."""
        return f"{self.file.stem}:{self.column}"


@dataclass(frozen=True)
class Labels:
    """Molecules of a table that have a label: SMILES, and labels (molecule,) in the unit of the table."""

    smiles: list[str]
    values: Float[np.ndarray, " molecule"]

    def write(self, path: Path, rows: Int[np.ndarray, " row"], parts: Sequence[str] = ()) -> Path:
        """Write some rows to a CSV file, with the part of each row if `parts` names them, and return its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([SMILES, TARGET, *([PART] if parts else [])])
            for place, row in enumerate(rows.tolist()):
                writer.writerow([self.smiles[row], repr(float(self.values[row])), *([parts[place]] if parts else [])])
        return path


def read_labels(choice: TableChoice, rejects: RejectLog) -> Labels:
    """The molecules that have a label and that RDKit can read; the others go to `rejects`."""
    from surrogates.properties.property_table import read_table

    binary = [choice.column] if choice.kind == "classification" else []
    table = read_table(choice.file, choice.smiles, [choice.column], [], rejects, classification=binary)
    return Labels(table.smiles, table.values[choice.column])


def draw_parts(labels: Labels, split: str, seed: int) -> dict[str, Int[np.ndarray, " row"]]:
    """The rows of each part, which both sides share; the molecules of a part are in no other one."""
    from surrogates.properties.property_split import SPLITS

    drawn = SPLITS[split](labels.smiles, SHARES, seed=seed)
    return {name: np.asarray(drawn[name]) for name in SHARES}


def score(
    kind: str, truth: Float[np.ndarray, " molecule"], predicted: Float[np.ndarray, " molecule"]
) -> dict[str, float]:
    """MAE, RMSE and rank correlation of numbers; ROC-AUC, PR-AUC, log loss and calibration error of probabilities."""
    from surrogates.learning.scores import scores
    from surrogates.properties.probability import probability_scores

    if not np.isfinite(predicted).all():
        raise RuntimeError("a prediction is not finite")
    numbers = scores(truth, predicted, "1") if kind == "regression" else probability_scores(truth, predicted)
    if DECIDES[kind][0] not in numbers:
        raise InputError(
            "the test part has labels of one kind only, which no ROC curve ranks",
            where="--table",
            remedy="Give a larger table, another split or another seed",
        )
    return numbers


def verdict(kind: str, ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> str:
    """What the deciding score says of some seeds, which pair the two sides.

    A tie is a mean difference of no more than the standard deviation of the differences over the seeds. One seed has
    no spread, so that nothing is said of it but the sign, with a question mark. Our side is called slower where its
    trainings took more processor time.

    Args:
        kind: kind of label.
        ours, theirs: the scores and the `core_seconds` of each seed.
    """
    name, larger_is_better = DECIDES[kind]
    difference, longer = (
        np.array([mine[key] - its[key] for mine, its in zip(ours, theirs, strict=True)])
        for key in (name, "core_seconds")
    )
    if not larger_is_better:
        difference = -difference
    said = "win" if difference.mean() > 0 else "loss"
    if len(difference) < 2:
        said += "?"
    elif abs(difference.mean()) <= difference.std(ddof=1):
        said = "tie"
    return f"{said}, slower" if longer.mean() > 0 else said
