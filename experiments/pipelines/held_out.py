"""Held-out scores of a multi-fidelity surrogate and of its baselines, and its learning curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from data.files import listed_path
from data.molecules.foreign import encode
from experiments.pipelines import baselines
from surrogates.learning.scores import scores, unit_suffix
from surrogates.properties.surrogate import PropertySurrogate


@dataclass(frozen=True)
class HeldOutLabels:
    """Molecules with labels of the expensive simulator, and everything that predictions are compared with.

    Attributes:
        smiles: SMILES of the molecules.
        parts: indices of the parts "train", "calibration" and "test".
        expensive, cheap: each target by the expensive and by the cheap simulator, arrays (molecule,) in the unit of
            `units`.
        units: unit of each target.
        fingerprints: Morgan counts (molecule, bit).
    """

    smiles: list[str]
    parts: Mapping[str, Int[np.ndarray, " part"]]
    expensive: Mapping[str, Float[np.ndarray, " molecule"]]
    cheap: Mapping[str, Float[np.ndarray, " molecule"]]
    units: Mapping[str, str]
    fingerprints: Float[np.ndarray, "molecule bit"]


def predict(surrogate: PropertySurrogate, smiles: Sequence[str]) -> dict[str, np.ndarray]:
    """Predictions of the surrogate for SMILES, in their order.

    Raises:
        ValueError: a SMILES cannot be read.
    """
    table, rejected = encode(smiles)
    if rejected:
        raise ValueError(f"{len(rejected)} SMILES cannot be read, the first: {smiles[rejected[0][0]]}")
    return surrogate.predict_table(table)


def evaluate(
    surrogate: PropertySurrogate,
    case: HeldOutLabels,
    out: Path,
    *,
    seed: int,
    refined: Mapping[str, Float[np.ndarray, " molecule"]] | None = None,
) -> dict[str, float]:
    """Score the surrogate and every baseline on the test part, and save every prediction.

    Args:
        surrogate: fine-tuned on the training part and calibrated on the calibration part.
        case: labelled molecules.
        out: Parquet file that receives one row for each molecule: truth, predictions and intervals.
        seed: seed of the random forest.
        refined: predictions of the middle rung from the cheap simulator's answers, `<t>`, `<t>_low` and `<t>_high`.

    Returns:
        Metrics under `evaluate/<target>/<method>/...`, with the unit in the key.
    """
    part = np.empty(len(case.smiles), dtype=object)
    for name, rows in case.parts.items():
        part[rows] = name
    frame: dict[str, Any] = {"smiles": case.smiles, "part": part}
    metrics: dict[str, float] = {}
    answer = predict(surrogate, case.smiles)
    test = case.parts["test"]
    for target, truth in case.expensive.items():
        unit = case.units[target]
        low, high = answer[f"{target}_low"], answer[f"{target}_high"]
        frame |= {target: truth, f"{target}_pred": answer[target], f"{target}_std": answer[f"{target}_std"]}
        frame |= {f"{target}_low": low, f"{target}_high": high, f"{target}_cheap": case.cheap[target]}
        test_scores = scores(truth[test], answer[target][test], unit, low=low[test], high=high[test])
        metrics |= {f"evaluate/{target}/surrogate/{name}": value for name, value in test_scores.items()}
        others = baselines.predictions(case.fingerprints, case.cheap[target], truth, case.parts["train"], seed=seed)
        for method, values in others.items():
            frame[f"{target}_{method}"] = values
            test_scores = scores(truth[test], values[test], unit)
            metrics |= {f"evaluate/{target}/{method}/{name}": value for name, value in test_scores.items()}
        if refined:
            frame[f"{target}_refined"], low, high = (refined[f"{target}{end}"] for end in ("", "_low", "_high"))
            test_scores = scores(truth[test], refined[target][test], unit, low=low[test], high=high[test])
            metrics |= {f"evaluate/{target}/refined/{name}": value for name, value in test_scores.items()}
    metrics["evaluate/test_molecules"] = float(len(test))
    with listed_path(out) as temporary:
        pd.DataFrame(frame).to_parquet(temporary)
    return metrics


def learning_curve(
    fit: Callable[[Int[np.ndarray, " train"]], PropertySurrogate],
    case: HeldOutLabels,
    counts: Sequence[int],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Test errors after each number of expensive training labels, for the surrogate and the fitted baselines.

    Args:
        fit: trains a surrogate on these rows.
        case: labelled molecules; the first rows of its training part are used.
        counts: numbers of labels; those above the size of the training part are skipped.
        seed: seed of the random forest.

    Returns:
        Rows {method, target, labels, mae, unit, seconds}; seconds are the wall time of the fit and its predictions.
    """
    rows: list[dict[str, Any]] = []
    test = case.parts["test"]
    for count in counts:
        train = case.parts["train"][:count]
        if len(train) < count:
            continue
        start = time.perf_counter()
        answer = predict(fit(train), [case.smiles[i] for i in test])
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        others = {
            target: baselines.predictions(case.fingerprints, case.cheap[target], truth, train, seed=seed)
            for target, truth in case.expensive.items()
        }
        others_seconds = (time.perf_counter() - start) / (len(baselines.NAMES) * len(case.expensive))
        for target, truth in case.expensive.items():
            unit = case.units[target]
            key = f"mae{unit_suffix(unit)}"
            methods = {"surrogate": (answer[target], seconds)}
            methods |= {name: (values[test], others_seconds) for name, values in others[target].items()}
            for name, (values, spent) in methods.items():
                error = scores(truth[test], values, unit)[key]
                rows.append(
                    {"method": name, "target": target, "labels": count, "mae": error, "unit": unit, "seconds": spent}
                )
    return rows
