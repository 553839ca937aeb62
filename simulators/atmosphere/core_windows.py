"""Windows of states, from which surrogates learn a time step, made from a campaign with a dynamical core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import xarray as xr

from data.costs import core_seconds, cost_basis
from data.errors import InputError
from data.spec import content_hash
from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from data.store.records import RecordStore
from simulators.atmosphere.core.core_spec import with_dates

#: Days of gap between the dates of two records, so that no window spans both.
APART = 10


@runtime_checkable
class Core(Protocol):
    """A simulator of trajectories of the atmosphere, whose answers are states at regular times.

    Attributes:
        name: short readable name.
        fingerprint: identity of its labels.
        layout: layout of the states of an answer.
        days: simulated time from the first saved state to the last, days.
        simulated_days: simulated time with that before the first saved state, days.
        saves: number of saved states after the first.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def layout(self) -> WeatherLayout: ...
    @property
    def days(self) -> float: ...
    @property
    def simulated_days(self) -> float: ...
    @property
    def saves(self) -> int: ...


def core_windows(records: Path, core: Core, path: Path, advance: Callable[[int], None] | None = None) -> WindowStore:
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
        cost = seconds * core.days / core.simulated_days / core.saves

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
