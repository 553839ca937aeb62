"""A campaign has the same records on any engine, whatever its requests, its workers and earlier campaigns did."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from distributed import LocalCluster

from data.errors import InputError
from data.spec import input_hash
from data.store.records import RecordStore
from simulators.campaigns import guarded as seam
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.engine_crew import RESUBMITTED, WINDOW, Engine
from simulators.campaigns.guarded import Finished, close_own_worker
from simulators.campaigns.slot import Job
from simulators.campaigns.summary import CampaignSummary
from simulators.testing import Misbehaving, request
from simulators.workers.channel import GarbledError
from simulators.workers.worker import WorkerAnswer, request_values

LIMITS: dict[str, Any] = {"workers": 1, "retries": 0, "give_up_after": None}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Dask cluster of one worker in this process."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        memory_limit=0,
        dashboard=False,
        scheduler_kwargs={"dashboard": False},
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """An executor of one thread, whose killable worker ends with it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        pool.submit(close_own_worker).result()


def run(folder: Path, requests: list[xr.Dataset], engine: Engine | None = None, dask: str = "") -> CampaignSummary:
    settings = CampaignConfig(**LIMITS, engine="dask" if dask else "local", address=dask or None)
    return run_campaign(
        Misbehaving(str(folder)), requests, folder / "s", settings, progress=False, engine=engine, none_answered=True
    )


def statuses(folder: Path) -> dict[float, str]:
    with RecordStore.open(folder / "s") as records:
        return dict(zip(records.column("x").tolist(), records.column("status").tolist(), strict=True))


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_requests_on_dask_have_the_records_of_a_local_campaign_and_are_computed_once(
    tmp_path: Path, address: str
) -> None:
    modes = ["ok", "segfault", "ok", "not_converged", "ok"]
    requests = [request(float(x), mode) for x, mode in enumerate(modes)]
    summary = run(tmp_path, [*requests, requests[0]], dask=address)
    expected = ["ok", "crashed", "ok", "not_converged", "ok"]
    assert statuses(tmp_path) == dict(enumerate(expected))
    assert (summary.done, dict(summary.failed)) == (3, {"crashed": 1, "not_converged": 1})
    with RecordStore.open(tmp_path / "s") as records:
        good = records.column("status") == "ok"
        assert (records.column("y")[good] == records.column("x")[good] ** 2).all()
        assert (records.column("core_seconds")[good] > 0).all()
    # Nothing lies in the inbox any more, and nothing is computed again.
    assert not (tmp_path / "s.inbox").exists()
    again = run(tmp_path, requests, dask=address)
    assert (again.cached, again.done, calls(tmp_path)) == (5, 0, 5)


class Losing(Executor):
    """An executor that loses the worker of the first so many requests that it is given."""

    def __init__(self, inner: Executor, losses: int) -> None:
        self.inner, self.losses, self.submitted, self.most = inner, losses, 0, 0

    def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        """Lose or run."""
        self.submitted += 1
        if self.submitted > self.losses:
            return self.inner.submit(function, *arguments, **more)
        lost: Future[Any] = Future()
        lost.set_exception(ConnectionResetError("node7 is gone"))
        return lost


@pytest.mark.parametrize(("losses", "status"), [(RESUBMITTED, "ok"), (RESUBMITTED + 1, "lost")])
def test_a_request_whose_worker_was_lost_is_handed_over_three_times_at_most(
    losses: int, status: str, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    executor = Losing(threads, losses)
    run(tmp_path, [request(2.0)], Engine(executor, lambda: 1, (ConnectionResetError,)))
    assert statuses(tmp_path) == {2.0: status}
    assert executor.submitted == RESUBMITTED + 1
    if status == "lost":
        with RecordStore.open(tmp_path / "s") as records:
            assert "node7" in records.column("message")[0]


def test_a_worker_that_does_not_see_the_folder_returns_its_record_and_requests_are_taken_as_needed(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "_shared", lambda inbox, token: False)
    taken: list[int] = []
    recorded: list[int] = []
    append = RecordStore.append

    def counting(records: RecordStore, key: str, values: Any, **facts: Any) -> None:
        append(records, key, values, **facts)
        recorded.append(len(taken))

    def requests() -> Iterator[xr.Dataset]:
        for x in range(3 * WINDOW):
            taken.append(x)
            yield request(float(x))

    monkeypatch.setattr(RecordStore, "append", counting)
    run_campaign(
        Misbehaving(str(tmp_path)), requests(), tmp_path / "s", CampaignConfig(**LIMITS), progress=False,
        engine=Engine(threads, lambda: 1),
    )  # fmt: skip
    assert set(statuses(tmp_path).values()) == {"ok"}
    # No more than the window was ahead of the records.
    assert all(ahead <= number + WINDOW + 1 for number, ahead in enumerate(recorded))


def frame(x: float, y: float, fingerprint: str) -> bytes:
    values = request_values(request(x))
    outputs = {"y": y, "omp_threads": 1}
    job = Job(input_hash(request(x)), values, 1, 0.5, 2.5)
    return Finished(job, WorkerAnswer("ok", outputs, "", "{}", 0.5, 2.5), fingerprint).pack()


def test_frames_that_a_killed_campaign_left_are_recorded_once_and_duplicates_are_waste(
    tmp_path: Path, threads: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = Misbehaving(str(tmp_path)).fingerprint
    inbox = tmp_path / "s.inbox"
    inbox.mkdir()
    (inbox / "a.frame").write_bytes(frame(3.0, 9.0, fingerprint))
    (inbox / "b.frame").write_bytes(frame(3.0, 9.0, fingerprint))
    (inbox / "c.frame").write_bytes(frame(4.0, 16.0, fingerprint)[:-1])
    (inbox / "d.frame").write_bytes(frame(5.0, 99.0, "another simulator"))
    summary = run(tmp_path, [request(3.0), request(4.0)], Engine(threads, lambda: 1))
    # The first was finished already; that of another simulator and the damaged one count for nothing.
    assert (summary.cached, summary.done, calls(tmp_path)) == (1, 1, 1)
    with RecordStore.open(tmp_path / "s") as records:
        assert records.column("y").tolist() == [9.0, 16.0]
        assert records.column("core_seconds")[0] == 2.5
    assert not inbox.exists()
    assert "c.frame cannot be used" in caplog.text
    assert "answered twice" in caplog.text
    assert "2.5 core-s" in caplog.text


def test_an_answer_whose_worker_was_lost_before_it_said_so_is_taken_from_the_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulators.campaigns.engine_crew.INBOX_S", 0.0)
    fingerprint = Misbehaving(str(tmp_path)).fingerprint

    class Silent(Executor):
        """Its worker writes the answer, and is lost before it acknowledges."""

        def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
            _, _, key, values, limits = arguments
            x = float(values["x"])
            (Path(limits.inbox) / f"{key}-1.frame").write_bytes(frame(x, x * x, fingerprint))
            return Future()

    summary = run(tmp_path, [request(2.0), request(3.0)], Engine(Silent(), lambda: 1))
    assert summary.done == 2
    assert statuses(tmp_path) == {2.0: "ok", 3.0: "ok"}
    assert not (tmp_path / "s.inbox").exists()


def test_a_campaign_without_any_worker_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.campaigns.engine_crew.ALONE_S", 0.0)

    class Idle(Executor):
        """An executor without workers."""

        def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
            return Future()

    with pytest.raises(InputError, match="no worker"):
        run(tmp_path, [request(2.0)], Engine(Idle(), lambda: 0))


def test_a_frame_that_is_not_whole_is_never_read() -> None:
    whole = frame(1.0, 1.0, "f")
    for damaged in (whole[:-1], whole + b"x", whole[:10], b"", whole[:-3] + b"abc"):
        with pytest.raises(GarbledError):
            Finished.unpack(damaged)
    assert Finished.unpack(whole).answer.values["y"] == 1.0


def test_an_engine_that_is_gone_ends_the_campaign_with_the_way_to_go_on(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(InputError, match="engine is gone"):
        run(tmp_path, [request(1.0)], Engine(pool, lambda: 1))


@pytest.mark.parametrize(
    "settings", [{"engine": "ray"}, {"address": "tcp://a:1"}, {"engine": "dask", "address": "a", "scheduler_file": "b"}]
)
def test_settings_of_an_engine_that_contradict_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"engine|address"):
        CampaignConfig(**settings)
