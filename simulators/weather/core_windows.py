"""From the records of a campaign with a dynamical core to windows of states, from which surrogates learn a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from data.costs import core_seconds, counted
from data.errors import InputError
from data.spec import content_hash
from data.store import RecordStore
from data.windows import Segment, WindowStore, write_windows
from simulators.weather.core_spec import with_dates
from simulators.weather.dycore import DynamicalCore
from simulators.weather.shallow_water import ShallowWater

#: Days between the dates of two records, beyond their own length: no window reaches from one to the next.
APART = 10


def core_windows(
    records: Path, core: DynamicalCore | ShallowWater, path: Path, advance: Callable[[int], None] | None = None
) -> WindowStore:
    """Windows of all answered records, each record a segment of its own.

    The core-seconds of a state are those of the median record, less the share of its spin-up; what the labels cost has
    the spin-up, and the records that failed.

    Args:
        records: the store of a campaign with `core`.
        core: whose layout the states have.
        path: of the windows.
        advance: called with the number of states written.

    Raises:
        InputError: the records are of another simulator, or none was answered.
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
        # The same core answers other requests in another campaign.
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
            label_core_seconds=float(np.nansum(spent)), counted=counted(data), advance=advance,
        )  # fmt: skip


def _segment(data: xr.Dataset, index: int, variables: tuple[str, ...], start: str) -> Segment:
    record = data[list(variables)].isel(sample=index)
    return Segment.of(with_dates(record, start))
