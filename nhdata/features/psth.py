"""Peri-stimulus time histograms: what do units do around an event?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bins import bin_of, bin_ticks, whole_bins
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units


def psth(
    trains: Trains, event_tick: Sequence[int] | NDArray[Any], *, pre_s: float, post_s: float, bin_s: float
) -> FloatArray:
    """Mean firing rate of every unit around events, in Hz: the mean of `event_counts` over events, over `bin_s`.

    Gerstein & Kiang 1960, Biophys J 1:15.

    Returns
    -------
    (n_units, n_bins) float64
        Bin k is ``[-pre_s + k * bin_s, -pre_s + (k + 1) * bin_s)`` from the event; NaN without an event.

    Raises
    ------
    UserError
        As `event_counts`.

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.array([90, 100, 105, 210], np.uint32)
    >>> one = spike_trains(tick, np.zeros(4, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 300)])
    >>> psth(one, [100, 200], pre_s=0.01, post_s=0.02, bin_s=0.01).tolist()
    [[50.0, 100.0, 50.0]]
    """
    counts = event_counts(trains, event_tick, pre_s=pre_s, post_s=post_s, bin_s=bin_s)
    n_units, n_events, n_bins = counts.shape
    if n_events == 0:
        return np.full((n_units, n_bins), np.nan)
    return np.asarray(counts.sum(axis=1, dtype=np.int64) / n_events / bin_s)


def event_counts(
    trains: Trains, event_tick: Sequence[int] | NDArray[Any], *, pre_s: float, post_s: float, bin_s: float
) -> NDArray[np.uint32]:
    """Spike counts of every unit in bins around every event.

    Bins are half-open and counted from the event's own tick, so that a spike on the event falls into the bin that
    starts there. An event whose bins do not all lie within one piece is left out: see `whole_events`.

    Parameters
    ----------
    trains : Trains
    event_tick : (n_events,) int
        Events in ticks, in any order.
    pre_s, post_s : float
        Time before and after: whole numbers of bins, not both 0.
    bin_s : float

    Returns
    -------
    (n_units, n_kept, n_bins) uint32
        Events in the order given.

    Raises
    ------
    UserError
        If `pre_s` or `post_s` is negative or no whole number of bins, or the width is not possible.
    """
    before, after = (0 if t == 0 else whole_bins(name, t, bin_s) for name, t in (("pre_s", pre_s), ("post_s", post_s)))
    if before + after == 0:
        raise UserError(f"pre_s={pre_s} and post_s={post_s} leave no bin", "give a positive time before or after")
    numerator, denominator = bin_ticks(bin_s, trains.tick_hz)
    events = np.asarray(event_tick, np.int64).reshape(-1)
    left, right = -(before * numerator // denominator), -(-after * numerator // denominator)
    events = events[whole_events(trains, events, left, right)]
    out = np.zeros((trains.n_units, events.size, before + after), np.uint32)
    piece = np.searchsorted(trains.start_tick, events, side="right") - 1
    over_units(_around, trains, (events, piece, left, right, before, numerator, denominator), out)
    return out


def whole_events(trains: Trains, event_tick: NDArray[np.int64], left: int, right: int) -> NDArray[np.bool_]:
    """(n_events,) whether ``[event + left, event + right)`` lies within one piece."""
    piece = np.searchsorted(trains.start_tick, event_tick + left, side="right") - 1
    return np.asarray((piece >= 0) & (event_tick + right <= trains.pieces[piece, 1]))


@kernel
def _around(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    events: NDArray[np.int64],
    piece: NDArray[np.int64],
    left: int,
    right: int,
    before: int,
    numerator: int,
    denominator: int,
    out: NDArray[np.uint32],
) -> None:
    per_tick = denominator / numerator
    n_bins = out.shape[2]
    for u in range(first.shape[0]):
        for e in range(events.size):
            one = tick[first[u, piece[e]] : stop[u, piece[e]]]
            begin = np.searchsorted(one, np.uint32(max(events[e] + left, 0)))
            for i in range(begin, one.size):
                lag = np.int64(one[i]) - events[e]
                if lag >= right:
                    break
                if lag >= 0:
                    k = before + bin_of(lag, numerator, denominator, per_tick)
                else:  # the floor of -x is -floor(x), or one less where x is no whole number
                    whole = bin_of(-lag, numerator, denominator, per_tick)
                    k = before - whole - (whole * numerator < -lag * denominator)
                if 0 <= k < n_bins:
                    out[u, e, k] += np.uint32(1)
