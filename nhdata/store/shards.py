"""Chunks of a session's spikes on a local disk, decoded straight into memory that the caller has.

What `Session.read` does through zarr, for whole chunks and without its detours: one read of a file, one check of
the checksum, one call of blosc. It reads what `nhdata.store.write` writes, and nothing else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.store.layout import CHUNK_SPIKES

_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_ABSENT = 2**64 - 1


class SpikeShards:
    """The arrays ``spikes/tick`` and ``spikes/unit`` of one session. No file stays open.

    Parameters
    ----------
    path : Path
        The session's Zarr group.

    Raises
    ------
    ValueError
        If the arrays are laid out in another way; `Session.read` reads them then.
    """

    def __init__(self, path: Path) -> None:
        self._tick = _Shards(path / "spikes" / "tick", np.dtype(np.uint32))
        self._unit = _Shards(path / "spikes" / "unit", np.dtype(np.uint16))

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

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self.folder, self.dtype = folder, dtype
        meta = json.loads((folder / "zarr.json").read_bytes())
        (sharding,) = meta["codecs"]
        inner = sharding["configuration"]
        names = [codec["name"] for codec in inner["codecs"]]
        key = meta["chunk_key_encoding"]
        if not (
            meta["data_type"] == dtype.name
            and inner["chunk_shape"] == [CHUNK_SPIKES]
            and names == ["bytes", "blosc", "crc32c"]
            and inner["codecs"][0] == _INDEX_CODECS[0]
            and inner["index_codecs"] == _INDEX_CODECS
            and inner["index_location"] == "end"
            and key == {"name": "default", "configuration": {"separator": "/"}}
        ):
            raise ValueError(f"{folder}: not laid out as this version writes spikes")
        self.per_shard = meta["chunk_grid"]["configuration"]["chunk_shape"][0] // CHUNK_SPIKES
        self._index: dict[int, NDArray[np.uint64]] = {}

    def read_chunk(self, number: int, out: NDArray[Any]) -> None:
        shard, place = divmod(number, self.per_shard)
        path = self.folder / "c" / str(shard)
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise _damaged(path, "is not there") from None
        try:
            if shard not in self._index:
                self._index[shard] = self._read_index(file, path)
            offset, size = self._index[shard][place].tolist()
            if offset == _ABSENT:
                raise _damaged(path, f"has no chunk {place}")
            data = _checked(os.pread(file, size, offset), size, path)
        finally:
            os.close(file)
        if data[4:8] != np.uint32(out.nbytes).tobytes():  # blosc's own header: bytes when decoded
            raise _damaged(path, f"has a chunk {place} of another size")
        blosc.decompress(data, out)

    def _read_index(self, file: int, path: Path) -> NDArray[np.uint64]:
        size = 16 * self.per_shard + 4
        data = os.pread(file, size, max(os.fstat(file).st_size - size, 0))
        return np.frombuffer(_checked(data, size, path), "<u8").reshape(-1, 2)


def _checked(data: bytes, size: int, path: Path) -> bytes:
    """`data` without the CRC-32C at its end, which must be that of the rest."""
    body = data[:-4]
    if len(data) != size or google_crc32c.value(body) != int.from_bytes(data[-4:], "little"):
        raise _damaged(path, "does not match its checksum")
    return body


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}", "run 'nhdata validate --deep' on the store, and ingest the session again")
