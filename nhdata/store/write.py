"""Write one session: staged, synced to disk, then moved into place by a single rename.

A session that was moved into place does not exist yet for readers: it does once the catalog's log names it.
So a writer killed at any instant leaves at worst a folder that nobody reads.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscShuffle

from nhcatalog.errors import UserError
from nhcatalog.files import LocalFiles
from nhdata.features.reference import FEATURE_NAMES, VERSION, WINDOW_S, reference_features
from nhdata.store.columns import compressors, write_array, write_table
from nhdata.store.encode import Encoded
from nhdata.store.layout import (
    CHUNK_SPIKES,
    NO_TICK,
    NO_UNIT,
    STAGING,
    STORE_VERSION,
    block_offsets,
    shard_spikes,
    tick_at,
)
from nhdata.store.ticks import Clock


def check_place(root: Path) -> bool:
    """Whether a store is at `root`; looks, and writes nothing.

    Raises
    ------
    UserError
        If something else is there.
    """
    if (root / "zarr.json").exists():
        found = zarr.open_group(root, mode="r").attrs.get("nhdata_store")
        if found != STORE_VERSION:
            raise UserError(f"{root} is not a store of version {STORE_VERSION} (found {found})", "name another path")
        return True
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file", "name a new path for the store")
    ours = ("zarr.json", "sessions", "catalog")
    if root.exists() and any(p.name not in ours and not p.name.startswith(".") for p in root.iterdir()):
        raise UserError(f"{root} is a folder with other things in it", "name a new path for the store")
    return False


def create_store(root: Path) -> None:
    """Make an empty store at `root`; a store that is there already is left as it is.

    Raises
    ------
    UserError
        If something else is there.
    """
    if not check_place(root):
        _create_group(root / "sessions")
        _create_group(root, nhdata_store=STORE_VERSION)


def _create_group(folder: Path, **attributes: Any) -> None:
    """An empty Zarr group, on disk when this returns; several writers may make it at once, which zarr refuses."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    LocalFiles(folder).write("zarr.json", json.dumps(document, indent=2).encode())


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A fresh folder under ``sessions/.staging``, removed at the end if it was not moved into place."""
    folder = root / "sessions" / STAGING / uuid.uuid4().hex
    folder.parent.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another writer may be staging
            folder.parent.rmdir()


def write_session(folder: Path, encoded: Encoded) -> None:
    """Write a session as a Zarr group at `folder` and sync it to disk."""
    recording, clock, tick, unit = encoded.recording, encoded.clock, encoded.tick, encoded.unit
    session = zarr.create_group(folder, zarr_format=3, attributes=encoded.attributes)
    _write_spikes(session.create_group("spikes"), tick, unit, clock)
    counts = np.bincount(unit, minlength=recording.n_units).astype(np.int64)
    write_table(session.create_group("units"), {**recording.units, "n_spikes": counts}, "unit")
    _write_features(session.create_group("features"), tick, unit, recording.n_units, clock)
    intervals = session.create_group("intervals")
    for name, columns in recording.intervals.items():
        write_table(intervals.create_group(name), columns, "interval")
    series = session.create_group("series")
    for name, one in recording.series.items():
        group = series.create_group(name, attributes={"unit": one.unit})
        write_array(group, "time_s", one.time_s, ("time",))
        write_array(group, "value", one.value, ("time", "component")[: one.value.ndim])
    sync_tree(folder)


def _write_spikes(group: zarr.Group, tick: NDArray[np.uint32], unit: NDArray[np.uint16], clock: Clock) -> None:
    plan = (
        ("tick", tick, NO_TICK, BloscShuffle.shuffle),
        ("unit", unit, NO_UNIT, BloscShuffle.bitshuffle),
    )
    for name, values, fill, shuffle in plan:
        group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(CHUNK_SPIKES,),
            shards=(shard_spikes(values.size),),
            compressors=compressors(shuffle),
            fill_value=fill,
            dimension_names=("spike",),
            config={"write_empty_chunks": True},
        )[...] = values
    write_array(group, "block", block_offsets(tick, clock.tick_hz, clock.duration_s), ("block",))


def _write_features(
    group: zarr.Group, tick: NDArray[np.uint32], unit: NDArray[np.uint16], n_units: int, clock: Clock
) -> None:
    """The reference features of the first minute, or of the whole of a shorter session."""
    window_s = min(WINDOW_S, clock.duration_s)
    values = reference_features(
        tick,
        unit,
        n_units=n_units,
        start_tick=0,
        stop_tick=tick_at(window_s, 0.0, clock.tick_hz),
        tick_hz=clock.tick_hz,
    )
    reference = group.create_group(
        "reference",
        attributes={
            "feature_names": list(FEATURE_NAMES),
            "version": VERSION,
            "window_start_s": clock.t_start_s,
            "window_stop_s": clock.t_start_s + window_s,
        },
    )
    write_array(reference, "value", values, ("unit", "feature"))


def sync_tree(folder: Path) -> None:
    """Make a folder and all in it survive a power cut."""
    for parent, _, files in os.walk(folder):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))


def sync(path: Path) -> None:
    """fsync one file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(root: Path, folder: Path, attributes: dict[str, Any]) -> str:
    """Move a staged session to where the catalog will point, and return that path relative to `root`.

    The place is ``sessions/<source>/<session_id>``. Where that is taken, by an older version of the session
    that readers may hold open, it is ``<session_id>.v2`` and so on. A folder left by a writer that died before its
    commit is taken over if its attributes are the same, the content's hash and the version of the software among them.
    """
    parent = root / "sessions" / attributes["source"]
    if not (parent / "zarr.json").exists():
        _create_group(parent)
    for generation in range(1, 1_000_000):
        name = attributes["session_id"] + (f".v{generation}" if generation > 1 else "")
        try:
            os.rename(folder, parent / name)
        except OSError:
            if not (parent / name).exists():
                raise
            if dict(zarr.open_group(parent / name, mode="r").attrs) != attributes:
                continue
        sync(parent)
        return f"sessions/{attributes['source']}/{name}"
    raise AssertionError("a million versions of one session")
