"""A Zarr store that writes each file completely to the disk before it replaces the old one.

zarr-python's own store renames files whose content may still be in memory only: after a power failure a chunk that was
complete can be empty. Code that empties a journal or records progress because a chunk was written needs the chunk to be
on the disk.
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
