"""Times that an NWB file says nobody observed: between the ``obs_intervals`` of its units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources._gaps import gaps
from nhdata.sources.nwb.nodes import Dataset, Group, read_all


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
    return gaps(spans[:, 0], spans[:, 1], stop_s)
