"""What `store.json` of a store of records has to be, whatever its checksum says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.plain import PlainError, entry


@dataclass(frozen=True)
class DescribedVariable:
    """A variable of a record; as `simulators.base.Variable`.

    Raises:
        ValueError: its dtype is none that a store takes.
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
    """A dim that is the same in every record; as `simulators.base.Coordinate`."""

    name: str
    values: tuple[float, ...] | tuple[str, ...]
    units: str
    long_name: str


def refuse_other_types(meta: Mapping[str, Any], facts: Collection[str]) -> None:
    """Hold a card to what its keys have to be.

    Args:
        meta: as it was read.
        facts: names of those that this version knows.

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
