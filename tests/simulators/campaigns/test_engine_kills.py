"""Processes of a Dask cluster are killed for real, and the campaign has each record once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest
import xarray as xr

from benchmarks.engine_kills import KINDS, kills, workers_of
from data.store.records import RecordStore
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.dask_engine import dask_engine
from simulators.testing import Misbehaving, request

#: A worker that has not come back after this time never will, s.
NEVER_S = 300.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + NEVER_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_a_killed_dask_worker_comes_back_and_no_finished_answer_is_computed_again(tmp_path: Path) -> None:
    killed: set[int] = set()

    def requests() -> Iterator[xr.Dataset]:
        for x in range(60):
            if x == 30:
                killed.add(min(workers_of(os.getpid())))
                os.kill(*killed, signal.SIGKILL)
            if x == 45:
                # The campaign goes on with the one that is left; then there are two again.
                wait_until(lambda: len(workers_of(os.getpid()) - killed) == 2 and engine.workers() == 2)
            yield request(float(x))

    # By default a local cluster ends the nanny of a worker that is away for some time, for good. Here that is at once.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}):
        config = CampaignConfig(workers=2, engine="dask")
        engine = dask_engine(config)
        summary = run_campaign(
            Misbehaving(str(tmp_path)), requests(), tmp_path / "s", config, progress=False, engine=engine
        )
    assert killed
    assert (summary.done, summary.failed) == (60, {})
    with RecordStore.open(tmp_path / "s") as records:
        assert sorted(records.column("x").tolist()) == list(range(60))
    # Only what was being computed at that moment may have begun twice.
    assert len((tmp_path / "calls").read_text().splitlines()) - 60 in (0, 1)


@pytest.mark.slow
def test_no_kill_on_a_cluster_loses_or_doubles_a_record(tmp_path: Path) -> None:
    tally = kills(tmp_path, KINDS, size=150, times=4, workers=1)
    assert (tally.tried, tally.records, tally.lost, tally.duplicated) == (4, 150, 0, 0)
    # The campaign was run again after its own kill, and after that of the scheduler.
    assert tally.resumed >= 2
