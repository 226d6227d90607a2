"""A session's spikes, decoded straight from the files of its shards into the memory where they are wanted.

What zarr does, without its detours: one read of a file, one check of the checksum, one call of blosc. It reads what
`nhdata.store.write` writes, and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.parallel import in_parallel
from nhdata.store.groups import open_copy
from nhdata.store.layout import CHUNK_SPIKES

THREADS = 2

_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_ABSENT = 2**64 - 1


class SpikeShards:
    """The arrays ``spikes/tick`` and ``spikes/unit`` of one session. No file stays open.

    Parameters
    ----------
    files : Files
        Those of the session's Zarr group.

    Raises
    ------
    ValueError
        If the arrays are laid out in another way; zarr reads them then.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._tick = _Shards(files, "spikes/tick", np.dtype(np.uint32))
        self._unit = _Shards(files, "spikes/unit", np.dtype(np.uint16))

    def fetch(self, numbers: Iterable[int]) -> None:
        """Bring the shards that hold some chunks to this machine, several at once."""
        self._files.fetch(
            sorted({array.shard_of(number)[0] for number in numbers for array in (self._tick, self._unit)})
        )

    def read(self, lo: int, hi: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Spikes ``lo:hi``, ``0 <= lo <= hi``, as far as there are any: ticks and rows of units.

        Raises
        ------
        UserError
            If a chunk is missing or damaged.
        """
        hi = min(hi, self._tick.n_spikes)
        lo = min(lo, hi)
        tick, unit = np.empty(hi - lo, np.uint32), np.empty(hi - lo, np.uint16)
        numbers = range(lo // CHUNK_SPIKES, -(-hi // CHUNK_SPIKES)) if hi > lo else range(0)
        self.fetch(numbers)

        def read_part(number: int) -> None:
            start = number * CHUNK_SPIKES
            a, b = max(start, lo), min(start + CHUNK_SPIKES, hi)
            for array, out in ((self._tick, tick), (self._unit, unit)):
                if b - a == CHUNK_SPIKES:
                    array.read_chunk(number, out[a - lo : b - lo])
                else:
                    chunk = np.empty(CHUNK_SPIKES, array.dtype)
                    array.read_chunk(number, chunk)
                    out[a - lo : b - lo] = chunk[a - start : b - start]

        in_parallel(read_part, numbers, at_once=THREADS)
        return tick, unit

    def read_chunk(self, number: int, tick: NDArray[np.uint32], unit: NDArray[np.uint16]) -> None:
        """Decode chunk `number` into `tick` and `unit`, each (CHUNK_SPIKES,); past the last spike they are sentinels.

        Raises
        ------
        UserError
            If the chunk is missing or damaged.
        """
        self._tick.read_chunk(number, tick)
        self._unit.read_chunk(number, unit)


class _Shards:
    """One sharded array of whole chunks: a file per shard, at whose end stands where each chunk lies in it."""

    def __init__(self, files: Files, name: str, dtype: np.dtype[Any]) -> None:
        self.files, self.name, self.dtype = files, name, dtype
        meta = json.loads(files.read(f"{name}/zarr.json"))
        try:
            (self.n_spikes,), self.per_shard = meta["shape"], _chunks_per_shard(meta, dtype)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{files.locate(name)}: not laid out as this version writes spikes") from None
        self._index: dict[str, NDArray[np.uint64]] = {}

    def shard_of(self, number: int) -> tuple[str, int]:
        """The file that holds a chunk, and the chunk's place in it."""
        shard, place = divmod(number, self.per_shard)
        return f"{self.name}/c/{shard}", place

    def read_chunk(self, number: int, out: NDArray[Any]) -> None:
        name, place = self.shard_of(number)
        path = self.files.locate(name)
        try:
            opened = open_copy(self.files, name)
        except FileNotFoundError:
            raise _damaged(path, "is not there") from None
        with opened:
            file = opened.fileno()
            if name not in self._index:
                self._index[name] = self._read_index(file, path)
            offset, size = self._index[name][place].tolist()
            if offset == _ABSENT:
                raise _damaged(path, f"has no chunk {place}")
            data = _checked(os.pread(file, size, offset), size, path)
        sizes = data[4:8] + data[12:16]  # blosc's own header: bytes when decoded, bytes in all
        if sizes != np.array([out.nbytes, len(data)], "<u4").tobytes():
            raise _damaged(path, f"has a chunk {place} of another size")
        blosc.decompress(data, out)

    def _read_index(self, file: int, path: str) -> NDArray[np.uint64]:
        size = 16 * self.per_shard + 4
        data = os.pread(file, size, max(os.fstat(file).st_size - size, 0))
        return np.frombuffer(_checked(data, size, path), "<u8").reshape(-1, 2)


def _chunks_per_shard(meta: dict[str, Any], dtype: np.dtype[Any]) -> int:
    """From an array's metadata; ValueError, KeyError or TypeError if it is not laid out as we write."""
    (sharding,) = meta["codecs"]
    inner = sharding["configuration"]
    if not (
        meta["data_type"] == dtype.name
        and meta["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        and inner["chunk_shape"] == [CHUNK_SPIKES]
        and [codec["name"] for codec in inner["codecs"]] == ["bytes", "blosc", "crc32c"]
        and inner["codecs"][0] == _INDEX_CODECS[0]
        and inner["index_codecs"] == _INDEX_CODECS
        and inner["index_location"] == "end"
    ):
        raise ValueError
    (shard,) = meta["chunk_grid"]["configuration"]["chunk_shape"]
    return int(shard) // CHUNK_SPIKES


def _checked(data: bytes, size: int, path: str) -> bytes:
    """`data` without the CRC-32C at its end, which must be that of the rest."""
    body = data[:-4]
    if len(data) != size or google_crc32c.value(body) != int.from_bytes(data[-4:], "little"):
        raise _damaged(path, "does not match its checksum")
    return body


def _damaged(path: str, what: str) -> UserError:
    return UserError(f"{path} {what}", "run 'nhdata validate --deep' on the store, and ingest the session again")
