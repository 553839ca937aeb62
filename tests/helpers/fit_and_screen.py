"""A training of molecular properties and a screen with it, on all devices of the process; runs on its own, too."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np

from data.molecules.featurise import encode
from data.splits import Split
from experiments.screening.library_screen import ScreenConfig, screen
from surrogates.learning.loop import TrainConfig
from surrogates.properties.fit import fit_property_surrogate
from surrogates.properties.mpnn import MPNNConfig
from surrogates.properties.property_table import read_table
from surrogates.properties.surrogate import PropertyConfig


def run(table: Path, out: Path) -> None:
    """Train on a table of 120 molecules with a column `heavy`, into `fit`, and screen the table, into `screen`."""
    labels = read_table(table, "smiles", ["heavy"], [], None)
    surrogate = fit_property_surrogate(
        encode(labels.smiles)[0],
        labels.values,
        Split.of({"train": np.arange(64), "valid": np.arange(64, 80), "calibration": np.arange(80, 100)}),
        PropertyConfig(MPNNConfig(features=16, layers=1, readout=16), ensemble=2, buckets=1),
        TrainConfig(epochs=3, learning_rate=5e-3, batch_size=16, checkpoint_every_s=None),
        out / "fit",
        units={"heavy": "1"},
        label_fingerprint="abc",
        progress=False,
    )
    assert surrogate.batch_size % len(jax.devices()) == 0
    screen(surrogate, table, out / "screen", ScreenConfig(top_k=5, workers=1), progress=False)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
