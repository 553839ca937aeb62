"""The page of a run of `understudy screen`: what was screened, the best, and how they fared when they were solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from data.checksums import read_bytes, verify
from data.errors import CorruptStoreError
from data.json_files import parse_json
from experiments.pages.column_headings import heading
from experiments.pages.formatting import count, escape, number
from experiments.pages.reading_section import reading_table
from experiments.pages.run_page import page_of_run
from experiments.screening.column_units import read_column_units

#: Rows of a table that are shown; the file has all of them.
ROWS = 50
HIDDEN = ("interval",)
REMEDY = "Run the screen again, which writes it anew"


def is_screen(run_dir: Path) -> bool:
    """Whether a directory holds a screen of its own, and not one within a pipeline's run."""
    return (run_dir / "screen.json").is_file() and (run_dir / "top.csv").is_file()


def render_screen(run_dir: Path) -> str:
    """The page as text.

    Args:
        run_dir: with `screen.json`, `top.csv`, `metrics.json` and `reading.json`, and `recheck.csv` where the best
            were solved.
    """
    metrics: dict[str, Any] = json_or_empty(run_dir / "metrics.json")
    held_to: dict[str, Any] = json_or_empty(run_dir / "screen.json")
    top, units = _frame(run_dir / "top.csv"), read_column_units(run_dir)
    sections = [("best", "The best", rows_table(top, "top.csv", units))]
    if (run_dir / "recheck.csv").is_file():
        checked = rows_table(_frame(run_dir / "recheck.csv"), "recheck.csv", units)
        sections.append(("recheck", "Re-check by simulation", checked))
    if read := reading_table(run_dir):
        sections.append(("read", "What was read", read))
    sections.append(("numbers", "All numbers of this screen", numbers_table(metrics)))
    objective = held_to.get("objective")
    sections.append(("objective", "What was sought", numbers_table(objective if isinstance(objective, dict) else {})))
    candidates = next((metrics[k] for k in ("screen/designs", "screen/molecules") if k in metrics), None)
    tiles = {
        "candidates": candidates,
        "taken in their standard form": metrics.get("screen/standardised"),
        "outside of the training's domain": metrics.get("screen/out_of_domain"),
        "with a score": metrics.get("screen/eligible"),
        "core-seconds": metrics.get("screen/core_seconds"),
    }
    return page_of_run(
        f"Screen “{run_dir.resolve().name}”",
        subtitle=f"Ranked by a surrogate; fingerprint {escape(str(held_to.get('surrogate', 'not known'))[:12])}",
        finding=_finding(metrics, len(top)),
        accuracy="Values are predictions with 90% intervals where the surrogate is calibrated; what was solved is below."
        if (run_dir / "recheck.csv").is_file()
        else "Values are predictions with 90% intervals where the surrogate is calibrated; none of the best was solved "
        "(recheck.simulator solves them).",
        tiles={text: _cell(v) if isinstance(v, int | float) else None for text, v in tiles.items()},
        sections=sections,
    )


def _finding(metrics: dict[str, Any], best: int) -> str:
    hits = metrics.get("recheck/hits_top")
    text = f"The best {best:,} of the candidates that have a score."
    return (
        text
        if not isinstance(hits, int | float)
        else f"{text} {number(float(hits))} of those that were solved are hits."
    )


def rows_table(
    frame: pd.DataFrame, file: str, units: Mapping[str, str] = MappingProxyType({}), rungs: Sequence[str] = ()
) -> str:
    """The first rows of a table as HTML.

    Args:
        frame: the table.
        file: name of the file that holds it.
        units: unit of each column that has one.
        rungs: how the rungs of a ladder are called; see `column_headings.heading`.
    """
    if not len(frame):
        return f'<p class="note">None: {escape(file)} has no row.</p>'
    shown = without_repeats(frame.drop(columns=[c for c in HIDDEN if c in frame.columns])).head(ROWS)
    left = [
        "" if pd.api.types.is_numeric_dtype(kind) else ' style="text-align:left"' for kind in shown.dtypes
    ]  # Texts are read from their beginning.
    head = "".join(
        f'<th scope="col"{side} title="{escape(name)}">{escape(heading(str(name), units, rungs))}</th>'
        for name, side in zip(shown.columns, left, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(f'<td{side}>{_cell(v)}</td>' for v, side in zip(row, left, strict=True))}</tr>"
        for row in shown.itertuples(index=False)
    )
    more = (
        f'<p class="note">{len(frame) - len(shown):,} more rows are in {escape(file)}.</p>' if len(frame) > ROWS else ""
    )
    return (
        f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{more}'
    )


def without_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of results without the columns of the prediction where those of its target hold the same."""
    numeric = frame.select_dtypes("number")
    if "prediction" not in numeric:
        return frame
    others = [n for n in numeric if n != "prediction" and (f"{n}_std" in frame or str(n).endswith("_pred"))]
    if not any(np.array_equal(numeric[n], numeric["prediction"], equal_nan=True) for n in others):
        return frame
    return frame.drop(columns=[name for name in ("prediction", "std", "low", "high") if name in frame])


def numbers_table(values: dict[str, Any]) -> str:
    """Names and values as an HTML table, sorted by name."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{_cell(value)}</td></tr>" for name, value in sorted(values.items()))
    return f"<table><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return escape("" if value is None else value)
    # Counts are kept as floating-point numbers among the metrics.
    whole = isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e9)
    return count(value) if whole else number(float(value), 4)


def _frame(path: Path) -> pd.DataFrame:
    verify(path, remedy=REMEDY)
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise CorruptStoreError(f"cannot be read: {error}", where=str(path), remedy=REMEDY) from error


def json_or_empty(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; empty if it cannot be read."""
    try:
        value = parse_json(read_bytes(path, remedy=REMEDY))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
