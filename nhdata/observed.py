"""Time in which single units were observed: units that were recorded for part of a session only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

OBSERVED = "observed_intervals"
"""Interval table of the time in which units were observed: ``start_s``, ``stop_s`` and ``unit_index``, the unit's row.

Only units that were observed for part of the session have rows; the others were observed throughout.
"""

Spans = Mapping[int, NDArray[np.float64]]


def observed_spans(intervals: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[int, NDArray[np.float64]]:
    """Return the time in which each partly observed unit was observed.

    Parameters
    ----------
    intervals : mapping of table name to columns
        Interval tables of a session.

    Returns
    -------
    dict of int to (K, 2) float64
        Half-open intervals in s by row of the unit, in order, none touching another.

    Examples
    --------
    >>> table = {"start_s": np.array([5.0, 0.0]), "stop_s": np.array([9.0, 5.0]), "unit_index": np.array([3, 3])}
    >>> observed_spans({"observed_intervals": table})
    {3: array([[0., 9.]])}
    """
    table = intervals.get(OBSERVED)
    if table is None:
        return {}
    rows = np.asarray(table["unit_index"], np.int64)
    spans = np.column_stack([table["start_s"], table["stop_s"]]).astype(np.float64)
    return {int(row): merged(spans[rows == row]) for row in np.unique(rows)}


def merged(spans: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (K, 2) intervals in order, with those that overlap or touch put together; empty ones are left out."""
    out: list[list[float]] = []
    for start, stop in sorted(spans.tolist()):
        if not start < stop:
            continue
        if out and start <= out[-1][1]:
            out[-1][1] = max(out[-1][1], stop)
        else:
            out.append([start, stop])
    return np.array(out, np.float64).reshape(-1, 2)


def within(spans: NDArray[np.float64], start_s: float, stop_s: float) -> NDArray[np.float64]:
    """Return the parts of intervals that lie in ``[start_s, stop_s)``."""
    return merged(np.clip(spans, start_s, stop_s))


def seconds(spans: NDArray[np.float64]) -> float:
    """Return the length of intervals together."""
    return float((spans[:, 1] - spans[:, 0]).sum())


def spikes_outside(
    time_s: NDArray[np.float64], row: NDArray[np.integer[Any]], intervals: Mapping[str, Mapping[str, NDArray[Any]]]
) -> list[str]:
    """Return a note of the spikes that lie outside the observed time of their own unit; none if there are none."""
    n = 0
    for unit, spans in observed_spans(intervals).items():
        own = time_s[row == unit]
        n += int((np.searchsorted(spans[:, 0], own, "right") == np.searchsorted(spans[:, 1], own, "left")).sum())
    return [f"{n} spikes lie outside the observed intervals of their unit"] if n else []
