"""Makes text that every file can hold: lone surrogates and NUL characters are escaped.

A byte that is no UTF-8 comes into Python as half of a surrogate pair (in names of files, in what a program printed, in
rows of a table), which no encoder takes; a NUL ends the text for many readers. Both are replaced by their escape where
text enters a store, a table, JSON or a page.
"""

from __future__ import annotations

import re
from typing import Any

_BAD = re.compile("[\ud800-\udfff\0]")


def encodable(text: str) -> str:
    r"""The text with `\udc80` for a lone surrogate and `\x00` for a NUL; others come back as they are."""
    return _BAD.sub(_escape, text)


def encodable_json(value: Any) -> Any:
    """A JSON value in which every text is `encodable`, keys too."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {encodable_json(key): encodable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable_json(item) for item in value]
    return value


def _escape(match: re.Match[str]) -> str:
    return r"\x00" if match[0] == "\0" else f"\\u{ord(match[0]):04x}"
