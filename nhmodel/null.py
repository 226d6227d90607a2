"""The null: what is known of a unit's rate before anything is forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def smoothed_mean(spikes: NDArray[Any], n_bins: int) -> NDArray[np.float32]:
    """Each unit's mean count per bin, shrunk a little towards the mean of its session.

    With the weight of half a spike: ``(n + ½) / (bins + ½/m)`` where m is the mean of all units, so that a silent
    unit keeps a rate above zero and a unit at the mean is unchanged (posterior mean under a gamma prior).

    Parameters
    ----------
    spikes : (N,)
        Spikes of each unit of one session in `n_bins` bins.
    n_bins : int

    Returns
    -------
    (N,) float32
        Expected counts per bin; float32 because forecasts are, so that the null scores exactly 0.
    """
    overall = max(float(np.mean(spikes, dtype=np.float64)), 0.5) / n_bins
    return ((np.asarray(spikes, np.float64) + 0.5) / (n_bins + 0.5 / overall)).astype(np.float32)
