"""Inter-spike intervals (ISI): how irregular is a unit, and at what time scales?

An interval is between two consecutive spikes of one unit in one piece. Two spikes on one tick are an interval of 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features import exact
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units

LOG_EDGES_S: FloatArray = np.logspace(-4, 1, 21)
TABLE_CELLS = 2**16


def isi_cv(trains: Trains) -> FloatArray:
    """Coefficient of variation: standard deviation (ddof 0) over mean of the intervals.

    1 for a Poisson process, 0 for a clock (Softky & Koch 1993, J Neurosci 13:334).

    Returns
    -------
    (n_units,) float64
        NaN with fewer than two intervals, or if all are 0.

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.array([0, 10, 40, 50], np.uint32)  # intervals 10, 30, 10
    >>> one = spike_trains(tick, np.zeros(4, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 60)])
    >>> isi_cv(one).round(4).tolist()
    [0.5657]
    """
    return cv_of(isi_sums(trains, LOG_EDGES_S[:0])[0])


def isi_log_histogram(trains: Trains, edges_s: Sequence[float] | FloatArray = LOG_EDGES_S) -> FloatArray:
    """Fraction of a unit's intervals in bins of any widths, by default 20 equal ones in log10 from 0.1 ms to 10 s.

    Bins are half-open, ``edges_s[k] <= interval < edges_s[k + 1]``, and an interval on an edge opens its bin. Intervals
    outside all bins are in the denominator but in no bin, so that a row sums to at most 1.

    Parameters
    ----------
    trains : Trains
    edges_s : (n_bins + 1,) increasing seconds

    Returns
    -------
    (n_units, n_bins) float64
        NaN without an interval.

    Raises
    ------
    UserError
        If the edges do not increase, or one is negative or not a number.
    """
    return histogram_of(*isi_sums(trains, np.asarray(edges_s, np.float64)))


def cv_of(sums: NDArray[np.uint64]) -> FloatArray:
    """`isi_cv` from the sums of `isi_sums`."""
    return exact.per_unit(exact.cv, sums[:, 0], sums[:, 1], sums[:, 2])


def histogram_of(sums: NDArray[np.uint64], histogram: NDArray[np.int64]) -> FloatArray:
    """`isi_log_histogram` from what `isi_sums` gives."""
    return exact.ratios(histogram[:, 1:-1], sums[:, :1])


def isi_sums(trains: Trains, edges_s: FloatArray) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """One pass over all intervals.

    Returns
    -------
    sums : (n_units, 3) uint64
        Number of intervals, their sum and their sum of squares, in ticks; exact: they cannot pass 2**64.
    histogram : (n_units, n_edges + 1) int64
        Intervals below the first edge, between consecutive edges, and from the last on.
    """
    if edges_s.ndim != 1 or not np.isfinite(edges_s).all() or (edges_s < 0).any() or (np.diff(edges_s) <= 0).any():
        raise UserError(f"edges_s={edges_s.tolist()} do not increase", "give edges in seconds, from 0 up")
    # the small factor keeps an edge that is a whole tick (10 s) from rising by a rounding error
    edges = np.minimum(np.ceil(edges_s * trains.tick_hz * (1 - 1e-12)), 2**32).astype(np.int64)
    table, shift = _table(edges)
    sums, histogram = np.zeros((trains.n_units, 3), np.uint64), np.zeros((trains.n_units, edges.size + 1), np.int64)
    over_units(_isi_sums, trains, (edges, table, shift), sums, histogram)
    return sums, histogram


def _table(edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """For each cell of ``2**shift`` ticks, how many edges are not above its first tick."""
    highest = int(edges[-1]) if edges.size else 0
    shift = max(0, (highest // TABLE_CELLS).bit_length())
    return np.searchsorted(edges, np.arange((highest >> shift) + 1) << shift, side="right").astype(np.int64), shift


@kernel
def _isi_sums(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    edges: NDArray[np.int64],
    table: NDArray[np.int64],
    shift: int,
    sums: NDArray[np.uint64],
    histogram: NDArray[np.int64],
) -> None:
    last = table.size - 1
    for u in range(first.shape[0]):
        squares = np.uint64(0)
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            if one.size < 2:
                continue
            sums[u, 0] += np.uint64(one.size - 1)
            sums[u, 1] += np.uint64(one[-1] - one[0])
            for i in range(one.size - 1):
                interval = np.uint64(one[i + 1] - one[i])
                squares += interval * interval
            for i in range(one.size - 1):
                ticks = np.int64(one[i + 1] - one[i])
                k = int(table[min(int(ticks >> shift), last)])
                while k < edges.size and ticks >= edges[k]:
                    k += 1
                histogram[u, k] += 1
        sums[u, 2] = squares


def cv2(trains: Trains) -> FloatArray:
    """Mean of ``2 |I[i+1] - I[i]| / (I[i+1] + I[i])`` over consecutive intervals I.

    Unlike `isi_cv` it is not moved by a slow drift of the rate; 1 for a Poisson process. Holt et al. 1996,
    J Neurophysiol 75:1806. Pairs of two intervals of 0 say nothing and are left out.

    Returns
    -------
    (n_units,) float64
        NaN without two consecutive intervals.
    """
    return _local_means(trains)[:, 0]


def local_variation(trains: Trains) -> FloatArray:
    """LV: three times the mean of ``((I[i+1] - I[i]) / (I[i+1] + I[i]))**2`` over consecutive intervals I.

    1 for a Poisson process, 0 for a clock, above 1 for bursts. Shinomoto et al. 2003, Neural Comput 15:2823. Pairs of
    two intervals of 0 say nothing and are left out.

    Returns
    -------
    (n_units,) float64
        NaN without two consecutive intervals.
    """
    return _local_means(trains)[:, 1]


def _local_means(trains: Trains) -> FloatArray:
    """(n_units, 2): CV2 and LV."""
    sums = np.zeros((trains.n_units, 3))
    over_units(_local_sums, trains, (), sums)
    return exact.ratios(sums[:, 1:] * [2, 3], sums[:, :1])


@kernel
def _local_sums(
    tick: NDArray[np.uint32], first: NDArray[np.int64], stop: NDArray[np.int64], sums: NDArray[np.float64]
) -> None:
    """Pairs of consecutive intervals, the sum of their contrasts |a - b| / (a + b), and that of the squares."""
    for u in range(first.shape[0]):
        n = 0
        total = 0.0
        squares = 0.0
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            for i in range(one.size - 2):
                both = np.float64(one[i + 2] - one[i])
                if both > 0:
                    change = np.float64(np.int64(one[i + 2]) + np.int64(one[i]) - 2 * np.int64(one[i + 1]))
                    contrast = abs(change) / both
                    n += 1
                    total += contrast
                    squares += contrast * contrast
        sums[u, 0] = n
        sums[u, 1] = total
        sums[u, 2] = squares
