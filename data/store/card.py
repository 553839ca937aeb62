"""Checks the types of the values in `store.json`, in addition to its checksum."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from data.plain import PlainError, entry
from data.spec import Coordinate, Variable


def refuse_other_types(meta: Mapping[str, Any], facts: Collection[str]) -> None:
    """Refuse a card with a value of another type than its key requires.

    Args:
        meta: the card as it was read.
        facts: names of the facts that this version knows.

    Raises:
        PlainError: names the key.
    """
    entry(meta, "attrs", dict[str, Any])
    inputs, outputs = (entry(meta, key, tuple[Variable, ...]) for key in ("inputs", "outputs"))
    for variable in (*inputs, *outputs):
        if variable.dtype != "str" and np.dtype(variable.dtype).kind not in "biufc":
            raise PlainError(f"has a variable {variable.name} with no dtype of numbers: {variable.dtype!r}", "outputs")
    names = [v.name for v in (*inputs, *outputs)]
    if len(set(names)) < len(names):
        raise PlainError("has a name that another variable has", "outputs")
    entry(meta, "coords", list[Coordinate], [])
    entry(meta, "record", str, "sample")
    strange = [name for name in entry(meta, "facts", list[str], []) if name not in facts]
    if strange:
        raise PlainError(f"names {strange[0]!r}, of which this version knows nothing", "facts")
