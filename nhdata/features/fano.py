"""Fano factor: how variable are a unit's counts?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nhdata.features import exact
from nhdata.features.bins import bin_ticks, bins_of_train, longest_train, squared_runs
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units


def fano_factor(trains: Trains, bins_s: Sequence[float]) -> FloatArray:
    """Variance (ddof 1) over mean of the counts in bins of each of several widths.

    1 for a Poisson process at every width (Fano 1947, Phys Rev 72:26). Bins are half-open and counted from the start of
    each piece; one cut off by the piece's end is left out.

    Parameters
    ----------
    trains : Trains
    bins_s : sequence of float
        Widths in seconds.

    Returns
    -------
    (n_units, n_widths) float64
        NaN without a spike in a whole bin, or with fewer than two bins.

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.array([0, 1, 2, 3, 20, 21], np.uint32)  # counts of 10 ms: 4, 0, 2, 0
    >>> one = spike_trains(tick, np.zeros(6, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 40)])
    >>> fano_factor(one, [0.01, 0.02]).round(4).tolist()
    [[2.4444, 0.6667]]
    """
    out = np.empty((trains.n_units, len(bins_s)))
    for k, bin_s in enumerate(bins_s):
        n_bins = trains.n_bins(bin_s)
        sums = np.zeros((trains.n_units, 2), np.int64)
        over_units(_count_sums, trains, (trains.start_tick, n_bins, *bin_ticks(bin_s, trains.tick_hz)), sums)
        out[:, k] = [exact.fano(int(n_bins.sum()), *row) for row in sums.tolist()]
    return out


@kernel
def _count_sums(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    start_tick: NDArray[np.int64],
    n_bins: NDArray[np.int64],
    numerator: int,
    denominator: int,
    sums: NDArray[np.int64],
) -> None:
    """Σ c and Σ c² over the bins of all pieces; a run of spikes in one bin is its count, an empty bin adds nothing."""
    bins = np.empty(longest_train(first, stop), np.uint32)
    for u in range(first.shape[0]):
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            n = bins_of_train(one, start_tick[p], n_bins[p], numerator, denominator, bins)
            sums[u, 0] += n
            sums[u, 1] += squared_runs(bins[:n])
