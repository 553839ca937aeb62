"""Cells of CSV files that a spreadsheet would take for formulas, and how they are written and read here.

Excel, LibreOffice and others run a cell that begins with = + - @, a tab or a line end, or the wide forms of these, be
it quoted or not (OWASP, "CSV injection"). A text that does, and is no number, is written with an apostrophe in front,
which these programs take for "this is text". A text that begins with apostrophes and then one of them gets another,
so that `plain`, which takes one away, gives back exactly what was written. Numbers stay numbers, and a SMILES that can
be read never begins so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from data.encodable import encodable

_BEGINS = "'*[=+\\-@\t\r\n＝＋－＠]"
_FORMULA = re.compile(_BEGINS)
_WRITTEN = re.compile("'" + _BEGINS)


def safe(value: Any) -> Any:
    """A cell as it is written: a text that looks like a formula with an apostrophe in front; each text `encodable`."""
    if not isinstance(value, str):
        return value
    text = encodable(value)
    return text if _FORMULA.match(text) is None or _is_number(text) else "'" + text


def safe_row(values: Iterable[Any]) -> list[Any]:
    """The cells of a row as they are written."""
    return [safe(value) for value in values]


def plain(text: str) -> str:
    """What `safe` wrote as the text."""
    return text[1:] if text[:1] == "'" and _WRITTEN.match(text) else text


def safe_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as it is written: texts and the names of columns."""
    texts = [name for name, kind in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    return frame.assign(**{str(name): frame[name].map(safe) for name in texts}).rename(columns=safe)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Python passes over blanks and line ends around a number; a spreadsheet may not.
    return text == text.strip()
