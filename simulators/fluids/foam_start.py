"""The time from which a case of OpenFOAM begins, and so which of its folders are no results.

OpenFOAM's user guide, "Time and data input/output control": `startFrom` is `latestTime` unless system/controlDict says
otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from data.errors import InputError

#: A folder that is named after a time.
TIME = re.compile(r"\d+(\.\d*)?([eE][-+]?\d+)?", re.ASCII)
#: Values that only OpenFOAM, or a request, knows.
UNKNOWN = re.compile(r"[$#{]")


def top_entries(text: str) -> dict[str, str]:
    """Entries `name value;` of a dictionary, without those of dictionaries inside it; the last of one name wins.

    Args:
        text: without comments.
    """
    # A placeholder is a value, whose braces open nothing.
    flat = re.sub(r"\{\{\s*(\w+)\s*\}\}", r"#\1", text)
    while (less := re.sub(r"\w+\s*\{[^{}]*\}", "", flat)) != flat:
        flat = less
    return {m[1]: m[2].strip() for m in re.finditer(r"(?:^|[;\s])([A-Za-z]\w*)\s+([^;{}]+);", flat)}


def start_folder(control: str, folders: Collection[str], where: str) -> str | None:
    """The time folder that a case begins from.

    Args:
        control: system/controlDict, without comments.
        folders: names of its time folders.
        where: the case, for messages.

    Returns:
        One of `folders`; None where nothing was written at the time that is named.

    Raises:
        InputError: it has results, and it cannot be told whether it begins from them, or nothing is left to compute.
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
            f"has folders of the times {shown}, and which of them it begins from cannot be told",
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
