"""The name that somebody probably meant, for errors of every kind."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Names that need no quotes to be told from the sentence around them.
_PLAIN = re.compile(r"[\w./@-]+")


def near(name: str, names: Iterable[str], *, most: int = 3) -> list[str]:
    """Those of `names` that are spelt much like `name`, or hold it, the nearest first; case does not matter."""
    by_lower: dict[str, str] = {}
    for candidate in names:
        by_lower.setdefault(candidate.lower(), candidate)
    lower = name.lower()
    close = difflib.get_close_matches(lower, by_lower, n=most, cutoff=0.6)
    # A short name is often the initials of a long one: lr of learning_rate.
    initials = [k for k in by_lower if "".join(part[:1] for part in k.split("_")) == lower and len(lower) > 1]
    # Likeness alone misses the "gap" in "gap (eV)".
    inside = [k for k in by_lower if len(lower) > 2 and (lower in k or (len(k) > 2 and k in lower))]
    return [by_lower[k] for k in dict.fromkeys([*initials, *close, *inside])][:most]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence that offers the names near to `name`, or nothing."""
    candidates = [n if _PLAIN.fullmatch(n) else repr(n) for n in near(name, names)]
    return f"Did you mean {' or '.join(candidates)}?" if candidates else ""
