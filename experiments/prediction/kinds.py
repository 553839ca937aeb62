"""Answers to the files of each kind of surrogate; `understudy predict` looks the functions up by the kind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.settings import build
from experiments.prediction.delivery import Delivered
from experiments.prediction.molecule_output import SUFFIXES
from experiments.prediction.rows import RowAnswers, RowQuestion, predict_rows
from experiments.prediction.table_output import table_kind
from experiments.prediction.tables import molecules_question, numbers_question
from experiments.prediction.truth import TruthScores
from experiments.screening.library_screen import ScreenConfig

LOG = logging.getLogger(__name__)


def predict_molecules(surrogate: Any, inputs: Path, out: Path, run_dir: Path, settings: Mapping[str, Any]) -> Delivered:
    """Answer every molecule of a file with a table; see `experiments.prediction.rows`."""
    structures = table_kind(out, molecules=True)[0] in SUFFIXES
    question = molecules_question(
        surrogate,
        inputs,
        settings["smiles"],
        settings["columns"],
        settings["target"],
        settings["standardise"],
        structures=structures,
    )
    how = {name: settings[name] for name in ("smiles", "standardise", "workers")}
    return _rows(surrogate, question, out, run_dir, build(ScreenConfig, how, where=""))


def predict_numbers(surrogate: Any, inputs: Path, out: Path, run_dir: Path, settings: Mapping[str, Any]) -> Delivered:
    """Answer every row of parameters with a table; see `experiments.prediction.rows`."""
    table_kind(out)
    question = numbers_question(surrogate, inputs, settings["columns"], settings["target"])
    return _rows(surrogate, question, out, run_dir, ScreenConfig())


def _rows(surrogate: Any, question: RowQuestion, out: Path, run_dir: Path, how: ScreenConfig) -> Delivered:
    answers: RowAnswers = predict_rows(surrogate, question, out, run_dir, how)
    one = answers.summary
    said: dict[str, object] = {
        "rows": f"{one.read:,}" + (f" ({one.resumed:,} before)" if one.resumed else ""),
        "without an answer": f"{one.rejected:,}, with the reason beside them and in {run_dir / 'rejects.csv'}",
        "outside the training domain": f"{one.out_of_domain:,}",
        "rate": f"{one.per_second:,.0f} rows/s over {one.seconds:.1f} s (and {one.startup_seconds:.1f} s to start)",
        "peak memory": f"{one.peak_memory_mb:,.0f} MB",
    }
    units = [f"{target} in {unit}" for target, unit in question.units.items() if unit not in ("", "1")]
    if units:
        said["units"] = ", ".join(units)
    for target, scores in answers.scores.items():
        if isinstance(scores, TruthScores) and scores.pairs:
            unit = scores.unit if scores.unit not in ("", "1") else "the unit of the predictions"
            said[f"{target}: truth"] = f"taken in {unit}, since a table states none" + (
                f"; {scores.doubt}" if scores.doubt else ""
            )
            if scores.doubt:
                LOG.warning("%s: the true values are taken in %s, and %s", target, unit, scores.doubt)
        said |= {f"{target}: {name}": f"{value:.6g}" for name, value in scores.metrics().items()}
    return Delivered(answers.metrics(), said, answers.scores, answers.columns)
