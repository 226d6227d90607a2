"""Compile every kernel of this folder ahead of its first use: ``python -m nhdata.features.warm_up``.

``make install`` does so. The machine code is kept beside the source, or in the user's cache where that may not be
written, so that afterwards a first call takes some ten milliseconds, not some ten seconds.
"""

from __future__ import annotations

import time

import numpy as np

from nhdata.features.bins import binned_counts
from nhdata.features.correlogram import crosscorrelogram
from nhdata.features.psth import psth
from nhdata.features.sets import SETS, feature_columns
from nhdata.features.trains import spike_trains


def warm_up() -> float:
    """Call everything once, on a few spikes of the types that a store has.

    Returns
    -------
    float
        Seconds that it took: compilation where there is no machine code yet.
    """
    begin = time.perf_counter()
    tick = np.arange(0, 3000, 7, dtype=np.uint32)
    unit = (np.arange(tick.size) % 2).astype(np.uint16)
    trains = spike_trains(tick, unit, n_units=2, tick_hz=1000.0, pieces=[(0, 1500), (1600, 3000)])
    feature_columns(trains, tuple(SETS))
    crosscorrelogram(trains, [(0, 1)], 0.01, 0.1)
    psth(trains, [500], pre_s=0.1, post_s=0.1, bin_s=0.01)
    for dtype in (np.uint8, np.uint16):
        binned_counts(tick, unit, n_units=2, first_bin=0, n_bins=300, bin_s=0.01, tick_hz=1000.0, dtype=dtype)
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(f"kernels of nhdata.features ready in {warm_up():.1f} s")
