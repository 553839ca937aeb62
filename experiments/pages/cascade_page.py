"""The page of a cascade: its funnel by rung, what each rung cost, and what it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from data.checksums import verify
from experiments.pages.formatting import count, escape, number
from experiments.pages.reading_section import reading_table
from experiments.pages.run_page import page_of_run
from experiments.pages.screen_page import json_or_empty, numbers_table, rows_table
from experiments.pages.work_section import read_works, work_section
from experiments.screening.column_units import read_column_units

HEADINGS = (
    "rung", "in", "out", "without an answer", "share of hits lost", "at most", "answered", "core-seconds",
    "core-seconds each",
)  # fmt: skip


def is_cascade(run_dir: Path) -> bool:
    """Whether a directory holds a finished screen by a cascade."""
    return all((run_dir / name).is_file() for name in ("cascade.json", "metrics.json", "kept.parquet"))


def render_cascade(run_dir: Path) -> str:
    """The page as text.

    Args:
        run_dir: with `cascade.json`, `metrics.json`, `thresholds.json`, `kept.parquet` and `failures.csv`.
    """
    metrics, card = json_or_empty(run_dir / "metrics.json"), json_or_empty(run_dir / "cascade.json")
    rungs = [rung for rung in card.get("rungs", []) if isinstance(rung, dict)]
    sections = [("funnel", "From candidates to hits", _funnel(metrics, rungs))]
    kept = run_dir / "kept.parquet"
    verify(kept, remedy="Run the cascade again, which writes it anew")
    hits = pd.read_parquet(kept)
    without = [c for c in hits if c in ("hit", "group") or str(c).endswith(("_message", "_status"))]
    hits = hits[hits["hit"]].drop(columns=without)
    units, labels = read_column_units(run_dir), [str(rung.get("label")) for rung in rungs]
    sections.append(("hits", "Hits", rows_table(hits, "kept.parquet", units, labels)))
    if works := read_works(run_dir):
        sections.insert(1, ("work", "Where the core-seconds and the bytes went", work_section(works)))
    if "cascade/fdr_promised" in metrics:
        verify(run_dir / "shortlist.parquet", remedy="Run the cascade again, which writes it anew")
        listed = pd.read_parquet(run_dir / "shortlist.parquet")
        sections.insert(1, ("shortlist", "Shortlist", rows_table(listed, "shortlist.parquet", units, labels)))
    failures = run_dir / "failures.csv"
    if failures.is_file():
        verify(failures, remedy="Run the cascade again, which writes it anew")
        failed = pd.read_csv(failures)
        if len(failed):
            sections.append(
                ("failures", "Candidates without an answer", rows_table(failed, "failures.csv", units, labels))
            )
    if read := reading_table(run_dir / "rung-0"):
        sections.append(("read", "What was read", read))
    sections.append(("numbers", "All numbers of this cascade", numbers_table(metrics)))
    tiles = {
        "candidates": metrics.get("cascade/candidates"),
        "labels of the last rung": metrics.get("cascade/labels"),
        "hits": metrics.get("cascade/hits"),
        "in the shortlist": metrics.get("cascade/shortlist"),
        "core-seconds": metrics.get("cascade/core_seconds"),
        "times cheaper than the last rung on all": metrics.get("cascade/speedup"),
    }
    return page_of_run(
        f"Cascade “{run_dir.resolve().name}”",
        subtitle=escape(" → ".join(labels)),
        finding=_finding(metrics),
        accuracy="A hit is a candidate whose answers of the last rung lie in the intervals of the objective. The shares "
        "of hits lost are estimates from the labelled candidates, and their bounds hold together with the confidence of "
        "the promise.",
        tiles={text: _shown(text, float(v)) if isinstance(v, int | float) else None for text, v in tiles.items()},
        sections=sections,
    )


def _shown(name: str, value: float) -> str:
    """The value of a tile: what is counted as a whole number."""
    return number(value) if name.startswith(("core-seconds", "times")) else count(value)


def _finding(metrics: dict[str, Any]) -> str:
    level = metrics.get("cascade/fdr_promised")
    if isinstance(level, int | float):
        return (
            f"The shortlist has {count(float(metrics.get('cascade/shortlist', 0)))} candidates, of which an expected "
            f"share of {level:.0%} at most are no hits."
        )
    recall, confidence = metrics.get("cascade/recall_promised"), metrics.get("cascade/confidence")
    if not isinstance(recall, int | float) or not isinstance(confidence, int | float):
        return ""
    return (
        f"The last rung receives {recall:.0%} of all hits or more, with a confidence of {confidence:.0%}: "
        f"{count(float(metrics.get('cascade/hits', 0)))} hits are confirmed."
    )


def _funnel(metrics: dict[str, Any], rungs: list[dict[str, Any]]) -> str:
    keys = (
        "in", "out", "failed", "share_of_hits_lost", "share_of_hits_lost_bound", "answered", "core_seconds",
        "core_seconds_per_candidate",
    )  # fmt: skip
    rows = []
    for place, rung in enumerate(rungs):
        cells = [f"{place} {rung.get('label')}"]
        for key in keys:
            value = metrics.get(f"cascade/rung/{place}/{key}")
            if not isinstance(value, int | float):
                cells.append("")
            elif key.startswith("share"):
                cells.append(f"{value:.1%}")
            else:
                cells.append(f"{value:,.0f}" if key in ("in", "out", "failed", "answered") else number(float(value)))
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADINGS)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
