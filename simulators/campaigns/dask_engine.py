"""Campaigns on Dask distributed: on a cluster that is there, or on local processes that end with the campaign."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from data.errors import InputError
from data.extras import MissingExtraError
from simulators.campaigns.config import CampaignConfig
from simulators.campaigns.engine_crew import RESUBMITTED, Engine

#: Seconds after which the number of workers is asked again.
COUNT_S = 2.0
#: Seconds to wait for a scheduler.
CONNECT_S = 30.0
#: Settings of local Dask processes. Half of what they do by default is to watch themselves, a hundred times a second.
QUIET: Mapping[str, Any] = {
    # A local cluster ends the nanny of a worker that is away for longer than this, and starts no other. Starting a
    # process takes longer than the default of 15 s where the machine is busy, and then no worker ever came back.
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.allowed-failures": RESUBMITTED,
    "distributed.diagnostics.nvml": False,
}


class DaskExecutor(Executor):
    """Runs functions on the workers of a Dask client; a task has a name, and is never run again unasked.

    Args:
        client: a `distributed.Client`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *arguments: Any, key: tuple[str, str] | None = None, **more: Any
    ) -> Future[Any]:
        """Submit a call.

        Args:
            function: what to call.
            arguments, more: its arguments.
            key: group and name of the task. Both are global in the cluster: a task with the same name is the same task.
                A scheduler remembers each group for ever, so that a campaign has one.

        Raises:
            BrokenExecutor: the client has lost its scheduler.
        """
        try:
            handed = self._client.submit(function, *arguments, **more, key=key, pure=False, retries=0)
        except Exception as error:
            # A client that is closed raises an exception of no class of its own.
            raise BrokenExecutor(str(error)) from error
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def done(task: Any) -> None:
            # Called in a thread of its own. The result is fetched at once and let go of, since what lies in a cluster
            # is computed again when its worker dies.
            try:
                result = task.result()
            except OSError as error:
                # What the task raised comes with its state; else the scheduler or the connection to it ended meanwhile.
                future.set_exception(error if task.status == "error" else BrokenExecutor(str(error)))
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            with suppress(Exception):
                task.release()

        handed.add_done_callback(done)
        return future


def dask_engine(config: CampaignConfig) -> Engine:
    """The Dask cluster of a campaign: that at its address, that of its scheduler file, or local processes.

    Raises:
        InputError: Dask is not installed, or there is no scheduler.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise MissingExtraError(
            "campaign.engine=dask needs the package distributed", "cluster", where="campaign.engine"
        ) from error
    with ExitStack() as stack:
        cluster: Any = None
        if config.address is None and config.scheduler_file is None:
            cluster = stack.enter_context(local_cluster(config.processes))
        try:
            client = Client(
                cluster or config.address, scheduler_file=config.scheduler_file, timeout=CONNECT_S, set_as_default=False
            )
        except (OSError, ValueError, TimeoutError) as error:
            where = "campaign.address" if config.address is not None else "campaign.scheduler_file"
            raise InputError(
                f"no Dask scheduler answers: {error}",
                where=where,
                remedy="Start one with `dask scheduler`, and workers",
            ) from error
        end = stack.pop_all()
    counted = [-math.inf, 0]

    def workers() -> int:
        now = time.monotonic()
        if now - counted[0] > COUNT_S:
            try:
                count = sum(client.nthreads().values())
            except (OSError, ValueError, CancelledError):
                # A scheduler that is gone cancels all tasks, and the first of these to be collected says so.
                count = 0
            counted[:] = [time.monotonic(), count]
        return int(counted[1])

    def close() -> None:
        with suppress(Exception):
            client.close(timeout=5)
        end.close()

    return Engine(DaskExecutor(client), workers, (KilledWorker,), close, named=True, hands_over_again=True)


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """A `distributed.LocalCluster` of processes with one thread each, which serves no pages.

    Args:
        workers: number of worker processes. One that ends is started again.
    """
    import dask
    from distributed import LocalCluster

    # Workers that are started again later get these settings too.
    with dask.config.set(dict(QUIET)):
        with warnings.catch_warnings():
            # It prefers other keywords, which still start a server.
            warnings.filterwarnings("ignore", message="Setting `dashboard`")
            # One request at a time, and no limit of memory: the guard of each request counts what it started.
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                # No pages are served, on this machine or to others.
                dashboard=False,
                scheduler_kwargs={"dashboard": False},
                silence_logs=50,
            )
        try:
            yield cluster
        finally:
            with suppress(Exception):
                cluster.close(timeout=10)
