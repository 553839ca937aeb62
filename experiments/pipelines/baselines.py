"""Baselines that a surrogate has to beat: the mean, a linear fit to the cheap method, and fingerprints.

Each baseline is fitted on the training part alone. Fingerprints are Morgan counts of radius 2
(Rogers and Hahn, J. Chem. Inf. Model. 2010, 50, 742) under ridge regression, with its penalty by
leave-one-out, and under a random forest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from rdkit.Chem import rdFingerprintGenerator

from data.molecules.smiles import parse_smiles

BITS = 2048
NAMES = ("mean", "cheap_linear", "morgan_ridge", "morgan_forest")


def morgan_counts(smiles: Sequence[str]) -> Float[np.ndarray, "molecule bit"]:
    """Morgan count fingerprints of radius 2, folded to 2048 bits, one row a SMILES (all valid)."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS)
    return np.stack([generator.GetCountFingerprintAsNumPy(parse_smiles(s)) for s in smiles]).astype(float)


def predictions(
    fingerprints: Float[np.ndarray, "molecule bit"],
    cheap: Float[np.ndarray, " molecule"],
    truth: Float[np.ndarray, " molecule"],
    train: Int[np.ndarray, " train"],
    *,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " molecule"]]:
    """Predictions of every baseline for every molecule, in the unit of `truth`.

    Args:
        fingerprints: `morgan_counts` of the molecules.
        cheap: the same property by the cheap method.
        truth: the property by the expensive method; only its training rows are read.
        train: indices of the training part.
        seed: seed of the random forest.
    """
    # A command that is refused, or resumes behind this, does not import scikit-learn.
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression, RidgeCV

    y = truth[train]
    linear = LinearRegression().fit(cheap[train, None], y)
    ridge = RidgeCV(alphas=np.logspace(-1, 4, 16)).fit(fingerprints[train], y)
    forest = RandomForestRegressor(500, min_samples_leaf=1, max_features=0.33, random_state=seed, n_jobs=1)
    forest.fit(fingerprints[train], y)
    return {
        "mean": np.full(len(truth), y.mean()),
        "cheap_linear": linear.predict(cheap[:, None]),
        "morgan_ridge": ridge.predict(fingerprints),
        "morgan_forest": forest.predict(fingerprints),
    }
