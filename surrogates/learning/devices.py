"""One script for any number of devices: a one-axis mesh, batches sharded over it, parameters replicated.

Data parallelism as in the JAX guide to distributed arrays: every leaf of a batch is split along its first
axis, and the compiler inserts the reductions. With several processes (on one host or on many, see
`surrogates.learning.processes`) each runs the same program, builds the rows of each batch that its own devices get, and
has a copy of all weights; the first one writes the files, which all of them read.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from data.batch_rows import WHOLE, BatchRows
from data.errors import InputError

AXIS = "data"
#: The most facts that processes compare at a time.
FACTS = 32
A = TypeVar("A")
B = TypeVar("B")


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
    """A mesh over the first `count` devices, or over all of them; those of a process are neighbours.

    Raises:
        InputError: there are fewer devices than `count`.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if count is not None and count > len(devices):
        raise InputError(f"{count} devices are asked for, JAX shows {len(devices)}", where="devices")
    return Mesh(np.array(devices[:count]), (AXIS,))


def local_mesh() -> Mesh:
    """A mesh over the devices of this process alone, for computations in which no other process takes part."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def is_first() -> bool:
    """Whether this process is the one that writes files, as a single process always is."""
    return jax.process_index() == 0


def rows_of_process(mesh: Mesh) -> BatchRows:
    """The rows of a batch that this process builds: those of its devices, which are neighbours in the mesh."""
    places = [k for k, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
    if len(places) == mesh.size:
        return WHOLE
    return BatchRows(places[0], places[-1] + 1, mesh.size)


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Put a batch on the devices, each leaf split along its first axis.

    Args:
        batch: a pytree of numpy arrays; the first axis of each is a multiple of the device count. Where the mesh has
            devices of other processes, it is the rows of this process alone; see `rows_of_process`.
        mesh: the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if sharding.is_fully_addressable:
        return jax.device_put(batch, sharding)
    part = rows_of_process(mesh)

    def place(leaf: Any) -> jax.Array:
        rows = np.asarray(leaf)
        shape = (part.whole(len(rows)), *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, shape)

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


def total(value: float) -> float:
    """The sum of a number over all processes, which all of them have to ask for."""
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import process_allgather

    return float(np.sum(process_allgather(np.float32(value)), dtype=np.float64))


def refuse_other_processes(facts: Mapping[str, str], where: str) -> None:
    """Refuse to go on where another process of the same training has other facts, such as other data on its host.

    Args:
        facts: what has to be the same in all processes, in words that a message can use -> text.
        where: what the error names.

    Raises:
        InputError: this process differs from the first one.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental.multihost_utils import broadcast_one_to_all

    names = ["names of these", *sorted(facts)]
    # All processes have to give an array of one shape, also where they differ.
    here = np.zeros((FACTS, 4), np.int32)
    here[: len(names)] = [_digest(text) for text in (str(names), *(facts[name] for name in names[1:]))]
    first = np.asarray(broadcast_one_to_all(here))
    differing = [name for name, a, b in zip(names, here, first, strict=False) if (a != b).any()]
    if differing:
        raise InputError(
            f"process {jax.process_index()} has another {', '.join(differing)} than process 0",
            where=where,
            remedy="Give all processes the same command, and the same files at the same paths",
        )


def _digest(text: str) -> Int[np.ndarray, " 4"]:
    # Without 64-bit types, which JAX has only where they are asked for, a hash is a few numbers of 32 bits.
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], np.int32)
