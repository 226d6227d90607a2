"""The null: what is known of a unit's rate before anything is forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def smoothed_mean(spikes: NDArray[Any], n_bins: int | NDArray[np.int64]) -> NDArray[np.float32]:
    """Each unit's mean count per bin, shrunk a little towards the mean of its session.

    With the weight of half a spike: ``(n + ½) / (bins + ½/m)`` where m is the mean of all units, so that a silent
    unit keeps a rate above zero and a unit at the mean is unchanged (posterior mean under a gamma prior).

    Parameters
    ----------
    spikes : (N,)
        Spikes of each unit of one session in `n_bins` bins.
    n_bins : int or (N,) int64
        Bins in which each unit was observed.

    Returns
    -------
    (N,) float32
        Expected counts per bin; float32 because forecasts are, so that the null scores exactly 0.
    """
    bins = np.broadcast_to(np.asarray(n_bins, np.int64), np.shape(spikes))
    if np.ptp(bins) == 0:
        overall = max(float(np.mean(spikes, dtype=np.float64)), 0.5) / int(bins[0])
    else:
        rates = np.asarray(spikes, np.float64)[bins > 0] / bins[bins > 0]
        overall = max(float(np.mean(rates)), 0.5 / int(bins.max()))
    return ((np.asarray(spikes, np.float64) + 0.5) / (n_bins + 0.5 / overall)).astype(np.float32)
