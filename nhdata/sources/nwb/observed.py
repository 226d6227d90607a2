"""Times that an NWB file says nobody observed: between the ``obs_intervals`` of its units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources.nwb.nodes import Dataset, Group, read_all

LEAST_S = 1e-3
"""Shorter gaps are the rounding of neighbouring intervals."""


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
    column: Any = table.get("obs_intervals")
    if not isinstance(column, Dataset) or column.ndim != 2 or column.shape[1] != 2 or column.dtype.kind not in "iuf":
        return None
    spans = read_all(column).astype(np.float64)
    spans = spans[np.isfinite(spans).all(axis=1) & (spans[:, 1] > spans[:, 0])]
    if not len(spans):
        return None
    spans = np.unique(spans, axis=0)  # sorted; mostly every unit has the same
    start_s = np.append(spans[:, 0], stop_s)
    until_s = np.concatenate([[0.0], np.maximum.accumulate(spans[:, 1])])
    gap = start_s - until_s >= LEAST_S
    return {"start_s": until_s[gap], "stop_s": start_s[gap]} if gap.any() else None
