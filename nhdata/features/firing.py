"""How much a unit fires, and for how much of the time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhdata.features.bins import bin_ticks, bins_of_train, longest_train
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units


def firing_rate_hz(trains: Trains) -> FloatArray:
    """Number of spikes over the length of the pieces.

    Returns
    -------
    (n_units,) float64
        0 for a silent unit.

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.array([0, 10, 40, 50], np.uint32)
    >>> one = spike_trains(tick, np.zeros(4, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 100)])
    >>> firing_rate_hz(one).tolist()
    [40.0]
    """
    return np.asarray(trains.n_spikes / trains.duration_s)


def presence_ratio(trains: Trains, bin_s: float = 60.0) -> FloatArray:
    """Fraction of bins that hold a spike: a unit that drifted away, or was lost, has less than 1.

    Bins are half-open and counted from the start of each piece; one cut off by the piece's end is left out. The same
    as SpikeInterface's ``presence_ratio`` with its default bin of 60 s and threshold of 0; IBL uses bins of 10 s.

    Returns
    -------
    (n_units,) float64
        NaN if no whole bin fits into a piece.
    """
    n_bins = trains.n_bins(bin_s)
    present = np.zeros(trains.n_units, np.int64)
    over_units(_present, trains, (trains.start_tick, n_bins, *bin_ticks(bin_s, trains.tick_hz)), present)
    total = int(n_bins.sum())
    return present / total if total else np.full(trains.n_units, np.nan)


@kernel
def _present(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    start_tick: NDArray[np.int64],
    n_bins: NDArray[np.int64],
    numerator: int,
    denominator: int,
    present: NDArray[np.int64],
) -> None:
    bins = np.empty(longest_train(first, stop), np.uint32)
    for u in range(first.shape[0]):
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            n = bins_of_train(one, start_tick[p], n_bins[p], numerator, denominator, bins)
            for i in range(n):
                present[u] += i == 0 or bins[i] != bins[i - 1]
