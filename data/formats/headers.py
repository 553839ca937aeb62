"""Reads the header of a delimited table: its delimiter, and the positions of the requested columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from data.formats.cells import plain
from data.suggestions import did_you_mean

#: The usual delimiter by the suffix of the file.
DELIMITERS = {".csv": ",", ".tsv": "\t"}
#: Delimiters in words.
SEPARATED_BY = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
#: Characters of the name of a column that an error shows.
LONGEST_SHOWN = 80
#: Names that need no quotes on the command line.
_PLAIN = re.compile(r"[\w./:+-]+")


def header_names(text: str, delimiter: str) -> list[str]:
    """The names in a line; a quote that is not closed is part of a name, and so is a carriage return."""
    line = text.rstrip("\r\n").replace("\r", " ")
    try:
        names = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a name that is longer than any name
        names = line.split(delimiter)
    return [plain(name.strip()) for name in names]


def choose_delimiter(header: str, usual: str, columns: Sequence[str]) -> str:
    """The delimiter of a table, from the first line of its header.

    Args:
        header: the line.
        usual: the usual delimiter by the suffix of the file.
        columns: names that are asked for.

    Returns:
        The usual delimiter, unless the columns appear only with another one. If none gives all columns, the one that
        occurs most often, so that an error can name the columns that exist.
    """
    candidates = [usual, *(d for d in SEPARATED_BY if d != usual)]
    for delimiter in candidates:
        names = header_names(header, delimiter)
        if all(column in names for column in columns):
            return delimiter
    return usual if usual in header else max(candidates, key=header.count)


def column_index(path: Path, names: Sequence[str], name: str) -> int:
    """Position of the column of that name.

    Raises:
        InputError: there is none, or more than one.
    """
    if name not in names:
        raise missing_column(path, name, names)
    if names.count(name) > 1:
        raise InputError(
            f"{names.count(name)} columns are named {name!r}", where=str(path), remedy="Rename all but one"
        )
    return names.index(name)


def missing_column(path: Path, column: str, names: Sequence[str]) -> InputError:
    """The error for a table that lacks a column."""
    # A damaged file may have its whole content in a name.
    cut = [name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..." for name in names[:20]]
    shown = [name.encode("utf-8", "replace").decode() for name in cut]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    remedies = [did_you_mean(column, shown), "Name the column as the file does"]
    keys = "smiles=, or data.smiles= and data.target= in train and evaluate"
    awkward = next((name for name in shown if name and not _PLAIN.fullmatch(name)), None)
    if awkward is not None:
        remedies[1] += f", on the command line within both kinds of quotes: \"data.target='{awkward}'\""
    remedies[1] += f" ({keys}); a list of SMILES without a header is a .smi file"
    return InputError(
        f"no column {column!r}; there are {shown}{more}", where=str(path), remedy=" ".join(filter(None, remedies))
    )
