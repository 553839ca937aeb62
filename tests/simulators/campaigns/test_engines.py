"""A campaign has the same records on any engine, whatever its requests, its workers and earlier campaigns did."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
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
from simulators.campaigns.dask_engine import DaskExecutor
from simulators.campaigns.engine_crew import RESUBMITTED, WINDOW, Engine
from simulators.campaigns.guarded import close_own_worker
from simulators.campaigns.slot import Job
from simulators.campaigns.spool import TOKEN, Finished, read_spool
from simulators.campaigns.summary import CampaignSummary
from simulators.campaigns.task_size import MOST, TaskSize
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
    monkeypatch.setattr(seam, "_shared_inbox", lambda limits: None)
    monkeypatch.setattr(TaskSize, "requests", lambda self, workers: 1)
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
    (inbox / "a.frames").write_bytes(frame(3.0, 9.0, fingerprint))
    # One task's answers stand one after the other; its worker was killed while it wrote the second.
    (inbox / "b.frames").write_bytes(frame(3.0, 9.0, fingerprint) + frame(4.0, 16.0, fingerprint)[:-1])
    (inbox / "c.frames").write_bytes(frame(5.0, 99.0, "another simulator"))
    summary = run(tmp_path, [request(3.0), request(4.0)], Engine(threads, lambda: 1))
    # The first was finished already; that of another simulator and the damaged one count for nothing.
    assert (summary.cached, summary.done, calls(tmp_path)) == (1, 1, 1)
    with RecordStore.open(tmp_path / "s") as records:
        assert records.column("y").tolist() == [9.0, 16.0]
        assert records.column("core_seconds")[0] == 2.5
    assert not inbox.exists()
    assert "b.frames has 1 whole answers" in caplog.text
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
            _, _, task, requests, limits = arguments
            x = float(requests[0][1]["x"])
            (Path(limits.inbox) / f"{task}-1.frames").write_bytes(frame(x, x * x, fingerprint))
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
    for damaged in (whole[:-1], whole[:10], whole[:-3] + b"abc"):
        # Those before it are.
        read = Finished.unpack(whole + damaged)
        assert next(read).answer.values["y"] == 1.0
        with pytest.raises(GarbledError):
            next(read)
    assert len(list(Finished.unpack(whole + whole))) == 2


def test_a_task_lasts_about_a_second_within_its_limits() -> None:
    size = TaskSize()
    sizes = []
    for _ in range(6):
        sizes.append(size.requests(1))
        size.learn(sizes[-1], sizes[-1] / 64, 1000 * sizes[-1])
    # It begins with one and grows step by step, since the first tasks start processes.
    assert (sizes[:3], sizes[-1]) == ([1, 4, 16], 64)
    assert size.requests(400) == 256
    for seconds, bytes_each, expected in [(1e-9, 10, MOST), (1e-3, 4_000_000, 2), (3600.0, 10, 1)]:
        other = TaskSize(largest=MOST)
        for _ in range(60):
            other.learn(1, seconds, bytes_each)
        assert other.requests(1) == expected


class Killed(Executor):
    """An executor whose worker is lost in the middle of the first task of several requests, and says so."""

    def __init__(self, inner: Executor) -> None:
        self.inner, self.lost, self.tasks = inner, 0, []

    def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        """Answer the first half, and lose the worker."""
        pickled, fingerprint, task, requests, limits = arguments
        self.tasks.append(len(requests))
        if len(requests) < 4 or self.lost:
            return self.inner.submit(function, *arguments, **more)
        self.lost = len(requests)
        half = requests[: len(requests) // 2]
        future: Future[Any] = Future()

        def lose() -> None:
            function(pickled, fingerprint, task, half, limits)
            future.set_exception(ConnectionResetError("node7 is gone"))

        self.inner.submit(lose)
        return future


def test_what_a_task_had_answered_when_its_worker_was_lost_is_not_computed_again(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    executor = Killed(threads)
    engine = Engine(executor, lambda: 1, (ConnectionResetError,))
    summary = run(tmp_path, [request(float(x)) for x in range(40)], engine)
    assert executor.lost >= 4
    # The rest goes alone, since one request may be what its worker died of.
    assert executor.tasks.count(1) > executor.lost // 2
    assert (summary.done, calls(tmp_path), set(statuses(tmp_path).values())) == (40, 40, {"ok"})


def test_a_task_that_an_engine_runs_again_computes_only_what_is_not_in_its_file(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    simulator, inbox = Misbehaving(str(tmp_path)), tmp_path / "inbox"
    inbox.mkdir()
    (inbox / TOKEN).write_text("token")
    limits = seam.Limits(retries=0, inbox=str(inbox), token="token")
    requests = [(input_hash(one), request_values(one)) for one in map(request, (1.0, 2.0, 3.0))]
    arguments = (pickle.dumps(simulator), simulator.fingerprint, "task")
    first = threads.submit(seam.guarded, *arguments, requests[:2], limits).result()
    second = threads.submit(seam.guarded, *arguments, requests, limits).result()
    assert calls(tmp_path) == 3
    assert set(second.files) > set(first.files)
    read = [one for name in second.files for one in read_spool(inbox / name)[0]]
    assert sorted(float(one.answer.values["y"]) for one in read) == [1.0, 4.0, 9.0]


def test_an_engine_that_is_gone_ends_the_campaign_with_the_way_to_go_on(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(InputError, match="engine is gone"):
        run(tmp_path, [request(1.0)], Engine(pool, lambda: 1))


@pytest.mark.parametrize(("status", "kind"), [("finished", BrokenExecutor), ("error", FileNotFoundError)])
def test_a_scheduler_that_ends_while_a_result_is_fetched_is_no_error_of_the_task(
    status: str, kind: type[BaseException]
) -> None:
    class Fetching:
        """A future of Dask whose result cannot be fetched, or whose task failed."""

        def __init__(self) -> None:
            self.status = status

        def add_done_callback(self, call: Callable[[Any], None]) -> None:
            call(self)

        def result(self) -> None:
            raise FileNotFoundError("Connection reset by peer")

        def release(self) -> None:
            pass

    class Connected:
        def submit(self, function: Any, *arguments: Any, **more: Any) -> Fetching:
            return Fetching()

    assert type(DaskExecutor(Connected()).submit(print).exception()) is kind


@pytest.mark.parametrize(
    "settings", [{"engine": "ray"}, {"address": "tcp://a:1"}, {"engine": "dask", "address": "a", "scheduler_file": "b"}]
)
def test_settings_of_an_engine_that_contradict_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"engine|address"):
        CampaignConfig(**settings)
