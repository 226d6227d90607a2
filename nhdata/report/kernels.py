"""Numba kernels behind the panels: one pass over the spikes each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhdata.features.jit import kernel


@kernel
def count_grid(tick: NDArray[np.uint32], unit: NDArray[np.uint16], n_ticks: int, out: NDArray[np.int64]) -> None:
    """Add spikes to equal parts of ``[0, n_ticks)``: part k of C holds the ticks t with ``t * C // n_ticks == k``.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Spikes in any order.
    n_ticks : int
    out : (n_units, C) int64
        Counts, added to in place.
    """
    n_parts = out.shape[1]
    for i in range(tick.size):
        k = np.int64(tick[i]) * n_parts // n_ticks
        if 0 <= k < n_parts:
            out[unit[i], k] += 1


@kernel
def isi_counts(
    train: NDArray[np.uint32], start: NDArray[np.int64], edges: NDArray[np.float64], out: NDArray[np.int64]
) -> None:
    """Inter-spike intervals of every unit with ``edges[k] <= interval < edges[k + 1]``, in ticks.

    Parameters
    ----------
    train, start : arrays
        From `nhdata.features.group.by_unit`.
    edges : (K + 1,) float64
        Rising.
    out : (n_units, K) int64
        Counts, added to in place.
    """
    for u in range(start.size - 1):
        for i in range(start[u] + 1, start[u + 1]):
            interval = np.float64(train[i]) - np.float64(train[i - 1])
            k = np.searchsorted(edges, interval, side="right") - 1
            if 0 <= k < out.shape[1]:
                out[u, k] += 1


@kernel
def lag_counts(
    train: NDArray[np.uint32], start: NDArray[np.int64], bin_ticks: float, max_pairs: int, out: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pairs of spikes of one unit by how far apart they are: lag bin k is ``[k, k + 1) * bin_ticks``.

    A unit of more than `max_pairs` pairs is counted from its first spikes only.

    Parameters
    ----------
    train, start : arrays
        From `nhdata.features.group.by_unit`.
    bin_ticks : float
        Width of a lag bin.
    max_pairs : int
        Where to stop counting, per unit.
    out : (n_units, K) int64
        Counts of positive lags, added to in place.

    Returns
    -------
    (n_units,) int64
        Number of reference spikes that were counted from.
    """
    used = np.zeros(start.size - 1, np.int64)
    n_lags = out.shape[1]
    for u in range(start.size - 1):
        pairs = 0
        for i in range(start[u], start[u + 1]):
            if pairs >= max_pairs:
                break
            used[u] += 1
            for j in range(i + 1, start[u + 1]):
                k = np.int64((np.float64(train[j]) - np.float64(train[i])) / bin_ticks)
                if k >= n_lags:
                    break
                out[u, k] += 1
                pairs += 1
    return used
