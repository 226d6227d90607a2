"""Autocorrelation of binned counts: what one bin says of the next ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features import exact
from nhdata.features.bins import MOST_BINS, bin_ticks, bins_of_train, longest_train, squared_runs
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units

LAGS_AT_ONCE = 5


def autocorrelation(trains: Trains, bin_s: float = 0.01, n_lags: int = 10) -> FloatArray:
    """Sample autocorrelation of the counts c in bins of `bin_s`, at lags of 1 … `n_lags` bins.

    At lag l it is ``Σ (c[k] - m)(c[k + l] - m) / Σ (c[k] - m)**2``, m the mean count (the "biased" estimate of Box &
    Jenkins 1976, ch. 2). Bins are half-open and counted from the start of each piece; one cut off by the piece's end is
    left out; with several pieces the sums and m run over all of them, and no pair spans a gap.

    Parameters
    ----------
    trains : Trains
    bin_s : float
    n_lags : int

    Returns
    -------
    (n_units, n_lags) float64
        NaN where all counts are equal, as those of a silent unit.

    Raises
    ------
    UserError
        If `bin_s` is not possible or `n_lags` is not positive.

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.arange(0, 1000, 20, dtype=np.uint32)  # every second bin of 10 ms holds a spike
    >>> one = spike_trains(tick, np.zeros(50, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 1000)])
    >>> autocorrelation(one, 0.01, 2).tolist()
    [[-0.99, 0.98]]
    """
    if n_lags < 1:
        raise UserError(f"n_lags={n_lags} is not a number of lags", "give 1 or more")
    n_bins = trains.n_bins(bin_s)
    if n_bins.max() > MOST_BINS:
        raise UserError(f"{n_bins.max():,} bins of {bin_s} s do not fit into memory", "use wider bins")
    sums = np.zeros((trains.n_units, 2 + 2 * n_lags), np.int64)
    over_units(_lagged_sums, trains, (trains.start_tick, n_bins, *bin_ticks(bin_s, trains.tick_hz)), sums)
    pairs = [int(np.maximum(n_bins - lag, 0).sum()) for lag in range(1, n_lags + 1)]
    n = int(n_bins.sum())
    rows = [exact.autocorrelation(n, s[0], s[1], pairs, s[2 : 2 + n_lags], s[2 + n_lags :]) for s in sums.tolist()]
    return np.array(rows, np.float64).reshape(trains.n_units, n_lags)


@kernel
def _lagged_sums(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    start_tick: NDArray[np.int64],
    n_bins: NDArray[np.int64],
    numerator: int,
    denominator: int,
    sums: NDArray[np.int64],
) -> None:
    """Per unit: Σ c, Σ c²; at each lag Σ c[k] c[k + lag]; at each lag Σ (c[k] + c[k + lag]); over pairs in a piece."""
    n_lags = (sums.shape[1] - 2) // 2
    bins = np.empty(longest_train(first, stop), np.uint32)
    counts = np.zeros(n_bins.max() + n_lags + LAGS_AT_ONCE, np.uint32)
    for u in range(first.shape[0]):
        out = sums[u]
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            n = bins_of_train(one, start_tick[p], n_bins[p], numerator, denominator, bins)
            out[0] += n
            out[1] += squared_runs(bins[:n])
            for i in range(n):
                counts[bins[i]] += np.uint32(1)
            for lag in range(1, n_lags + 1, LAGS_AT_ONCE):
                _products(bins[:n], counts[lag:], out[1 + lag : 2 + n_lags])
            for i in range(n):
                counts[bins[i]] = np.uint32(0)
            head = 0
            tail = 0
            for lag in range(1, min(n_lags, n_bins[p] - 1) + 1):
                while head < n and bins[head] < lag:
                    head += 1
                while tail < n and bins[n - 1 - tail] >= n_bins[p] - lag:
                    tail += 1
                out[1 + n_lags + lag] += 2 * n - head - tail  # the first and the last `lag` bins have one partner only


@kernel
def _products(bins: NDArray[np.uint32], counts: NDArray[np.uint32], out: NDArray[np.int64]) -> None:
    """Add Σ c[k] c[k + lag] at five lags in a row: the sum, over spikes, of the count so many bins later."""
    a = b = c = d = e = np.int64(0)
    for i in range(bins.size):
        k = bins[i]
        a += counts[k]
        b += counts[k + 1]
        c += counts[k + 2]
        d += counts[k + 3]
        e += counts[k + 4]
    for lag, value in enumerate((a, b, c, d, e)):
        if lag < out.size:
            out[lag] += value
