"""One script for any number of devices: a one-axis mesh, batches sharded over it, parameters replicated.

Data parallelism as in the JAX guide to distributed arrays: every leaf of a batch is split along its first
axis, and the compiler inserts the reductions. With several processes (one a host) each runs the same program on the
same data; the first one writes the files, which all of them read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data.errors import InputError

AXIS = "data"
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class DeviceConfig:
    """How the processes of a training find each other.

    Attributes:
        distributed: start `jax.distributed`, so that the devices of all processes form one mesh.
        coordinator: host:port of process 0; None lets JAX detect the cluster.
        processes: number of processes; None lets JAX detect it.
        process: index of this process; None lets JAX detect it.
    """

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def initialise_distributed(config: DeviceConfig) -> None:
    """Join the other processes if the configuration asks for it; has to be called before any computation."""
    if not config.distributed:
        return
    settings: Any = jax.config
    if settings.jax_platforms == "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(config.coordinator, config.processes, config.process)


def enable_compilation_cache(directory: Path | None = None) -> Path:
    """Keep compiled programs between runs, in `directory` or by default in the user's cache directory.

    Programs that compile in less than 0.1 s are not kept, unless the environment sets JAX's own variable for this.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    where = directory or base / "understudy" / "jax"
    where.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(where))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return where


def data_mesh(count: int | None = None) -> Mesh:
    """A mesh over the first `count` devices, or over all of them.

    Raises:
        InputError: there are fewer devices than `count`.
    """
    devices = jax.devices()
    if count is not None and count > len(devices):
        raise InputError(f"{count} devices are asked for, JAX shows {len(devices)}", where="devices")
    return Mesh(np.array(devices[:count]), (AXIS,))


def local_mesh() -> Mesh:
    """A mesh over the devices of this process alone, for computations in which no other process takes part."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def is_first() -> bool:
    """Whether this process is the one that writes files, as a single process always is."""
    return jax.process_index() == 0


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Put a batch on the devices, each leaf split along its first axis.

    Args:
        batch: a pytree of numpy arrays; the first axis of each is a multiple of the device count. With several
            processes each gives the whole of the same batch, and puts its own part on its own devices.
        mesh: the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if sharding.is_fully_addressable:
        return jax.device_put(batch, sharding)

    def place(leaf: Any) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(place, batch)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The same values on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def localise(tree: Any) -> Any:
    """Replicated arrays as arrays of this process alone, so that it can compute with them without the others."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def side_by_side(work: Callable[[A], B], items: Sequence[A], *, kind: Callable[[A], Hashable]) -> Iterator[B]:
    """Yield the results of pieces of work in their order; on a CPU as many run at a time as there are cores.

    Small batches gain more from one core each than from being split over all cores. An accelerator runs one at a time.

    Args:
        work: what to do; it may be called by several threads at a time.
        items: arguments of `work`.
        kind: kind of an item. No other item of a kind begins before the first one is done, so that only
            one thread compiles.
    """
    cores = len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1
    seen: set[Hashable] = set()
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(cores) as threads:
        for item in items:
            waiting.append(threads.submit(work, item))
            if kind(item) not in seen:
                wait(waiting)
                seen.add(kind(item))
            while len(waiting) > 2 * cores or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def agree(value: float) -> float:
    """The number of the first process, in all processes, so that their clocks cannot make them decide differently."""
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return float(broadcast_one_to_all(np.float32(value)))
