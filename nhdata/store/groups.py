"""Open a Zarr group where it lies: in a folder, or in an object store by way of whole objects kept on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from io import SEEK_END
from typing import BinaryIO

import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from nhcatalog.errors import UserError
from nhcatalog.files import Files, Stat
from nhcatalog.place import Place, Url
from nhcatalog.storage import open_files

SMALL_BYTES = 2**20

_TRIES = 100


def open_group(place: Place, files: Files | None = None) -> zarr.Group:
    """The Zarr group at a place, for reading.

    Parameters
    ----------
    place : Path or Url
    files : Files, optional
        Those of the place, if they are open already.

    Raises
    ------
    FileNotFoundError
        If no group is there.
    """
    if isinstance(place, Url):
        return zarr.open_group(FilesStore(files or open_files(place)), mode="r", zarr_format=3)
    return zarr.open_group(place, mode="r")


class FilesStore(Store):
    """A Zarr store that reads `nhcatalog.files.Files`, each from its copy on this machine.

    An object store takes tens of milliseconds to answer, however little is asked for, and a session is a hundred small
    objects and a few shards of some megabytes. So every object is fetched whole and once, the small ones of a table
    together, and pieces are read from the copies. What is there is asked once: a session never changes.

    Parameters
    ----------
    files : Files
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, files: Files) -> None:
        super().__init__(read_only=True)
        self._files = files
        self._found: dict[str, Stat] | None = None
        self._fetched: set[str] = set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilesStore) and self._files.root == other._files.root

    def __repr__(self) -> str:
        return f"FilesStore('{self._files.root}')"

    def _names(self) -> dict[str, Stat]:
        if self._found is None:
            self._found = self._files.walk()
        return self._found

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return await asyncio.to_thread(self._get, key, prototype or default_buffer_prototype(), byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, byte_range) for key, byte_range in key_ranges)))

    async def exists(self, key: str) -> bool:
        return key in await asyncio.to_thread(self._names)

    async def list(self) -> AsyncIterator[str]:
        for name in await asyncio.to_thread(self._names):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        async for name in self.list():
            if name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        names = [name async for name in self.list_prefix(start)]
        for child in sorted({name[len(start) :].split("/")[0] for name in names}):
            yield child

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()

    def _get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None) -> Buffer | None:
        table, _, _ = key.partition("/")
        if table not in self._fetched:
            self._fetched.add(table)
            self._files.fetch(
                name
                for name, stat in self._names().items()
                if name.startswith(f"{table}/") and stat.n_bytes <= SMALL_BYTES
            )
        try:
            with open_copy(self._files, key) as file:
                return prototype.buffer.from_bytes(_read(file, byte_range))
        except FileNotFoundError:
            return None


def open_copy(files: Files, name: str) -> BinaryIO:
    """Open a file for reading: its copy on this machine, where it lies elsewhere.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UserError
        If other processes remove the copy whenever it is there.
    """
    for _ in range(_TRIES):
        path = files.local(name)
        try:
            return open(path, "rb")
        except FileNotFoundError:  # a copy may be removed from the cache between finding and opening it
            if not isinstance(files.root, Url):
                raise
    raise UserError(f"{files.locate(name)}: its copy is removed as it comes", "give $NHDATA_CACHE_GB more")


def _read(file: BinaryIO, byte_range: ByteRequest | None) -> bytes:
    match byte_range:
        case RangeByteRequest(start, end):
            file.seek(start)
            return file.read(end - start)
        case OffsetByteRequest(offset):
            file.seek(offset)
        case SuffixByteRequest(suffix):
            file.seek(max(0, file.seek(0, SEEK_END) - suffix))
    return file.read()
