"""The page of a run of active learning: its curve, whether the choice of frames paid, and its rounds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.pages.formatting import count, escape, number
from experiments.pages.reading_section import reading_table
from experiments.pages.run_page import page_of_run
from experiments.pages.screen_page import json_or_empty, numbers_table, rows_table

#: Entry of a round -> heading of its column.
COLUMNS = {
    "labels": "labels",
    "chosen": "chosen",
    "audit": "audit",
    "force_error_mev_per_angstrom": "error on audit, meV/Å",
    "chosen_force_error_mev_per_angstrom": "error on chosen, meV/Å",
    "uncertainty_rank_correlation": "rank correlation of uncertainty and error",
    "audit_energy_kt": "energy of audit, kT by coordinate",
    "chosen_energy_kt": "energy of chosen, kT by coordinate",
    "trial_difference": "difference of errors, chosen less random",
    "trial_frames": "on frames",
    "fell_back": "drawn at random",
}


def is_active(run_dir: Path) -> bool:
    """Whether a directory holds a finished run of active learning."""
    return all((run_dir / name).is_file() for name in ("active.json", "active.svg", "metrics.json"))


def render_active(run_dir: Path) -> str:
    """The page as text.

    Args:
        run_dir: with `active.json`, `active.svg` and `metrics.json`.
    """
    metrics, facts = json_or_empty(run_dir / "metrics.json"), json_or_empty(run_dir / "active.json")
    rounds = pd.DataFrame([row for row in facts.get("rounds", []) if isinstance(row, dict)])
    shown = rounds[[name for name in COLUMNS if name in rounds]].rename(columns=COLUMNS)
    choice = str(facts.get("choice") or "The choice of frames was not compared with random frames.")
    sections = [
        ("curve", "Error against labels", (run_dir / "active.svg").read_text(encoding="utf-8")),
        ("choice", "Does the choice of frames pay?", f"<p>{escape(_sentence(choice))}</p>"),
        ("rounds", "Rounds", rows_table(shown, "active.json")),
    ]
    if read := reading_table(run_dir):
        sections.append(("read", "What was read", read))
    sections.append(("numbers", "All numbers of this run", numbers_table(metrics)))
    tiles = {
        "labels": metrics.get("active/labels"),
        "rounds": metrics.get("active/rounds"),
        "meV/Å on fresh frames": metrics.get("active/force_error_mev_per_angstrom"),
        "core-seconds of labels": metrics.get("cost/labels_core_seconds"),
        "core-seconds of training": metrics.get("cost/training_core_seconds"),
    }
    return page_of_run(
        f"Active learning “{run_dir.resolve().name}”",
        subtitle=escape(str(facts.get("ended", ""))),
        finding=escape(_sentence(choice)),
        accuracy="Errors are mean absolute errors of a force component on frames that the surrogate had not learned.",
        tiles={text: _tile(text, float(v)) if isinstance(v, int | float) else None for text, v in tiles.items()},
        sections=sections,
    )


def _tile(name: str, value: float) -> str:
    return count(value) if name in ("labels", "rounds") else number(value)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
