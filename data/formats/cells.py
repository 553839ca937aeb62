"""Writes cells of CSV files so that spreadsheets do not run them as formulas, and reads them back exactly.

Excel, LibreOffice and other programs run a cell that begins with = + - @, a tab, a line end or the full-width forms of
these, quoted or not (OWASP, "CSV injection"). `safe` puts an apostrophe before such a text unless it is a number;
spreadsheets read that as "this is text". A text that begins with apostrophes followed by one of these characters gets
one more, so that `plain`, which removes one, returns exactly what was given. Numbers are unchanged, and no valid SMILES
begins like this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from data.encodable import encodable

if TYPE_CHECKING:
    import pandas as pd

_BEGINS = "'*[=+\\-@\t\r\n＝＋－＠]"
_FORMULA = re.compile(_BEGINS)
_WRITTEN = re.compile("'" + _BEGINS)


def safe(value: Any) -> Any:
    """A cell as it is written: an apostrophe precedes a text that looks like a formula, and texts are `encodable`."""
    if not isinstance(value, str):
        return value
    text = encodable(value)
    return text if _FORMULA.match(text) is None or _is_number(text) else "'" + text


def safe_row(values: Iterable[Any]) -> list[Any]:
    """The cells of a row as they are written."""
    return [safe(value) for value in values]


def plain(text: str) -> str:
    """The text from which `safe` wrote this one."""
    return text[1:] if text[:1] == "'" and _WRITTEN.match(text) else text


def safe_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A table in which `safe` is applied to texts and names of columns."""
    # Processes that parse molecules import this module, and never write a table.
    from pandas.api.types import is_numeric_dtype

    texts = [name for name, kind in frame.dtypes.items() if not is_numeric_dtype(kind)]
    return frame.assign(**{str(name): frame[name].map(safe) for name in texts}).rename(columns=safe)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Python ignores blanks and line ends around a number; a spreadsheet may not.
    return text == text.strip()
