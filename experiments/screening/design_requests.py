"""Requests to a simulator of numbers for the rows of a table of designs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import xarray as xr

from data.errors import InputError
from data.molecules.tally import kind_of_reason
from data.parameters import SPACE, ParameterLayout
from data.reading_summary import Reading
from data.rejects import Rejects
from experiments.screening.designs import Designs, designs_in
from simulators.adapter import Simulator

#: Rows that are read at a time.
ROWS = 4096


@dataclass
class DesignRequests:
    """The requests of a table with one column for each parameter of a simulator; other columns are not read.

    Attributes:
        path: .csv or .tsv file (also .gz, .bz2 or .zst), or .parquet file.
        simulator: simulator whose inputs are numbers, or arrays along dims of fixed length.
        limit: largest number of requests; None for all.
        layout: the columns of the table.
        total: number of requests, after `counted`.
        left_out: reason -> rows that are no designs, after `counted`.
    """

    path: Path
    simulator: Simulator
    limit: int | None
    layout: ParameterLayout = field(init=False)
    total: int = field(init=False, default=0)
    left_out: Counter[str] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        spec = self.simulator.spec
        supplied = {coord.name for coord in spec.coords} - set(SPACE)
        if fields := [v.name for v in spec.inputs if set(v.dims) - supplied or v.dtype == "str"]:
            raise InputError(
                f"it is a table of designs, and {self.simulator.name} takes {fields[0]}, which is no number",
                where="inputs",
                remedy="Draw its requests with sampling=KIND, or ask from Python with "
                "simulators.campaigns.campaign.run_campaign",
            )
        axes = tuple(c for c in spec.coords if any(c.name in v.dims for v in spec.inputs))
        self.layout = ParameterLayout(tuple(spec.inputs), (), axes, {})
        self.source = designs_in(self.path, self.layout.columns, self.layout.units).source

    def counted(self, rejects: Rejects) -> DesignRequests:
        """Read the file once to count its designs; rows that are none go to `rejects`.

        Raises:
            InputError: no row is a design.
        """
        for part in self._parts():
            self.total += len(part.table)
            for reject in part.rejects:
                rejects.add(self.path, reject.line, reject.text, reject.reason)
                self.left_out[kind_of_reason(reject.reason)] += 1
        if not self.total:
            commonest = self.left_out.most_common(1)[0][0] if self.left_out else "it has no rows"
            problem = f"no row of it is a design: {commonest}"
            raise InputError(problem, where=str(self.path), remedy="See rejects.csv in the run directory")
        return self

    def __len__(self) -> int:
        return self.total if self.limit is None else min(self.total, self.limit)

    def __iter__(self) -> Iterator[xr.Dataset]:
        """The requests, row by row."""
        rows = (row for part in self._parts() for row in part.table)
        for row in islice(rows, self.limit):
            yield self.simulator.spec.request(dict(self.layout.named(np.asarray(row))))

    def _parts(self) -> Iterator[Designs]:
        for piece in self.source.pieces(ROWS, *self.source.start):
            assert isinstance(piece.chunk, Designs)
            yield piece.chunk

    @property
    def reading(self) -> Reading:
        """What is read of the file."""
        units = zip(self.layout.columns, self.layout.units, strict=True)
        return Reading(
            source=str(self.path),
            format=self.source.description,
            unit="rows",
            total=self.total + self.left_out.total(),
            used=len(self),
            quantities={name: f"parameter, taken in {unit}" for name, unit in units},
            left_out=self.left_out,
            assumed=() if len(self) == self.total else (f"limit={self.limit}: what follows was not read",),
        )
