"""Runs a campaign and gives the records of its requests, in the order of the requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from data.costs import core_seconds
from data.spec import input_hash
from data.store.records import RecordStore
from simulators.adapter import Simulator
from simulators.campaigns.campaign import AGAIN, CampaignConfig, run_campaign
from simulators.campaigns.summary import CampaignSummary


@dataclass(frozen=True)
class Answers:
    """The last record of each request, in the order of the requests; equal requests share a record.

    Attributes:
        status: "ok" or the kind of failure, by request.
        message: message of each failure.
        seconds: wall time of each record, s.
        values: the variables of each record that were asked for, by name; those of a failed record are not meaningful.
        core_seconds: processor time of all records of the requests, s; failures and earlier attempts count.
        costs: processor time of the last record of each request, s.
        summary: what this run of the campaign did.
    """

    status: tuple[str, ...]
    message: tuple[str, ...]
    seconds: Float[np.ndarray, " request"]
    values: tuple[dict[str, Any], ...]
    core_seconds: float
    costs: Float[np.ndarray, " request"]
    summary: CampaignSummary

    @property
    def ok(self) -> Bool[np.ndarray, " request"]:
        """Whether each request was answered."""
        return np.array([status == "ok" for status in self.status], bool)

    def column(self, name: str) -> Float[np.ndarray, " request"]:
        """The values of an output that is a number; NaN where the request failed."""
        pairs = zip(self.status, self.values, strict=True)
        return np.array([float(v[name]) if status == "ok" else np.nan for status, v in pairs], np.float64)


def answer_requests(
    simulator: Simulator,
    requests: Iterable[xr.Dataset],
    store: Path,
    config: CampaignConfig | None = None,
    *,
    names: Sequence[str] = (),
    total: int | None = None,
    progress: bool = True,
    key: str = "campaign",
    none_answered: bool = False,
) -> Answers:
    """Answer all requests that have no record in the store yet, and read the records of all of them.

    Args:
        simulator: picklable simulator, of which each process gets a copy.
        requests: requests, consumed lazily as workers become idle.
        store: directory of the records; it may hold records of other requests too.
        config: number of processes, limits and retries.
        names: variables of the records to read.
        total: number of requests for the estimate of the remaining time, if `requests` has no length.
        progress: whether to show a progress bar and a final table.
        key: configuration key of `config`, for messages.
        none_answered: whether to return normally even if every request failed.

    Raises:
        InputError, SimulationError, KeyboardInterrupt: as `run_campaign`.
        KeyError: a name is not a variable of the records.
    """
    total = len(requests) if total is None and isinstance(requests, Sized) else total
    keys: list[str] = []

    def with_keys() -> Iterator[xr.Dataset]:
        for request in requests:
            keys.append(input_hash(request))
            yield request

    summary = run_campaign(
        simulator, with_keys(), store, config, total=total, progress=progress, key=key, none_answered=none_answered
    )
    requested, latest, spent = set(keys), {}, 0.0
    with RecordStore.open(store) as records:
        costs = core_seconds(records.facts(), str(store))
        read = records.records(status=None, names=("message", "seconds", *names))
        for cost, (stored, values) in zip(costs, read, strict=True):
            # A retry of a failed request is stored after it, under a key that begins with the same hash.
            first = stored.partition(AGAIN)[0]
            if first in requested:
                latest[first] = {**values, "core_seconds": float(cost)}
                spent += float(np.nan_to_num(cost))
    rows = [latest[one] for one in keys]
    return Answers(
        tuple(str(row["status"]) for row in rows),
        tuple(str(row["message"]) for row in rows),
        np.array([float(row["seconds"]) for row in rows], np.float64),
        tuple({name: row[name] for name in names} for row in rows),
        spent,
        np.array([row["core_seconds"] for row in rows], np.float64),
        summary,
    )
