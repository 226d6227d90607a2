"""Time that nobody recorded: what lies between the spans in which somebody did."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_S = 1e-3
"""Shorter gaps are the rounding of neighbouring spans."""


def gaps(
    start_s: NDArray[np.float64], stop_s: NDArray[np.float64], until_s: float
) -> dict[str, NDArray[np.float64]] | None:
    """The gaps between spans, from 0 to `until_s`, as a table of spans; None where there are no spans or no gaps.

    Spans that lack an end are passed over.

    Examples
    --------
    >>> gaps(np.array([30.0, 0.0]), np.array([60.0, 20.0]), 60.0)
    {'start_s': array([20.]), 'stop_s': array([30.])}
    """
    spans = np.column_stack([start_s, stop_s]).astype(np.float64)
    spans = spans[np.isfinite(spans).all(axis=1) & (spans[:, 1] > spans[:, 0])]
    if not len(spans):
        return None
    spans = np.unique(spans, axis=0)  # sorted
    begin_s = np.append(spans[:, 0], until_s)
    end_s = np.concatenate([[0.0], np.maximum.accumulate(spans[:, 1])])
    gap = begin_s - end_s >= LEAST_S
    return {"start_s": end_s[gap], "stop_s": begin_s[gap]} if gap.any() else None
