"""The page of the board: one HTML file with its style, its program and the runs, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from data.encodable import encodable_json
from data.errors import InputError
from data.files import write_text
from experiments.board.run_records import RunRecords, run_details
from experiments.pages.formatting import escape
from experiments.pages.style_sheet import house_style

#: In every page, by which it is known again.
FOOTER = "Written by <code>understudy board</code>"


def board_facts(records: RunRecords) -> dict[str, Any]:
    """The list of runs, as the page and the end point `runs.json` have it."""
    return {"now": time.time(), "runs": list(records.rows.values()), "refused": records.refused}


def render_board(records: RunRecords, *, is_live: bool) -> str:
    """The page of the runs below a folder.

    Args:
        records: the runs.
        is_live: whether a server answers the page, which then asks it for news; else all runs are in the page.
    """
    facts = board_facts(records)
    if not is_live:
        facts["details"] = {name: run_details(records.root / name) for name in records.rows}
    script, style = _resource("board.js"), house_style() + _resource("board.css")
    policy = (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; script-src {_hash(script)}; "
        f"style-src {_hash(style)}" + ("; connect-src 'self'" if is_live else "")
    )
    return Template(_resource("board.html")).substitute(
        title=escape(f"Runs below {str(records.root).rstrip('/')}/"),
        style=style,
        script=script,
        policy=escape(policy),
        data=_within_script({**facts, "is_live": is_live}),
        footer=f"{FOOTER} from the files of the runs alone. Costs are processor times of all sessions of a run.",
    )


def write_board(root: Path, page: Path) -> int:
    """Write the page of a folder, and return the number of its runs.

    Raises:
        InputError: there is no such folder, or the page would replace a file of somebody else.
    """
    if page.exists() and (page.is_dir() or FOOTER not in page.read_text(encoding="utf-8", errors="replace")):
        raise InputError(
            "is no page of this command, and is not replaced",
            where=str(page),
            file=page,
            remedy="Give another out=FILE",
        )
    records = RunRecords(root)
    write_text(page, render_board(records, is_live=False))
    return len(records.rows)


def _within_script(value: Mapping[str, Any]) -> str:
    """JSON that may stand in a `<script>` element: no sign of it ends the element or begins a comment."""
    text = json.dumps(encodable_json(value), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _resource(name: str) -> str:
    return resources.files("experiments.board").joinpath(name).read_text(encoding="utf-8")
