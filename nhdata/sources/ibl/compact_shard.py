"""Insertions in IBL's compact Brain-Wide-Map archive: one folder ``spikes/<pid>`` each, see `ibl_compact`."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.recording import SourceFile
from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN, one_line
from nhdata.sources._spikes import int64_ids
from nhdata.sources.ibl.alf import plain_columns
from nhdata.sources.ibl.archive import Archive
from nhdata.sources.ibl.blosc import decode_blosc
from nhdata.sources.ibl.probe import EARLIEST_S

SHARD = re.compile(r"(?:.*/)?spikes/([^/]+)/meta\.json")
FORMATS = ("ibl_agent_spike_shard_v2", "ibl_ai_agent_spike_shard_v2")
ENCODING = {"time_encoding": "delta_int_ticks", "cluster_encoding": "dense_local_indices"}
MAX_META_BYTES = 1 << 20
MAX_ROWS = 10_000_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One insertion in an archive: its folder ``…/spikes/<pid>`` and what its ``meta.json`` says."""

    archive: Archive
    folder: str
    pid: str
    meta: dict[str, Any]
    used: dict[str, SourceFile] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """Folder of the release in the archive, empty or with ``/`` at its end."""
        return self.folder.removesuffix(f"spikes/{self.pid}")

    @property
    def where(self) -> str:
        """The description, for messages."""
        return self.archive.where(f"{self.folder}/meta.json")

    def text(self, key: str) -> str:
        """A text of the description. Raises SourceError where it is missing."""
        value = self.meta.get(key)
        if not isinstance(value, str) or not value:
            raise SourceError(self.where, f"has no '{key}'", AGAIN)
        return value

    def number(self, key: str) -> int:
        """A whole number of the description. Raises SourceError where it is missing."""
        value = self.meta.get(key)
        if not isinstance(value, int) or abs(value) >= 1 << 40:
            raise SourceError(self.where, f"has no whole number '{key}'", AGAIN)
        return value

    def array(self, name: str) -> NDArray[Any]:
        """One of the shard's arrays, noted as read."""
        member = f"{self.folder}/{name}.blosc"
        content = self.archive.read(member)
        self.used[member] = SourceFile(member, len(content), hashlib.sha256(content).hexdigest())
        specs = self.meta.get("arrays")
        return decode_blosc(self.archive.where(member), content, specs.get(name) if isinstance(specs, dict) else None)


def find_shards(archive: Archive) -> list[Shard]:
    """All insertions in an archive.

    Raises
    ------
    SourceError
        If there is none, or one is described or encoded in another way than this reader knows.
    """
    found = []
    for name in archive.places:
        if match := SHARD.fullmatch(name):
            shard = Shard(archive, name.removesuffix("/meta.json"), match[1], _read_meta(archive, name))
            if shard.meta.get("format") not in FORMATS or any(shard.meta.get(k) != v for k, v in ENCODING.items()):
                problem = f"is encoded as {shard.meta.get('format')}, {shard.meta.get('time_encoding')}"
                raise SourceError(shard.where, problem[:200], "use release 1.2.1 of the archive")
            found.append(shard)
    if not found:
        raise SourceError(archive.path, "no spikes/<pid>/meta.json in it", "name bwm_ephys-<version>.tar")
    return found


def _read_meta(archive: Archive, name: str) -> dict[str, Any]:
    content = archive.read(name, MAX_META_BYTES)
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(archive.where(name), "is not JSON", AGAIN) from error
    if not isinstance(meta, dict):
        raise SourceError(archive.where(name), "is not a JSON object", AGAIN)
    return meta


@dataclass(frozen=True, slots=True)
class Train:
    """Spikes of the good units of one insertion.

    Attributes
    ----------
    ticks : (n_spikes,) int64
        In order, from 0 on.
    row : (n_spikes,) int32
        Row of the unit in `ids`.
    ids : (n_units,) int64
        Cluster ids.
    n_early : int
        Spikes before 0 s of the session's clock, which are left out.
    """

    ticks: NDArray[np.int64]
    row: NDArray[np.int32]
    ids: NDArray[np.int64]
    n_early: int


def read_spikes(shard: Shard, tick_hz: float) -> Train:
    """Decode the spikes of an insertion. Raises SourceError if its arrays do not belong together."""
    deltas = shard.array("spike_times_delta_ticks")
    local = shard.array("spike_clusters")
    where = shard.archive.where(shard.folder)
    ids = int64_ids(where, shard.array("cluster_ids"))
    counts = shard.array("cluster_spike_counts")
    if deltas.dtype.kind != "u" or deltas.dtype.itemsize > 4:
        raise SourceError(where, f"its times are {deltas.dtype}, not uint16 or uint32", AGAIN)
    if len(local) != len(deltas):
        raise SourceError(where, f"{len(deltas)} spike times but {len(local)} spike clusters", AGAIN)
    if len(np.unique(ids)) != len(ids) or (len(local) and not 0 <= int(local.min()) <= int(local.max()) < len(ids)):
        raise SourceError(where, f"its spikes name other clusters than the {len(ids)} it lists", AGAIN)
    row = local.astype(np.int32)
    if not np.array_equal(np.bincount(row, minlength=len(ids)), counts):
        raise SourceError(where, "its spikes per cluster are not those of cluster_spike_counts", AGAIN)
    ticks = np.cumsum(deltas, dtype=np.int64)
    ticks += shard.number("time_origin_ticks")
    if len(ticks) and ticks[0] < EARLIEST_S * tick_hz:
        raise SourceError(where, f"its first spike is at {ticks[0] / tick_hz:g} s", AGAIN)
    n_early = int(np.searchsorted(ticks, 0))
    return Train(ticks[n_early:], row[n_early:], ids, n_early)


def read_rows(shard: Shard, name: str, key: str, value: str) -> dict[str, NDArray[Any]]:
    """Rows of a table of the release where a column has a value; empty without that table."""
    import pyarrow as pa
    import pyarrow.compute as pc

    member = f"{shard.root}{name}"
    if member not in shard.archive:
        return {}
    stamp = shard.archive.path.stat().st_mtime_ns
    table, file = _read_parquet(shard.archive.path, member, stamp, shard.archive.places[member])
    shard.used[member] = file
    if key not in table.column_names:
        raise SourceError(shard.archive.where(member), f"has no column '{key}'", AGAIN)
    try:
        return plain_columns(table.filter(pc.equal(table[key], value)))
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise SourceError(shard.archive.where(member), f"damaged ({one_line(error)})", AGAIN) from error


@lru_cache(maxsize=4)
def _read_parquet(path: Path, member: str, mtime_ns: int, place: tuple[int, int]) -> tuple[Any, SourceFile]:
    """An Arrow table out of an archive, and its file's size and hash; kept for the next session."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    archive = Archive(path, {member: place})
    content = archive.read(member)
    try:
        opened = pq.ParquetFile(io.BytesIO(content))
        if opened.metadata.num_rows > MAX_ROWS:
            raise SourceError(archive.where(member), f"{opened.metadata.num_rows} rows are too many", AGAIN)
        table = opened.read()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SourceError(archive.where(member), f"not a readable Parquet file ({one_line(error)})", AGAIN) from error
    return table, SourceFile(member, len(content), hashlib.sha256(content).hexdigest())
