"""Joins the processes of a training: they find each other, notice when one of them ends, and end together.

Each process runs the same command. JAX makes one mesh of all devices (`jax.distributed`); on CPUs collective operations
go through gloo. JAX itself would notice a process that died after 100 s, or end the others with an error that names
none, so that `surrogates.learning.peers` watches beside it.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import jax

from data.errors import InputError
from data.progress import STOPPED, current_progress
from surrogates.learning.interrupt import BrokenOff
from surrogates.learning.pathways import names_pathways
from surrogates.learning.peers import GRACE_S, Ending, Peers

LOG = logging.getLogger(__name__)
#: Name of the entry by which the processes learn where the first one listens.
ENTRY = "understudy/peers"
#: The connections of this process while it is joined to others.
_JOINED: list[Peers] = []


@dataclass(frozen=True)
class DeviceConfig:
    """How the processes of a training find each other.

    Attributes:
        distributed: start `jax.distributed`, so that the devices of all processes form one mesh.
        coordinator: host:port of process 0; None lets JAX detect the cluster.
        processes: number of processes; None lets JAX detect it.
        process: index of this process; None lets JAX detect it.
        local_device_ids: GPUs of its host that this process uses; None for all, and under SLURM and Open MPI for the
            one whose number is its local rank.
        lost_after_s: a process that gives no sign of life for this long counts as dead, s.
    """

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    local_device_ids: tuple[int, ...] | None = None
    lost_after_s: float = 60.0

    def __post_init__(self) -> None:
        if self.processes is not None and self.process is not None and not 0 <= self.process < self.processes:
            raise ValueError(f"process must be from 0 to {self.processes - 1}, got {self.process}")


def initialise_distributed(config: DeviceConfig) -> None:
    """Start `jax.distributed` if the configuration asks for it; has to be called before any computation.

    Raises:
        InputError: the processes cannot be found, or do not find each other.
    """
    if not config.distributed:
        return
    if names_pathways():
        raise InputError(
            "under Pathways one process sees all devices",
            where="devices.distributed",
            remedy="Start one process, without devices.distributed",
        )
    settings: Any = jax.config
    if settings.jax_platforms == "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX would take SIGTERM for itself; `surrogates.learning.stop_vote` lets all processes agree on where they stop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            config.coordinator,
            config.processes,
            config.process,
            config.local_device_ids,
            # Beyond what the watch beside it needs, which names the process.
            heartbeat_timeout_seconds=max(100, int(2 * config.lost_after_s)),
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the processes of the training cannot be found: {error}",
            where="devices",
            remedy="Give devices.coordinator=HOST:PORT, devices.processes=N and devices.process=K",
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"the processes of the training do not find each other: {str(error).splitlines()[0]}",
            where="devices",
            remedy="Start all of them, and check that devices.coordinator can be reached from every host",
        ) from error


@contextmanager
def processes_joined(config: DeviceConfig) -> Iterator[None]:
    """Join the other processes of a training until the block ends, which it does in all of them or in none.

    Raises:
        InputError: see `initialise_distributed`.
    """
    initialise_distributed(config)
    if not config.distributed or jax.process_count() == 1:
        yield
        return
    peers = _connect(config)
    _JOINED.append(peers)
    try:
        yield
    except BrokenOff:
        # All processes agreed to stop after one step.
        peers.finish()
        raise
    except KeyboardInterrupt:
        _leave(peers, "was stopped", 130)
        raise
    except SystemExit as end:
        _leave(peers, f"ended with status {end.code}", end.code if isinstance(end.code, int) else 1)
        raise
    except InputError as error:
        _leave(peers, f"ended: {_first_line(error)}", 2)
        raise
    except Exception as error:
        _leave(peers, f"failed: {_first_line(error)}", 1)
        raise
    else:
        peers.finish()
    finally:
        _JOINED.remove(peers)


@contextmanager
def news_awaited() -> Iterator[None]:
    """Where the block fails, wait a moment for the news that another process has died, which ends this one.

    A collective operation fails shortly before the news arrives that the process at its other end is no more.
    """
    try:
        yield
    except InputError:
        raise
    except Exception:
        if _JOINED and _JOINED[-1].wait_for_news(2 * GRACE_S):
            time.sleep(4 * GRACE_S)
        raise


def _connect(config: DeviceConfig) -> Peers:
    # JAX has no public names for the address that it detected, and for the service through which processes exchange
    # entries; Orbax uses them in the same way.
    from jax._src.distributed import global_state

    client: Any = global_state.client
    peers = Peers(jax.process_index(), jax.process_count(), config.lost_after_s, _end)
    if peers.process == 0:
        host = str(global_state.coordinator_address).rpartition(":")[0].strip("[]")
        token = secrets.token_hex(16)
        client.key_value_set(ENTRY, f"{token} {host} {peers.listen(token, host)}")
        return peers
    token, host, port = client.blocking_key_value_get(ENTRY, int(1000 * config.lost_after_s)).split()
    try:
        peers.connect(token, host, int(port))
    except OSError as error:
        raise InputError(
            f"process 0 at {host}:{port} cannot be reached: {error}",
            where="devices.coordinator",
            remedy="Let all ports be open between the hosts of a training",
        ) from error
    return peers


def _end(ending: Ending) -> None:
    """End this process, whose main thread may wait for one that is no more."""
    line = ending.line()
    LOG.info(line)
    progress = current_progress()
    if progress is not None:
        with suppress(Exception):
            progress.end(STOPPED, line)
    print(line, file=sys.stderr)
    _exit(ending.status)


def _leave(peers: Peers, how: str, status: int) -> None:
    """Tell the others that this process ends, and end it without JAX's wait for them."""
    peers.tell(how, status)
    # Functions that were registered last run first.
    atexit.register(_exit, status)


def _exit(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    logging.shutdown()
    os._exit(status)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
