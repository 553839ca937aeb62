"""The page of a cascade for answers: what it promises, which rung answers how much, and what that costs."""

from __future__ import annotations

from pathlib import Path

from experiments.answering.saved_cascade import read_cascade_card
from experiments.pages.formatting import escape, number, percent
from experiments.pages.run_page import page_of_run
from experiments.pages.screen_page import json_or_empty, numbers_table
from experiments.pages.work_section import read_works, work_section
from surrogates.cascade.cascade_card import CARD, CascadeCard

HEADINGS = ("rung", "answers", "core-seconds each", "labelled requests without an answer")


def is_answers(run_dir: Path) -> bool:
    """Whether a directory holds a calibrated cascade for answers."""
    names = (CARD, "metrics.json")
    return all((run_dir / name).is_file() for name in names) and "tolerance" in json_or_empty(run_dir / CARD)


def render_answers(run_dir: Path) -> str:
    """The page as text.

    Args:
        run_dir: with `cascade.json`, `metrics.json` and `work.json`, as `understudy calibrate` writes them.
    """
    card, metrics = read_cascade_card(run_dir), json_or_empty(run_dir / "metrics.json")
    sections = [("rungs", "Which rung answers how much", _rungs(card, metrics))]
    if works := read_works(run_dir):
        sections.append(("work", "Where the core-seconds and the bytes went", work_section(works)))
    sections.append(("numbers", "All numbers of this cascade", numbers_table(metrics)))
    tiles = {
        "promised share of wrong answers": percent(card.promised.alpha),
        "wrong among the labels": percent(float(metrics.get("cascade/wrong_share", 0.0))),
        "fresh labels": f"{card.promised.design + card.promised.calibration:,}",
        "core-seconds an answer": number(float(metrics.get("cascade/core_seconds_per_answer", 0.0))),
        "times cheaper than the last rung": number(float(metrics.get("cascade/speedup", 0.0))),
    }
    return page_of_run(
        f"Cascade for answers “{run_dir.resolve().name}”",
        subtitle=escape(" → ".join(rung.label for rung in card.rungs)),
        finding=escape(promised(card)),
        accuracy="It holds for requests like the labels. An answer has the rung that gave it, its bounds and its cost.",
        tiles={text: str(value) for text, value in tiles.items()},
        sections=sections,
    )


def promised(card: CascadeCard) -> str:
    """The promise in a sentence."""
    confidence = card.promised.confidence
    how = "in the mean over labels" if confidence is None else f"with a confidence of {confidence:g}"
    return f"Answers are off in {card.tolerance.limits} or more with a probability of {card.promised.alpha:g} at most, {how}."


def _rungs(card: CascadeCard, metrics: dict[str, float]) -> str:
    rows = []
    for place, rung in enumerate(card.rungs):
        share = float(metrics.get(f"cascade/rung/{place}/share_answered", 0.0))
        cost = number(rung.cost_s) + (" declared" if rung.declared else "")
        cells = (f"{place} {rung.label}", percent(share), cost, f"{rung.failed:,}")
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADINGS)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
