"""Headings of tables of results: what a column holds and its unit, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

#: Columns that every table of results has.
WORDS: Mapping[str, str] = {
    "line": "line of the file",
    "smiles": "SMILES",
    "standard_smiles": "standard form",
    "std": "standard deviation",
    "low": "lower bound",
    "high": "upper bound",
    "in_domain": "in the training domain",
    "log_probability": "log probability of a hit",
    "p_value": "p-value",
    "seconds": "wall time (s)",
}
#: What is appended to the name of a variable -> how the two are called.
ENDINGS: Mapping[str, str] = {
    "_relative_error": "relative error of {}",
    "_std": "standard deviation of {}",
    "_low": "lower bound of {}",
    "_high": "upper bound of {}",
    "_pred": "{}, predicted",
}
#: A blank and a hyphen at which no line is broken.
NARROW, HYPHEN = "\N{NO-BREAK SPACE}", "\N{NON-BREAKING HYPHEN}"
_OF_RUNG = re.compile(r"rung_(\d+)_(.+)")


def heading(column: str, units: Mapping[str, str], rungs: Sequence[str] = ()) -> str:
    """The heading of a column.

    Args:
        column: its name in the file.
        units: unit of each column that has one.
        rungs: how the rungs of a ladder are called, which columns `rung_<i>_<name>` name by number.
    """
    match = _OF_RUNG.fullmatch(column)
    if match is not None and int(match[1]) < len(rungs):
        name, by = match[2], f" by {PurePath(rungs[int(match[1])]).name or rungs[int(match[1])]}"
        stem = f"rung_{match[1]}_"
    else:
        name, by, stem = column, "", ""
    unit = units.get(column)
    for ending, words in ENDINGS.items():
        base = name.removesuffix(ending)
        # Other names, such as those of a user's file, may end so as well.
        if base != name and (f"{stem}{base}" in units or stem):
            unit = None if ending == "_relative_error" else unit or units.get(f"{stem}{base}")
            return _with_unit(words.format(base) + by, unit)
    return _with_unit(WORDS.get(name, name) + by, unit)


def _with_unit(words: str, unit: str | None) -> str:
    # Names of columns may hold the unit already.
    if unit is None or f"({unit})" in words:
        return words
    # A unit such as m s-1 stays on one line.
    return f"{words} ({unit.replace(' ', NARROW).replace('-', HYPHEN)})"
