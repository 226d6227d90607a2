"""Bursts: does a unit fire its spikes in quick packets?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhdata.features import exact
from nhdata.features.exact import FloatArray
from nhdata.features.jit import kernel
from nhdata.features.trains import Trains, over_units, whole_ticks


def burst_index(trains: Trains, interval_s: float = 0.006) -> FloatArray:
    """Fraction of spikes with an inter-spike interval shorter than `interval_s` before or after them.

    Mizuseki et al. 2012, Hippocampus 22:1659; CellExplorer's ``burstIndex_Mizuseki2012``.

    Returns
    -------
    (n_units,) float64
        NaN without spikes.

    Raises
    ------
    UserError
        If `interval_s` is negative or not a number.

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.array([0, 3, 100, 200], np.uint32)  # one pair 3 ms apart, and two single spikes
    >>> one = spike_trains(tick, np.zeros(4, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(0, 300)])
    >>> burst_index(one).tolist()
    [0.5]
    """
    out = np.zeros((trains.n_units, 1), np.int64)
    least = np.uint32(min(whole_ticks(interval_s, trains.tick_hz, "interval_s"), 2**32 - 1))
    over_units(_in_bursts, trains, (least,), out)
    return exact.ratios(out[:, 0], trains.n_spikes)


@kernel
def _in_bursts(
    tick: NDArray[np.uint32],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    least: np.uint32,
    out: NDArray[np.int64],
) -> None:
    """Spikes with a neighbour fewer than `least` ticks away."""
    for u in range(first.shape[0]):
        n = np.int64(0)
        for p in range(first.shape[1]):
            one = tick[first[u, p] : stop[u, p]]
            if one.size < 2:
                continue
            n += np.int64(np.uint32(one[1] - one[0]) < least)
            n += np.int64(np.uint32(one[-1] - one[-2]) < least)
            for i in range(1, one.size - 1):
                n += np.int64((np.uint32(one[i] - one[i - 1]) < least) | (np.uint32(one[i + 1] - one[i]) < least))
        out[u, 0] = n
