"""Start time of an OpenFOAM case, which distinguishes its initial fields from results.

OpenFOAM's user guide, "Time and data input/output control": `startFrom` is `latestTime` unless system/controlDict says
otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from data.errors import InputError

#: Name of a time folder.
TIME = re.compile(r"\d+(\.\d*)?([eE][-+]?\d+)?", re.ASCII)
#: Values that only OpenFOAM or a request can resolve: macros, directives and placeholders.
UNKNOWN = re.compile(r"[$#{]")


def top_entries(text: str) -> dict[str, str]:
    """Top-level entries `name value;` of a dictionary, without nested dictionaries; the last entry of a name wins.

    Args:
        text: text of the dictionary without comments.
    """
    # A placeholder is a value: its braces open no dictionary.
    flat = re.sub(r"\{\{\s*(\w+)\s*\}\}", r"#\1", text)
    while (less := re.sub(r"\w+\s*\{[^{}]*\}", "", flat)) != flat:
        flat = less
    return {m[1]: m[2].strip() for m in re.finditer(r"(?:^|[;\s])([A-Za-z]\w*)\s+([^;{}]+);", flat)}


def start_folder(control: str, folders: Collection[str], where: str) -> str | None:
    """The time folder from which a case starts.

    Args:
        control: system/controlDict without comments.
        folders: names of the time folders.
        where: path of the case, for errors.

    Returns:
        One of `folders`; None if no folder exists for the start time.

    Raises:
        InputError: the case has results and it is unclear whether it starts from them, or nothing is left to compute.
    """
    if not set(folders) - {"0"}:
        return "0" if folders else None
    entries = top_entries(control)
    ordered = sorted(folders, key=float)
    shown = ", ".join(ordered)
    begins = entries.get("startFrom", "" if "#include" in control else "latestTime")
    at = entries.get("startTime", "0")
    if begins not in ("latestTime", "firstTime", "startTime") or (begins == "startTime" and UNKNOWN.search(at)):
        raise InputError(
            f"has folders of the times {shown}, and it is unclear from which of them it starts",
            where=f"{where}/system/controlDict",
            remedy="Write startFrom and startTime there as plain values, or remove the results",
        )
    if begins == "startTime":
        try:
            time = float(at)
        except ValueError:
            raise InputError(f"startTime is {at[:40]!r}, no number", where=f"{where}/system/controlDict") from None
        same = [name for name in ordered if math.isclose(float(name), time, rel_tol=1e-9)]
        return same[0] if same else None
    start = ordered[0] if begins == "firstTime" else ordered[-1]
    end = entries.get("endTime", "")
    if TIME.fullmatch(end) and float(start) >= float(end):
        raise InputError(
            f"begins from its folder {start}, at or after its endTime {end}, so that nothing is left to compute",
            where=f"{where}/system/controlDict",
            remedy="Remove the results of earlier runs, or set `startFrom startTime;`",
        )
    return start
