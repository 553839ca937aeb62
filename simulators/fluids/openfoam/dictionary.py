"""Numbers in the dictionaries of an OpenFOAM case, by the path of their entry."""

from __future__ import annotations

import re
from pathlib import Path

from data.errors import InputError
from data.formats.rows import finite
from simulators.fluids.openfoam.contents import read_text

_PLACE = re.compile(r"([^:]+):([^\[\]]+)(?:\[(\d+)\])?")


def number_at(case: Path, place: str) -> float:
    """The number of an entry.

    Args:
        case: folder of the case.
        place: FILE:ENTRY, in which the names of nested dictionaries are joined by points, and a number in brackets
            chooses among several from 0; such as `0/U:boundaryField.inlet.value[0]`. Dimensions are passed over.

    Raises:
        InputError: there is no such file or entry, or its value is a macro or holds several numbers.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise InputError(f"{place!r} is no FILE:ENTRY", where="simulator.places", remedy="Such as 0/U:inlet.value[0]")
    path = case / match[1]
    if not path.resolve().is_relative_to(case.resolve()):
        raise InputError("leads out of the case", where=place)
    text = read_text(path)
    *outer, last = match[2].split(".")
    for name in outer:
        text = _inner(text, name, f"{path}:{match[2]}")
    entry = re.search(rf"(?:^|[\s;{{}}]){re.escape(last)}\s+([^;{{}}]+);", _top(text))
    if entry is None:
        raise InputError(f"no entry {match[2]}", where=str(path))
    value = re.sub(r"\[[^\]]*\]", " ", entry[1])
    if "$" in value or "#" in value:
        raise InputError(f"{match[2]} is a macro, {value.strip()[:40]!r}", where=str(path), remedy="Use a table")
    numbers = [n for word in re.split(r"[\s()]+", value) if (n := finite(word)) is not None]
    index = match[3]
    if not numbers or (index is None and len(numbers) > 1) or int(index or 0) >= len(numbers):
        raise InputError(
            f"{match[2]} holds {len(numbers)} numbers",
            where=str(path),
            remedy="Choose one by its place from 0, such as value[0]",
        )
    return numbers[int(index or 0)]


def _inner(text: str, name: str, where: str) -> str:
    """The text within the braces of a dictionary of that name at the top of a text."""
    depth = 0
    for match in re.finditer(rf"(?:(?<=[\s;{{}}])|^){re.escape(name)}\s*\{{|[{{}}]", text):
        if depth == 0 and match[0] not in "{}":
            begin, depth = match.end(), 1
            for brace in re.compile(r"[{}]").finditer(text, begin):
                depth += 1 if brace[0] == "{" else -1
                if depth == 0:
                    return text[begin : brace.start()]
            break
        depth += -1 if match[0] == "}" else 1
    raise InputError(f"no dictionary {name}", where=where)


def _top(text: str) -> str:
    """A text without its nested dictionaries, but with lists in parentheses."""
    while (less := re.sub(r"[\w\"().*|]+\s*\{[^{}]*\}", " ", text)) != text:
        text = less
    return text
