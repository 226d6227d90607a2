"""IBL's sliding refractory period: how sure are we that a unit is clean, whatever its refractory period?"""

from __future__ import annotations

import numpy as np

from nhcatalog.errors import UserError
from nhdata.features.correlogram import autocorrelogram, pairs_between
from nhdata.features.exact import FloatArray
from nhdata.features.trains import Trains, whole_ticks

BIN_HZ = 30_000.0
SHORTEST_S, LONGEST_S = 0.0005, 0.01


def max_confidence(trains: Trains, contamination: float = 0.1) -> FloatArray:
    """Confidence, in %, that fewer than this fraction of a unit's spikes are another's.

    For each refractory period r of ``(k + 1) / 30000`` s above 0.5 ms up to 10 ms, were the fraction c of spikes
    another's, the violations up to r would be Poisson with mean ``2 N c R r``; the confidence is the probability of
    more of them than were seen, and the largest over r is taken. N is the number of spikes, R the rate, from the pairs
    of spikes 1 to 2 s apart. This is ``max_confidence`` of IBL's cluster metrics (good: above 90), in the form of
    ``slidingRP`` 1.1 by N. Roth, N. Steinmetz and IBL, github.com/SteinmetzLab/slidingRefractory. A clock slower than
    30 kHz has bins of one tick instead.

    Parameters
    ----------
    trains : Trains
    contamination : float
        Between 0 and 1.

    Returns
    -------
    (n_units,) float64
        NaN without spikes.

    Raises
    ------
    UserError
        If `contamination` is not between 0 and 1.
    """
    from scipy.stats import poisson

    if not 0 < contamination < 1:
        raise UserError(f"contamination={contamination} is not a fraction", "give one between 0 and 1, e.g. 0.1")
    bin_hz = min(BIN_HZ, trains.tick_hz)
    n_bins = int(LONGEST_S * bin_hz + 1e-9)
    middle_s = (np.arange(n_bins) + 0.5) / bin_hz
    violations = np.cumsum(autocorrelogram(trains, 1 / bin_hz, n_bins / bin_hz), axis=1)
    n = trains.n_spikes
    one_s, two_s = (whole_ticks(t, trains.tick_hz, "lag") for t in (1.0, 2.0))
    rate_hz = pairs_between(trains, one_s, two_s) / np.maximum(n, 1)
    refractory_s = np.arange(1, n_bins + 1) / bin_hz
    expected = (rate_hz * contamination)[:, None] * refractory_s * 2 * n[:, None]
    confidence = np.asarray(100 * (1 - poisson.cdf(violations, expected)))
    return np.where(n > 0, confidence[:, middle_s > SHORTEST_S].max(axis=1), np.nan)
