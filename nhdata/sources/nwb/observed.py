"""Times that an NWB file says were not observed, by the ``obs_intervals`` of its units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.observed import merged, seconds, within
from nhdata.sources import SourceError
from nhdata.sources._gaps import gaps
from nhdata.sources.nwb.nodes import Dataset, Group, read_all
from nhdata.sources.nwb.tables import ragged_bounds

COLUMN = "obs_intervals"


def unobserved(table: Group, stop_s: float) -> dict[str, NDArray[np.float64]] | None:
    """Spans of ``[0, stop_s)`` in which no unit was observed.

    Parameters
    ----------
    table : Group
        The units table; its ``obs_intervals`` are (n, 2), in s, of all units one after another.
    stop_s : float
        When the recording ended.

    Returns
    -------
    mapping or None
        ``start_s`` and ``stop_s``, sorted; None where the file says nothing of it, or that all was observed.
    """
    spans = _spans(table)
    return None if spans is None else gaps(spans[:, 0], spans[:, 1], stop_s)


def partly_observed(
    table: Group, kept: NDArray[np.bool_], stop_s: float, notes: list[str]
) -> dict[str, NDArray[Any]] | None:
    """Table of the time in which each unit was observed that was not observed whenever any unit was.

    Parameters
    ----------
    table : Group
        The units table.
    kept : (n_units,) bool
        Units of the recording; the rows of the result count along them.
    stop_s : float
        When the recording ended.
    notes : list of str
        Gets a note of how many units are partly observed, or of intervals that cannot be read.

    Returns
    -------
    dict or None
        ``start_s``, ``stop_s`` and ``unit_index``; None if all units were observed at the same times.
    """
    spans = _spans(table)
    if spans is None or f"{COLUMN}_index" not in table:
        if COLUMN in table:
            notes.append(f"{COLUMN} left out: not a list of starts and stops with an index of units")
        return None
    try:
        bounds = ragged_bounds(table, COLUMN)
    except SourceError as error:
        notes.append(f"{COLUMN} left out: {error.problem}")
        return None
    if len(bounds) != len(kept) + 1 or not np.isfinite(spans).all() or (spans[:, 1] < spans[:, 0]).any():
        notes.append(f"{COLUMN} left out: not intervals of each unit, each with its start before its stop")
        return None
    of_any = seconds(within(merged(spans), 0.0, stop_s))
    columns: dict[str, list[Any]] = {"start_s": [], "stop_s": [], "unit_index": []}
    rows = np.flatnonzero(kept).tolist()
    for row, unit in enumerate(rows):
        own = within(merged(spans[bounds[unit] : bounds[unit + 1]]), 0.0, stop_s)
        if len(own) and seconds(own) < of_any - 1e-6:
            columns["start_s"] += own[:, 0].tolist()
            columns["stop_s"] += own[:, 1].tolist()
            columns["unit_index"] += [row] * len(own)
    n = len(set(columns["unit_index"]))
    if not n:
        return None
    notes.append(f"{n} of {len(rows)} units are observed for part of the session only")
    return {
        "start_s": np.array(columns["start_s"]),
        "stop_s": np.array(columns["stop_s"]),
        "unit_index": np.array(columns["unit_index"], np.int64),
    }


def _spans(table: Group) -> NDArray[np.float64] | None:
    column: Any = table.get(COLUMN)
    if not isinstance(column, Dataset) or column.ndim != 2 or column.shape[1] != 2 or column.dtype.kind not in "iuf":
        return None
    return read_all(column).astype(np.float64)
