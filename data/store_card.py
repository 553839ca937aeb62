"""Checks the types of the values in `store.json`, in addition to its checksum."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.plain import PlainError, entry


@dataclass(frozen=True)
class DescribedVariable:
    """A variable of a record, as a card describes it; see `data.spec.Variable`.

    Raises:
        ValueError: a store cannot hold its dtype.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    dtype: str
    long_name: str

    def __post_init__(self) -> None:
        if self.dtype != "str" and np.dtype(self.dtype).kind not in "biufc":
            raise ValueError(f"{self.name} has no dtype of numbers: {self.dtype!r}")


@dataclass(frozen=True)
class DescribedAxis:
    """A dim that is the same in every record, as a card describes it; see `data.spec.Coordinate`."""

    name: str
    values: tuple[float, ...] | tuple[str, ...]
    units: str
    long_name: str


def refuse_other_types(meta: Mapping[str, Any], facts: Collection[str]) -> None:
    """Refuse a card with a value of another type than its key requires.

    Args:
        meta: the card as it was read.
        facts: names of the facts that this version knows.

    Raises:
        PlainError: names the key.
    """
    entry(meta, "attrs", dict[str, Any])
    inputs, outputs = (entry(meta, key, tuple[DescribedVariable, ...]) for key in ("inputs", "outputs"))
    names = [v.name for v in (*inputs, *outputs)]
    if len(set(names)) < len(names):
        raise PlainError("has a name that another variable has", "outputs")
    entry(meta, "coords", list[DescribedAxis], [])
    entry(meta, "record", str, "sample")
    strange = [name for name in entry(meta, "facts", list[str], []) if name not in facts]
    if strange:
        raise PlainError(f"names {strange[0]!r}, of which this version knows nothing", "facts")
