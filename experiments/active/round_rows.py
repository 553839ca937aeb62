"""The summary of a round as `round.json` holds it, and as the line that the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.json_files import read_plain, reading
from data.plain import entry
from experiments.active.choice_trial import Verdict

#: The remedy for a round whose `round.json` is damaged.
ANEW = "Remove this round and those after it, and run again"


def read_round(path: Path) -> dict[str, Any]:
    """The content of `round.json`.

    Raises:
        CorruptStoreError: it is damaged, or a number is missing.
    """
    row = read_plain(path, dict[str, int | float | None], remedy=ANEW)
    with reading(path, remedy=ANEW):
        for name in ("labels", "failed", "explored"):
            entry(row, name, int)
        for name in ("force_error_mev_per_angstrom", "uncertain_share", "lost_share"):
            entry(row, name, float | None)  # type: ignore[arg-type]
    return row


def round_line(row: Mapping[str, Any]) -> str:
    """The line that summarises a round on the terminal."""
    failed = f", {row['failed']} failed" if row["failed"] else ""
    if row["explored"] == 0:
        return f"{row['labels']} labels{failed}"
    error, share = row["force_error_mev_per_angstrom"], row["uncertain_share"]
    error_text = "not known" if error is None else f"{error:.1f} meV/Å"
    unsure = "" if share is None else f", {share:.0%} of {row['explored']:,} frames uncertain"
    lost = f", {row['lost_share']:.0%} of walkers lost" if row["lost_share"] else ""
    return f"{row['labels']} labels{failed}; error on fresh frames {error_text}{unsure}{lost}"


def verdict_line(verdict: Verdict) -> str:
    """What the trial of a choice says, for the terminal, the log and the page."""
    line = (
        f"trial of the choice: chosen frames leave an error that differs by {verdict.difference:+.1%} from that with "
        f"as many random frames (standard error {verdict.standard_error:.1%}, {verdict.frames} fresh frames)"
    )
    if verdict.falls_back:
        return f"{line}; frames are drawn at random from now on"
    return f"{line}; the rule stays" if verdict.decided else line
