"""Correlograms: how often does one spike follow another by so much?

A lag is a difference of ticks, so its bin is exact: bin k holds ``k * bin_s <= lag < (k + 1) * bin_s``. Counts are raw
pairs of spikes. The same edges as SpikeInterface's; pynapple's bins are centred on multiples of ``bin_s`` and
hold rates. Pairs lie within one piece.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bins import bin_of, bin_ticks, whole_bins
from nhdata.features.jit import kernel
from nhdata.features.threads import FEW_SPIKES, n_threads, run_parts
from nhdata.features.trains import Trains, over_units


def autocorrelogram(trains: Trains, bin_s: float = 0.001, window_s: float = 0.05) -> NDArray[np.int64]:
    """Pairs of spikes of one unit by the time from the earlier to the later, from 0 up to `window_s`.

    The correlogram of all ordered pairs is symmetric: this is its right half. A spike and itself are no pair; two
    spikes on one tick are, at lag 0. Perkel, Gerstein & Moore 1967, Biophys J 7:391.

    Parameters
    ----------
    trains : Trains
    bin_s, window_s : float
        Width of a bin, and of all of them: a whole number of bins.

    Returns
    -------
    (n_units, n_bins) int64

    Raises
    ------
    UserError
        If `window_s` is not a whole number of bins, one at least.

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.array([0, 2, 3], np.uint32)  # lags of 2, 3 and 1 ms
    >>> one = spike_trains(tick, np.zeros(3, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 10)])
    >>> autocorrelogram(one, 0.002, 0.004).tolist()
    [[1, 2]]
    """
    n_bins = whole_bins("window_s", window_s, bin_s)
    numerator, denominator = bin_ticks(bin_s, trains.tick_hz)
    out = np.zeros((trains.n_units, n_bins), np.int64)
    over_units(_auto, trains, (numerator, denominator, -(-n_bins * numerator // denominator)), out)
    return out


def crosscorrelogram(
    trains: Trains, pairs: Sequence[tuple[int, int]] | NDArray[np.integer], bin_s: float = 0.001, window_s: float = 0.05
) -> NDArray[np.int64]:
    """Pairs of spikes of two units a, b by the lag ``time of b - time of a``, from ``-window_s`` up to `window_s`.

    Bin k of the 2n is ``[(k - n) * bin_s, (k - n + 1) * bin_s)``: lag 0 opens bin n. A peak to its right says that b
    fires after a.

    Parameters
    ----------
    trains : Trains
    pairs : (n_pairs, 2) int
        Rows of units a and b; they must differ.
    bin_s, window_s : float
        Width of a bin, and of the bins on either side of 0: a whole number of bins.

    Returns
    -------
    (n_pairs, 2 * n) int64

    Raises
    ------
    UserError
        If a pair names a unit that is not there or one unit twice, or `window_s` is not a whole number of bins.
    """
    n_bins = whole_bins("window_s", window_s, bin_s)
    rows = np.asarray(pairs, np.int64).reshape(-1, 2)
    for a, b in rows.tolist():
        if a == b:
            raise UserError(f"the pair ({a}, {b}) is one unit twice", "use autocorrelogram")
        if not (0 <= a < trains.n_units and 0 <= b < trains.n_units):
            raise UserError(f"the pair ({a}, {b}) names no unit", f"rows of units run from 0 to {trains.n_units - 1}")
    numerator, denominator = bin_ticks(bin_s, trains.tick_hz)
    reach = -(-n_bins * numerator // denominator)
    out = np.zeros((len(rows), 2 * n_bins), np.int64)
    few = trains.tick.size < FEW_SPIKES or len(rows) < 2
    parts = np.array_split(np.arange(len(rows)), 1 if few else min(len(rows), 4 * n_threads()))
    run_parts(
        _cross,
        [
            (
                trains.tick,
                trains.first,
                trains.stop,
                rows[part],
                numerator,
                denominator,
                reach,
                out[part[0] : part[-1] + 1],
            )
            for part in parts
            if part.size
        ],
    )
    return out


def pairs_between(trains: Trains, start_tick: int, stop_tick: int) -> NDArray[np.int64]:
    """(n_units,) pairs of spikes of one unit, ``start_tick <= lag < stop_tick``: one bin of `autocorrelogram`.

    In time proportional to the spikes, however many pairs there are.
    """
    out = np.zeros((trains.n_units, 1), np.int64)
    over_units(_between, trains, (start_tick, stop_tick), out)
    return out[:, 0]


@kernel
def _auto(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    numerator: int,
    denominator: int,
    reach: int,
    out: NDArray[np.int64],
) -> None:
    per_tick = denominator / numerator
    for u in range(first.shape[0]):
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            for i in range(one.size):
                for j in range(i + 1, one.size):
                    lag = np.int64(one[j]) - np.int64(one[i])
                    if lag >= reach:
                        break
                    out[u, bin_of(lag, numerator, denominator, per_tick)] += 1


@kernel
def _between(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    start_tick: int,
    stop_tick: int,
    out: NDArray[np.int64],
) -> None:
    """Two marks run along the train ahead of each spike."""
    for u in range(first.shape[0]):
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            near = 0
            far = 0
            for i in range(one.size):
                now = np.int64(one[i])
                near = max(near, i + 1)
                far = max(far, near)
                while near < one.size and np.int64(one[near]) - now < start_tick:
                    near += 1
                while far < one.size and np.int64(one[far]) - now < stop_tick:
                    far += 1
                out[u, 0] += max(far - near, 0)


@kernel
def _cross(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    pairs: NDArray[np.int64],
    numerator: int,
    denominator: int,
    reach: int,
    out: NDArray[np.int64],
) -> None:
    per_tick = denominator / numerator
    n_bins = out.shape[1]
    left = n_bins // 2
    for q in range(pairs.shape[0]):
        a, b = pairs[q, 0], pairs[q, 1]
        for p in range(first.shape[1]):
            one = tick[first[a, p] : stop[a, p]]
            other = tick[first[b, p] : stop[b, p]]
            begin = 0
            for i in range(one.size):
                now = np.int64(one[i])
                while begin < other.size and np.int64(other[begin]) < now - reach:
                    begin += 1
                for j in range(begin, other.size):
                    lag = np.int64(other[j]) - now
                    if lag >= reach:
                        break
                    if lag >= 0:
                        k = left + bin_of(lag, numerator, denominator, per_tick)
                    else:  # the floor of -x is -floor(x), or one less where x is no whole number
                        whole = bin_of(-lag, numerator, denominator, per_tick)
                        k = left - whole - (whole * numerator < -lag * denominator)
                    if k >= 0:
                        out[q, k] += 1
