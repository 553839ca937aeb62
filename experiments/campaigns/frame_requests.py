"""Requests to a simulator for the geometries of a file, with their charge, spin and cell.

The file is read twice: once before the first calculation, to count the geometries and to report those that are left
out, and once to yield the requests one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import xarray as xr

from data.errors import InputError
from data.formats.rows import Row
from data.molecules.files import read
from data.reading_summary import Reading
from data.rejects import Rejects
from data.structures.frame_names import FrameKeys
from data.structures.frame_reading import FrameTally
from data.structures.structures import Structures
from simulators.adapter import Simulator
from simulators.chemistry.variables import ISOLATED_ONLY
from simulators.structure_requests import request


class Silent:
    """Rejects that are discarded, because they were recorded before."""

    def add(self, file: Path | str, line: int, text: str, reason: str) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class FrameRequests:
    """The requests of a file of geometries.

    Attributes:
        path: file of geometries.
        simulator: simulator that takes geometries.
        keys: names of the entries of a frame that hold its charge and spin.
        limit: largest number of frames to read; None for all.
        charge, spin: total charge (e) and number of unpaired electrons of frames that state none; None: neutral, and as
            few as there can be. A frame that states others is left out.
        total: number of requests.
        reading: what was read and left out.
    """

    path: Path
    simulator: Simulator
    keys: FrameKeys
    limit: int | None
    charge: int | None = None
    spin: int | None = None
    total: int = 0
    reading: Reading = field(default_factory=lambda: Reading("", ""))

    def counted(self, rejects: Rejects) -> FrameRequests:
        """A copy with `total` and `reading` filled in; frames that are left out go to `rejects`.

        Raises:
            InputError: no frame is left, or the file is damaged.
        """
        tally = FrameTally(self.path, self.keys, rejects)
        total = sum(1 for _ in self._each(tally))
        if not total:
            reason, count = next(iter(tally.reasons.most_common(1)), ("it holds none", 0))
            raise InputError(
                f"no frame of it can be simulated; {count:,} of {tally.reasons.total():,}: {reason}",
                where=str(self.path),
                remedy="See rejects.csv in the run directory",
            )
        reading = tally.reading(spins=True, labels=False)
        if self.limit is not None and reading.total >= self.limit:
            reading = replace(reading, assumed=(*reading.assumed, f"limit={self.limit}: what follows was not read"))
        return replace(self, total=total, reading=reading)

    def __iter__(self) -> Iterator[xr.Dataset]:
        """The requests, one by one."""
        return self._each(FrameTally(self.path, self.keys, Silent()))

    def _each(self, tally: FrameTally) -> Iterator[xr.Dataset]:
        keys = replace(self.keys, labels=False)
        for row in islice(read(self.path, rejects=tally, keys=keys), self.limit):
            row, problem = _in_state(row, self.charge, self.spin)
            reason = problem or self._reason(row)
            if reason is None:
                try:
                    table = Structures.from_frames([row], str(self.path))
                except InputError as error:
                    tally.refuse(row, error.problem)
                    continue
                tally.take(row)
                yield request(self.simulator, table, 0)
            else:
                tally.refuse(row, reason)

    def _reason(self, row: Row) -> str | None:
        """Why a frame cannot be simulated; None where it can."""
        if row.positions is None:
            return "no geometry, which the first row has"
        repeats = int(sum(bool(p) for p in row.properties.get("pbc", ())))
        if repeats and all(v.name != "cell" for v in self.simulator.spec.inputs):
            return f"it repeats along {repeats} directions, and by {self.simulator.name} {ISOLATED_ONLY}"
        return None


def _in_state(row: Row, charge: int | None, spin: int | None) -> tuple[Row, str | None]:
    """A frame with a charge and a spin that settings give, and why its state is not certain or not possible."""
    if row.numbers is None:
        return row, None
    state = {name: value for name, value in (("charge", charge), ("spin", spin)) if value is not None}
    for name, value in state.items():
        stated = row.properties.get(name, value)
        if stated != value:
            return row, f"its {name} is {stated}, and the command says {name}={value}"
    row = replace(row, properties={**row.properties, **state})
    count = row.properties.get("spin")
    if not state or count is None:
        return row, row.notes.spin_problem
    electrons = int(np.asarray(row.numbers).sum()) - int(row.properties.get("charge", 0))
    repeats = np.any(row.properties.get("pbc", False))
    if count < 0 or count > electrons or ((electrons - count) % 2 and not repeats):
        return row, f"{electrons} electrons (charge {row.properties.get('charge', 0):+d}) cannot have {count} unpaired"
    return row, None
