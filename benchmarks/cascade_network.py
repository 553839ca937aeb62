"""Trains the 2D network of the benchmark of cascades on chosen molecules, and predicts others.

Each step is a command of Understudy, whose results are kept, so that a killed benchmark goes on where it was.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from data.files import listed_path
from data.json_files import read_plain
from experiments.screening.ledger import result_parts

AGAIN = "Remove the directory and run again"


@dataclass(frozen=True)
class NetworkPredictions:
    """What the network says, and what it cost.

    Attributes:
        mean: prediction of each molecule, Hartree; -1 for those that it was not asked for.
        core_seconds: processor time of training and prediction.
    """

    mean: Float[np.ndarray, " molecule"]
    core_seconds: float


def network(
    path: Path, labelled: Int[np.ndarray, " row"], predicted: Int[np.ndarray, " row"], out: Path
) -> NetworkPredictions:
    """Train two members on labelled molecules, and predict some.

    Args:
        path: table of all molecules, with columns smiles and band_gap.
        labelled: rows to train on.
        predicted: rows to predict.
        out: directory of the results.
    """
    with open(path, newline="") as file:
        rows = [(row["smiles"], row["band_gap"]) for row in csv.DictReader(file)]
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "train.csv", rows, labelled)
    _write(out / "candidates.csv", rows, predicted)
    if not (out / "run" / "surrogate" / "surrogate.json").is_file():
        _understudy(
            "train", f"data.file={out / 'train.csv'}", "data.target=band_gap", "model.ensemble=2",
            f"run.dir={out / 'run'}",
        )  # fmt: skip
    if not (out / "screen" / "top.csv").is_file():
        _understudy(
            "screen", f"surrogate={out / 'run'}", f"candidates={out / 'candidates.csv'}", f"out={out / 'screen'}",
            "top_k=10", "workers=1", "objective.require_domain=false",
        )  # fmt: skip
    frame = pd.concat([pd.read_parquet(p, columns=["line", "band_gap"]) for p in result_parts(out / "screen")])
    mean = np.full(len(rows), -1.0)
    # The header is line 1.
    mean[predicted[frame["line"].to_numpy() - 2]] = frame["band_gap"]
    trained = read_plain(out / "run" / "metrics.json", dict[str, float], remedy=AGAIN)
    screened = read_plain(out / "screen" / "metrics.json", dict[str, float], remedy=AGAIN)
    return NetworkPredictions(mean, trained["train/core_seconds"] + screened["screen/core_seconds"])


def _write(path: Path, rows: Sequence[tuple[str, str]], some: Int[np.ndarray, " row"]) -> None:
    if not path.is_file():
        with listed_path(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("smiles", "band_gap"))
            writer.writerows(rows[i] for i in some)


def _understudy(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "understudy", *words], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
