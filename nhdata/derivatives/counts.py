"""Binned counts of many sessions in one Zarr store: a group a session, which xarray opens.

``xarray.open_zarr("counts.zarr", group=session_id, consolidated=False)`` has ``counts`` (time, unit) and the
coordinates ``time`` (start of each half-open bin, seconds on the session's clock) and ``unit`` (row in the session),
with the ids of the units in its attribute ``unit_id``. Sessions differ in units and length, so each is a group of its
own.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.storage import open_files
from nhdata.derivatives.chosen import Chosen
from nhdata.derivatives.count_grid import CountGrid, plan_counts
from nhdata.derivatives.outcomes import Outcome, Report, run_sessions
from nhdata.features.bins import FITS, NO_UNIT, bin_ticks, count_spikes
from nhdata.features.threads import n_threads, run_parts
from nhdata.store.columns import compressors, write_array
from nhdata.store.layout import NO_UNIT as NO_ROW
from nhdata.store.publish import sync_tree
from nhdata.store.rows import unit_names
from nhdata.store.session import Session
from nhdata.store.staging import StagingStore
from nhdata.workers import Workers

VERSION = 1
STAGING = ".staging"
STALE_S = 86_400
_AT_FDCWD = -100  # paths are relative to the working directory
_SWAP = 2
TRIES = 10
Dtype = Literal["u1", "u2"]


@dataclass(frozen=True, slots=True)
class CountsJob:
    """What every session is counted with: where to, the width of a bin, the type, and memory for one session."""

    out: Path
    bin_s: float
    dtype: Dtype
    memory_mb: int


def write_counts(
    chosen: Sequence[Chosen],
    out: Path,
    bin_s: float,
    *,
    dtype: Dtype = "u2",
    memory_mb: int = 1024,
    workers: Workers | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Report:
    """Count the spikes of every unit in bins, out of core, session by session.

    A session is staged and then moved into place in one step, so that a reader finds its older or its newer counts at
    any time; one that is there with the same spikes, units, bins and type is skipped, and the same call again goes on
    from where it was. Counts are exact: a spike on an edge opens its bin. A last bin cut off by the session's end is
    left out.

    Parameters
    ----------
    chosen : sequence of Chosen
    out : Path
        Folder of the Zarr store, made if it is not there.
    bin_s : float
    dtype : {"u1", "u2"}
        Unsigned integers of one or two bytes. A session with a larger count fails; none is ever wrapped.
    memory_mb : int
        For the data of all sessions counted at once; a process needs some 300 MB for itself besides. With one job,
        each session is counted on several threads.
    workers : Workers, optional
    on_outcome : callable
        Told each outcome as it comes.

    Returns
    -------
    Report

    Raises
    ------
    UserError
        If the width is not possible, the memory too little, or something else is at `out`.
    """
    workers = workers or Workers()
    out = out.absolute()
    job = CountsJob(out, bin_s, dtype, memory_mb // max(1, min(workers.jobs, len(chosen))))
    bin_ticks(bin_s, 1e9)  # a width that is none is an error before anything is written
    plan_counts(1, 1, 1, job.memory_mb)
    _open_root(job)
    report = Report()
    try:
        for outcome in run_sessions(partial(_write_session, job), chosen, out, workers):
            report.add(outcome)
            on_outcome(outcome)
    finally:
        _sweep(out / STAGING)
    return report


def _open_root(job: CountsJob) -> None:
    """Make the store's root, or hold what is there against what is wanted."""
    wanted = {"nhdata_counts": VERSION, "bin_s": job.bin_s, "dtype": job.dtype}
    try:
        found = json.loads((job.out / "zarr.json").read_text()).get("attributes", {})
    except FileNotFoundError:
        if job.out.exists() and not all(path.name.startswith((".", "zarr.json")) for path in job.out.iterdir()):
            raise UserError(f"{job.out} holds other things", "name a new folder for the counts") from None
        document = {"zarr_format": 3, "node_type": "group", "attributes": wanted}
        open_files(job.out).write("zarr.json", json.dumps(document, indent=2).encode())
        return
    except (ValueError, AttributeError, NotADirectoryError):
        raise UserError(f"{job.out} is not a store of counts", "name a new folder for the counts") from None
    if found != wanted:
        said = ", ".join(f"{k}={found.get(k)}" for k in wanted) if "nhdata_counts" in found else "no counts"
        raise UserError(f"{job.out} holds {said}", "name a new folder, or ask for the same")


def _write_session(job: CountsJob, chosen: Chosen) -> Outcome:
    session = chosen.open()
    place = job.out / chosen.session_id
    attributes = {
        "session_id": session.session_id,
        "source": session.source,
        "content_hash": session.attrs["content_hash"],
        "bin_s": job.bin_s,
        "dtype": job.dtype,
        "units": chosen.units_hash,
    }
    with suppress(FileNotFoundError, ValueError):
        if json.loads((place / "zarr.json").read_text()).get("attributes") == attributes:
            return Outcome(chosen.session_id, "skipped", str(place))
    n_bins = session.n_bins(job.bin_s)
    rows = np.arange(session.n_units) if chosen.rows is None else np.array(chosen.rows, np.int64)
    grid = plan_counts(n_bins, rows.size, np.dtype(job.dtype).itemsize, job.memory_mb, n_threads())
    folder = job.out / STAGING / uuid.uuid4().hex
    folder.parent.mkdir(exist_ok=True)
    try:
        _fill(folder, session, rows, grid, job, attributes)
        sync_tree(folder)
        _move(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(chosen.session_id, "written", str(place))


def _fill(
    folder: Path, session: Session, rows: NDArray[np.int64], grid: CountGrid, job: CountsJob, attributes: dict[str, Any]
) -> None:
    group = zarr.create_group(StagingStore(folder), zarr_format=3, attributes=attributes)
    array = group.create_array(
        "counts",
        shape=(grid.n_bins, grid.n_units),
        dtype=np.dtype(job.dtype),
        chunks=(grid.chunk, max(1, grid.n_units)),
        shards=(grid.shard, max(1, grid.n_units)),
        compressors=compressors(),
        fill_value=int(np.iinfo(job.dtype).max),
        dimension_names=("time", "unit"),
        attributes={"units": "spikes per bin"},
        config={"write_empty_chunks": True},
    )

    def fill_shard(first: int, stop: int) -> None:
        array[first:stop] = count_block(session, rows, first, stop, grid.spikes_at_once, job)

    run_parts(fill_shard, grid.blocks)
    time_s = session.t_start_s + np.arange(grid.n_bins) * job.bin_s
    write_array(group, "time", time_s, ("time",), units="s", long_name="start of the bin on the session's clock")
    names = unit_names(session.session_id, session.units())
    write_array(group, "unit", rows, ("unit",), unit_id=[names[row] for row in rows.tolist()])


def count_block(
    session: Session, rows: NDArray[np.int64], first: int, stop: int, spikes_at_once: int, job: CountsJob
) -> NDArray[Any]:
    """Counts of bins ``first:stop`` of some units, with few spikes in memory at a time.

    Returns
    -------
    (stop - first, n_rows) array

    Raises
    ------
    UserError
        If a count is larger than the type holds.
    """
    numerator, denominator = bin_ticks(job.bin_s, session.tick_hz)
    lo, hi = session.offsets(*(-(-k * numerator // denominator) for k in (first, stop)))
    column = np.full(NO_ROW + 1, NO_ROW, np.uint16)
    column[rows] = np.arange(rows.size)
    largest = int(np.iinfo(job.dtype).max)
    out = np.zeros((stop - first, rows.size), job.dtype)
    for at in range(lo, hi, spikes_at_once):
        tick, unit = session.read(at, min(at + spikes_at_once, hi))
        if unit.size and int(unit.max()) >= session.n_units:
            raise UserError(
                f"a spike is of unit {int(unit.max())} of {session.n_units}", "run 'nhdata validate --deep'"
            )
        unit = column[unit]
        if rows.size < session.n_units:
            tick, unit = tick[unit != NO_ROW], unit[unit != NO_ROW]
        answer = count_spikes(tick, unit, first, numerator, denominator, out, largest)
        assert answer != NO_UNIT
        if answer != FITS:
            wider = "--dtype u2, or a shorter --bin" if job.dtype == "u1" else "a shorter --bin"
            raise UserError(f"a bin of {job.bin_s} s holds more than {largest} spikes of one unit", f"use {wider}")
    return out


def _move(folder: Path, place: Path) -> None:
    """Move `folder` to `place`; the caller deletes what is at `folder` then: the older counts, if there were any.

    The two are exchanged in one step, so that a reader finds the older or the newer counts at any time. File systems
    that cannot do so (NFS) move the older ones away first; they are put back if the new ones cannot follow.
    """
    for k in range(TRIES):
        try:
            if not place.exists():
                os.rename(folder, place)
            else:
                _exchange_or_replace(folder, place)
        except OSError:  # another writer of the same session may have come between
            if k == TRIES - 1:
                raise
        else:
            return


def _exchange_or_replace(folder: Path, place: Path) -> None:
    try:
        _exchange(folder, place)
    except FileNotFoundError:
        raise
    except OSError:
        _replace(folder, place)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step. Raises OSError where the system or the file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    here, paths = ctypes.c_int(_AT_FDCWD), (os.fsencode(one), os.fsencode(other))
    if hasattr(library, "renameat2"):  # Linux
        failed = library.renameat2(here, paths[0], here, paths[1], ctypes.c_uint(_SWAP))
    elif hasattr(library, "renamex_np"):  # macOS
        failed = library.renamex_np(*paths, ctypes.c_uint(_SWAP))
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


def _replace(folder: Path, place: Path) -> None:
    """As `_exchange`, in two steps; what was at `place` is deleted."""
    old = folder.with_name(f"{folder.name}.old")
    try:
        with suppress(FileNotFoundError):
            os.rename(place, old)
        os.rename(folder, place)
    finally:
        with suppress(OSError):  # in vain where the new counts are there
            os.rename(old, place)
        shutil.rmtree(old, ignore_errors=True)


def _sweep(staging: Path) -> None:
    """Remove what writers that died long ago were staging."""
    for folder in staging.glob("*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another writer may be staging
        staging.rmdir()
