"""Checks of spike times and the choice of good units' spikes, in blocks so that memory stays small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._columns import is_int64

BLOCK = 1 << 22


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover ``range(n)``, each of `size` at most."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def check_spike_times(
    path: Path | str, times: NDArray[Any], *, first: int = 0, starts: NDArray[np.int64] | None = None
) -> None:
    """Raise SourceError at the first spike time that is not finite, not ≥ 0, or before the one before it.

    Parameters
    ----------
    path : Path or str
        File to name in the message.
    times : (n,) array
        Seconds or samples.
    first : int
        Index in the file of ``times[0]``, for the message.
    starts : (k,) int64 or None
        Indices in the file where another unit's train starts, so that times may fall.
    """
    if times.dtype.kind == "f":
        _fail_at_first(path, times, first, starts, ~np.isfinite(times), "not a number")
    if times.dtype.kind != "u":
        _fail_at_first(path, times, first, starts, times < 0, "before the recording started")
    falls = np.zeros(len(times), bool)
    np.less(times[1:], times[:-1], out=falls[1:])
    if starts is not None:
        here = starts[(starts >= first) & (starts < first + len(times))] - first
        falls[here] = False
    _fail_at_first(path, times, first, starts, falls, "earlier than the spike before it")


def _fail_at_first(
    path: Path | str,
    times: NDArray[Any],
    first: int,
    starts: NDArray[np.int64] | None,
    wrong: NDArray[np.bool_],
    what: str,
) -> None:
    if wrong.any():
        i = int(wrong.argmax())
        of_unit = "" if starts is None else f", in row {np.searchsorted(starts, first + i, 'right') - 1} of units"
        problem = f"spike {first + i} is at {times[i]}, {what}{of_unit}"
        raise SourceError(path, problem, "mend the spike times at their origin and export or download them again")


def select_spikes(
    times_path: Path | str, times: NDArray[Any], clusters: NDArray[Any], good_ids: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Check one probe's whole spike train and keep the spikes of the good clusters.

    Parameters
    ----------
    times_path : Path or str
        File of `times`, for messages.
    times : (n,) array
        Spike times, seconds or samples.
    clusters : (n,) integer
        Cluster of each spike.
    good_ids : (k,) int64
        Sorted ids of the good clusters.

    Returns
    -------
    time : (m,) array
        Times of the good clusters' spikes, in the order of `times`.
    row : (m,) int32
        Their clusters as rows of `good_ids`.

    Raises
    ------
    SourceError
        If `times` and `clusters` differ in length, or a time is wrong.
    """
    if len(times) != len(clusters):
        problem = f"{len(times)} spike times but {len(clusters)} spike clusters"
        raise SourceError(times_path, problem, "download or export both files again, of one revision")
    padded = np.append(good_ids, -1)
    kept_times = [times[:0]]
    kept_rows = [np.empty(0, np.int32)]
    for block in blocks(len(times)):
        overlapping = slice(max(block.start - 1, 0), block.stop)
        check_spike_times(times_path, times[overlapping], first=overlapping.start)
        ids = clusters[block].astype(np.int64)
        rows = np.searchsorted(good_ids, ids).astype(np.int32)
        keep = (rows < len(good_ids)) & (padded[rows] == ids)
        kept_times.append(times[block][keep])
        kept_rows.append(rows[keep])
    return np.concatenate(kept_times), np.concatenate(kept_rows)


def cluster_ids(path: Path | str, clusters: NDArray[Any]) -> NDArray[np.int64]:
    """The distinct clusters that have spikes, sorted. Raises SourceError if one does not fit into int64."""
    found = [np.unique(clusters[block]) for block in blocks(len(clusters))]
    return int64_ids(path, np.unique(np.concatenate(found))) if found else np.empty(0, np.int64)


def int64_ids(path: Path | str, ids: NDArray[Any]) -> NDArray[np.int64]:
    """Ids of clusters as int64. Raises SourceError if one does not fit."""
    if not is_int64(ids):
        raise SourceError(path, f"cluster {ids.max()} is beyond 64-bit integers", "export it with smaller numbers")
    return ids.astype(np.int64)


def precision_notes(dtype: np.dtype[Any], last_s: float) -> list[str]:
    """A note of how coarse spike times in seconds are that a source keeps as float32 or float16; else none.

    Parameters
    ----------
    dtype : dtype
        Type in which the source keeps them.
    last_s : float
        The last spike.

    Examples
    --------
    >>> precision_notes(np.dtype(np.float32), 7200.0)
    ['spike times are float32: steps of 0.488 ms at the end']
    """
    if dtype.kind != "f" or dtype.itemsize >= 8:
        return []
    step_ms = 1e3 * float(np.spacing(dtype.type(last_s)))
    return [f"spike times are {dtype.name}: steps of {step_ms:.3g} ms at the end"]
