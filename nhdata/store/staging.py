"""Zarr store of a folder that one process writes before it is moved into place."""

from __future__ import annotations

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore


class StagingStore(LocalStore):
    """Local Zarr store with a single writer; unlike zarr's own, it creates groups without hard links."""

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a file unless one has the key."""
        if not await self.exists(key):
            await self.set(key, value)
