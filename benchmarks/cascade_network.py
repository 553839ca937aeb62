"""Trains the 2D network of the benchmark of cascades in two rounds: on random molecules, then also on its best ones.

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

from experiments.application.usage import cpu_seconds
from experiments.screening.ledger import result_parts


@dataclass(frozen=True)
class NetworkPredictions:
    """What the network says of all molecules, and what it cost.

    Attributes:
        labelled: rows with a label, of both rounds.
        mean, std: prediction of each molecule and the standard deviation of its error, Hartree.
        core_seconds: processor time of trainings and predictions.
    """

    labelled: Int[np.ndarray, " row"]
    mean: Float[np.ndarray, " molecule"]
    std: Float[np.ndarray, " molecule"]
    core_seconds: float


def network(path: Path, random: int, chosen: int, seconds: float, out: Path) -> NetworkPredictions:
    """Train on random molecules, then also on those with the largest predictions, and predict all.

    Args:
        path: table of all molecules, with columns smiles and band_gap.
        random: number of labels of the first round.
        chosen: number of labels that the second round adds.
        seconds: largest wall time of each training, s.
        out: directory of the rounds.
    """
    with open(path, newline="") as file:
        rows = [(row["smiles"], row["band_gap"]) for row in csv.DictReader(file)]
    labelled = np.random.default_rng(0).permutation(len(rows))[:random]
    began = cpu_seconds()
    mean, std = _round(path, rows, labelled, seconds, out / "round-0")
    score = mean.copy()
    score[labelled] = -np.inf
    labelled = np.append(labelled, np.argsort(-score, kind="stable")[:chosen])
    mean, std = _round(path, rows, labelled, seconds, out / "round-1")
    return NetworkPredictions(labelled, mean, std, cpu_seconds() - began)


def _round(
    path: Path, rows: Sequence[tuple[str, str]], labelled: np.ndarray, seconds: float, out: Path
) -> tuple[np.ndarray, np.ndarray]:
    out.mkdir(parents=True, exist_ok=True)
    table = out / "train.csv"
    if not table.is_file():
        with open(table, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("smiles", "band_gap"))
            writer.writerows(rows[i] for i in labelled)
    if not (out / "run" / "surrogate" / "surrogate.json").is_file():
        _understudy(
            "train", f"data.file={table}", "data.target=band_gap", "model.ensemble=2", f"train.max_seconds={seconds}",
            f"run.dir={out / 'run'}",
        )  # fmt: skip
    if not (out / "screen" / "top.csv").is_file():
        _understudy(
            "screen", f"surrogate={out / 'run'}", f"candidates={path}", f"out={out / 'screen'}", "top_k=10",
            "workers=1", "objective.require_domain=false",
        )  # fmt: skip
    names = ["line", "band_gap", "band_gap_std"]
    frame = pd.concat([pd.read_parquet(part, columns=names) for part in result_parts(out / "screen")])
    mean, std = np.full(len(rows), -np.inf), np.ones(len(rows))
    # The header is line 1.
    place = frame["line"].to_numpy() - 2
    mean[place], std[place] = frame["band_gap"], frame["band_gap_std"]
    return mean, std


def _understudy(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "understudy", *words], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
