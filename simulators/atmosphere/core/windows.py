"""Windows of states, from which surrogates learn a time step, made from a campaign with a dynamical core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from data.costs import core_seconds, cost_basis
from data.errors import InputError
from data.spec import content_hash
from data.sphere.windows import WindowStore
from data.sphere.writing import Segment, write_windows
from data.store.records import RecordStore
from simulators.atmosphere.core.dycore import DynamicalCore
from simulators.atmosphere.core.spec import with_dates
from simulators.atmosphere.shallow_water.simulator import ShallowWater

#: Days of gap between the dates of two records, so that no window spans both.
APART = 10


def core_windows(
    records: Path, core: DynamicalCore | ShallowWater, path: Path, advance: Callable[[int], None] | None = None
) -> WindowStore:
    """Write windows of all answered records; each record is a segment of its own.

    The core-seconds of a state are those of the median record without the share of its spin-up. The cost of the labels
    includes the spin-up and the failed records.

    Args:
        records: store of a campaign with `core`.
        core: simulator of the campaign, which defines the layout of the states.
        path: directory of the windows to write.
        advance: called with the number of states that have been written.

    Raises:
        InputError: the records are of another simulator, or no record was answered.
    """
    with RecordStore.open(records) as store:
        if store.attrs.get("fingerprint") != core.fingerprint:
            raise InputError(
                f"holds records of another simulator than {core.name} with these settings",
                where=str(records),
                remedy="Give the settings of its campaign",
            )
        data = store.dataset()
        answered = np.flatnonzero(data["status"].values == "ok")
        if not len(answered):
            raise InputError("no record of it was answered", where=str(records), remedy="See its messages")
        spent = core_seconds(data, str(records))
        seconds = float(np.median(spent[answered]))
        # Two campaigns with the same core have different requests, so the fingerprint needs the keys.
        keys = [str(key) for key in data["key"].values[answered]]
        whole_days = core.days + getattr(core, "spin_up_days", 0.0)
        cost = seconds * core.days / whole_days / core.saves

        def segments() -> Iterator[Segment]:
            start = np.datetime64("2001-01-01", "D")
            apart = np.timedelta64(int(np.ceil(core.days)) + APART, "D")
            for place, index in enumerate(answered):
                yield _segment(data, int(index), core.layout.variables, str(start + place * apart))

        return write_windows(
            path, segments(), core.layout, fingerprint=content_hash([core.fingerprint, keys]), seconds_per_step=cost,
            label_core_seconds=float(np.nansum(spent)), counted=cost_basis(data), advance=advance,
        )  # fmt: skip


def _segment(data: xr.Dataset, index: int, variables: tuple[str, ...], start: str) -> Segment:
    record = data[list(variables)].isel(sample=index)
    return Segment.of(with_dates(record, start))
