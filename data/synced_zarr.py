"""Zarr on a disk where a file is whole, and on the disk, before it takes the place of the one before.

zarr-python's own store renames what may still be in memory alone: after a power failure a chunk that had been whole can
be empty. Whoever empties a journal, or notes progress, because a chunk was written needs it to be there.
"""

from __future__ import annotations

import asyncio

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from data.files import write_bytes


class SyncedStore(LocalStore):
    """A directory of files, each written by `data.files.write_bytes`; what a kill leaves is what `sweep` removes."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value, and wait for the disk."""
        if not self._is_open:
            await self._open()
        self._check_writable()
        await asyncio.to_thread(write_bytes, self.root / key, memoryview(value.as_buffer_like()))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a value where there is none; one process writes to a store at a time."""
        if not await self.exists(key):
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a value, and wait for the disk."""
        self._ensure_open_sync()
        self._check_writable()
        write_bytes(self.root / key, memoryview(value.as_buffer_like()))
