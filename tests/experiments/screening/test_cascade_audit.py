"""An audit keeps its promise with any score, and what no draws could prove is refused before a label is paid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from data.errors import InputError
from experiments.screening.cascade.audit import AnsweredCandidates, AuditResult, audit
from experiments.screening.cascade.population import FailurePolicy, Population
from experiments.screening.cascade.settings import CalibrationSettings
from surrogates.cascade.elusion import quiet_share
from surrogates.cascade.promise import Promise
from surrogates.cascade.scoring import HitRule

COUNT = 3000
TRUTH = np.random.default_rng(0).normal(size=COUNT)
HIT = float(np.quantile(TRUTH, 0.95))


def library(path: Path, misleading: bool) -> Population:
    """Candidates whose predictions are off by a third; if misleading, a third of the hits look worst."""
    rng = np.random.default_rng(1)
    mean = TRUTH + 0.3 * rng.normal(size=COUNT)
    if misleading:
        mean[(TRUTH >= HIT) & (rng.random(COUNT) < 0.33)] = -4.0
    pd.DataFrame({"line": np.arange(COUNT), "smiles": "C", "gap": mean, "gap_std": 0.3}).to_parquet(path)
    return Population([path], HitRule({"gap": (HIT, np.inf)}), FailurePolicy())


def run(population: Population, seed: int, labels: int = 800, answered: float = 1.0) -> tuple[AuditResult, int]:
    asked = []

    def ask(frame: pd.DataFrame) -> AnsweredCandidates:
        asked.append(len(frame))
        rows = frame["number"].to_numpy()
        labelled = np.random.default_rng(5).random(COUNT)[rows] < answered
        return AnsweredCandidates(frame, labelled, labelled & (TRUTH[rows] >= HIT))

    how = CalibrationSettings(labels=labels, sampling="audit", seed=seed)
    return audit(population, how, Promise(0.8, 0.9, 1), ask), sum(asked)


@pytest.mark.parametrize("misleading", [False, True])
def test_an_audit_keeps_its_promise_also_if_the_score_misleads(tmp_path: Path, misleading: bool) -> None:
    population = library(tmp_path / "part.parquet", misleading)
    scores = np.concatenate([score for _, score, _ in population.at_least(-np.inf)])
    broken, promised, repeats = 0, 0, 20
    for seed in range(repeats):
        result, asked = run(population, seed)
        assert asked == len(result.sampled) == result.sampled["number"].nunique()
        assert result.sampled["hit"].sum() == (TRUTH[result.sampled["number"]] >= HIT).sum()
        if np.isfinite(result.stage.threshold):
            promised += 1
            labelled = np.isin(np.arange(COUNT), result.sampled["number"]) | (scores >= result.stage.threshold)
            broken += (TRUTH[labelled] >= HIT).sum() < 0.8 * (TRUTH >= HIT).sum()
    assert broken <= binom.ppf(1 - 1e-4, repeats, 0.1)
    assert promised == repeats if not misleading else promised < repeats / 2


def test_what_no_draws_could_prove_is_refused_before_a_label_is_paid(tmp_path: Path) -> None:
    population = library(tmp_path / "part.parquet", misleading=False)
    with pytest.raises(InputError, match=r"takes \d+ draws or more of the other \d+ candidates, and 30 are allowed"):
        run(population, 0, labels=30)
    assert quiet_share(150, 0.8, 0.1) * 2800 > 30  # and this is so whatever is drawn


def test_candidates_without_a_label_lower_the_threshold_until_nothing_is_promised(tmp_path: Path) -> None:
    population = library(tmp_path / "part.parquet", misleading=False)
    every, most, few = (run(population, 3, answered=share)[0].stage.threshold for share in (1.0, 0.99, 0.6))
    assert every >= most >= few == -np.inf


def test_an_audit_is_for_two_rungs() -> None:
    how = CalibrationSettings(sampling="audit")
    how.refuse_stages(1)
    with pytest.raises(InputError, match="two rungs, got 3"):
        how.refuse_stages(2)
