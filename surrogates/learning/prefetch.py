"""A thread that prepares batches and puts them on the devices while these work on earlier ones."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from jax.sharding import Mesh

from surrogates.learning.devices import shard_batch

_END = object()


class Prefetcher:
    """An iterator over sharded batches that measures how long its reader had to wait, in `waited` seconds.

    Args:
        batches: pytrees of numpy arrays.
        mesh: devices that get the batches.
        skip: number of batches to skip at the start.
        ahead: number of batches to keep ready.
    """

    def __init__(self, batches: Iterator[Any], mesh: Mesh, *, skip: int = 0, ahead: int = 3) -> None:
        self.waited = 0.0
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(islice(batches, skip, None), mesh), daemon=True)
        self._thread.start()

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def _fill(self, batches: Iterator[Any], mesh: Mesh) -> None:
        try:
            for batch in batches:
                if not self._put(shard_batch(batch, mesh)):
                    return
            self._put(_END)
        except BaseException as error:  # handed to the reader, who raises it
            self._put(error)

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Any]:
        while True:
            start = time.perf_counter()
            item = self._queue.get()
            self.waited += time.perf_counter() - start
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
