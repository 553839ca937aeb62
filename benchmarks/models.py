"""Trains surrogates for the benchmarks with the same configuration and functions as `understudy train`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from data.settings import build
from experiments.application.choices import CONF

if TYPE_CHECKING:
    from surrogates.learning.loop import TrainConfig
    from surrogates.properties.surrogate import PropertyConfig, PropertySurrogate

MEV_PER_HARTREE = 27211.386245988


@dataclass(frozen=True)
class Gaps:
    """HOMO-LUMO gaps of QM9: SMILES strings, and gaps (molecule,) in meV."""

    smiles: list[str]
    gap: Float[np.ndarray, " molecule"]

    def write(self, path: Path, rows: Int[np.ndarray, " row"]) -> Path:
        """Write some rows to a CSV file with the columns smiles and gap, and return its path."""
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["smiles", "gap"])
            writer.writerows((self.smiles[i], repr(float(self.gap[i]))) for i in rows)
        return path


def read_gaps(path: Path) -> Gaps:
    """Read the file of gaps in Hartree, and convert them to meV."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    gap = np.array([float(row["band_gap"]) for row in rows]) * MEV_PER_HARTREE
    return Gaps([row["smiles"] for row in rows], gap)


def default_configuration(
    max_seconds: float | None, overrides: Sequence[str] = ()
) -> tuple[PropertyConfig, TrainConfig]:
    """The default network and recipe of `understudy train task=molecules/properties`.

    Args:
        max_seconds: training time limit; None for no limit.
        overrides: configuration overrides as on the command line.
    """
    from hydra import compose, initialize_config_dir

    from surrogates.learning.loop import TrainConfig
    from surrogates.properties.task import PropertyTask

    settings = ["task=molecules/properties", "data.file=gaps.csv", "data.target=gap", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", settings)
    model = PropertyTask.model_settings(composed.model)
    recipe = build(TrainConfig, composed.train, where="train")
    return model, recipe if max_seconds is None else replace(recipe, max_seconds=max_seconds)


def fit(
    gaps: Gaps,
    parts: dict[str, Int[np.ndarray, " row"]],
    out: Path,
    *,
    max_seconds: float | None,
    overrides: Sequence[str] = (),
) -> PropertySurrogate:
    """Train on the rows of `parts` (train, valid, calibration) and save to `out/surrogate`.

    Args:
        gaps: labels.
        parts: rows of `gaps` for each part.
        out: run directory.
        max_seconds: training time limit; None for no limit.
        overrides: overrides of the default configuration.
    """
    from data.molecules.featurise import encode
    from data.spec import content_hash
    from data.splits import Split
    from surrogates.properties.fit import fit_property_surrogate

    model, recipe = default_configuration(max_seconds, overrides)
    rows = np.concatenate([parts[name] for name in ("train", "valid", "calibration")])
    table, bad = encode([gaps.smiles[i] for i in rows])
    if bad:
        raise ValueError(f"{len(bad)} rows of the labels are not molecules; the first one: {bad[0]}")
    ends = np.cumsum([0] + [len(parts[name]) for name in ("train", "valid", "calibration")])
    local = {
        name: np.arange(a, b) for name, a, b in zip(("train", "valid", "calibration"), ends, ends[1:], strict=False)
    }
    surrogate = fit_property_surrogate(
        table,
        {"gap": gaps.gap[rows]},
        Split.of(local),
        model,
        recipe,
        out,
        init=None,
        label_fingerprint=content_hash([gaps.smiles[i] for i in rows] + gaps.gap[rows].tolist()),
        units={"gap": "meV"},
    )
    surrogate.save(out / "surrogate")
    return surrogate
