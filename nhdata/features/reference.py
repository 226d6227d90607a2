"""The 33 reference features of a unit, from a stretch of its spike train.

=================  ========  ===============================================================================
feature            columns   definition, over the half-open window of length T
=================  ========  ===============================================================================
``rate_hz``        1         number of spikes / T
``isi_cv``         1         standard deviation (ddof 0) / mean of the inter-spike intervals
``isi_hist_*``     20        fraction of the intervals in 20 bins, equal in log10, from 0.1 ms to 10 s
``autocorr_*``     10        autocorrelation of the counts in 10 ms bins at lags of 10 … 100 ms
``fano_20ms``      1         variance (ddof 1) / mean of the counts in 20 ms bins
=================  ========  ===============================================================================

They are the 33 inputs of the IDEncoder of the research that this project grew from (its worklog names them:
rate 1, ISI CV 1, log-ISI histogram 20, autocorrelation 10, Fano factor 1).

Not a number, never a made-up value, where a feature is undefined: ``isi_cv`` with fewer than three spikes;
``isi_hist_*`` with fewer than two; ``autocorr_*`` and ``fano_20ms`` without spikes (a constant count). A
silent unit has ``rate_hz`` 0 and NaN elsewhere. Intervals outside 0.1 ms … 10 s fall in no bin, so that a
histogram sums to at most 1. A bin cut off by the window's end is left out of counts. Over several windows every sum
runs over all of them and nothing is measured across a gap (see `nhdata.features.trains`).
"""

from __future__ import annotations

import numpy as np

from nhcatalog.schema import FEATURE_NAMES
from nhdata.features.autocorrelation import autocorrelation
from nhdata.features.exact import FloatArray
from nhdata.features.fano import fano_factor
from nhdata.features.firing import firing_rate_hz
from nhdata.features.isi import LOG_EDGES_S, cv_of, histogram_of, isi_sums
from nhdata.features.trains import Trains

__all__ = ["FEATURE_NAMES", "VERSION", "WINDOW_S", "reference_features"]

VERSION = 1
WINDOW_S = 60.0
AUTOCORR_BIN_S = 0.01
N_LAGS = 10
FANO_BIN_S = 0.02


def reference_features(trains: Trains) -> FloatArray:
    """The 33 reference features of every unit, over one window or the pieces of several.

    Parameters
    ----------
    trains : Trains
        Made by `nhdata.features.trains.spike_trains` or ``Session.trains``.

    Returns
    -------
    (n_units, 33) float64
        Columns as in `FEATURE_NAMES`; NaN where undefined (see the module's notes).

    Examples
    --------
    >>> from nhdata.features.trains import spike_trains
    >>> tick = np.arange(0, 30000, 300, dtype=np.uint32)  # 100 Hz, perfectly regular, for 1 s
    >>> one = spike_trains(tick, np.zeros(100, np.uint16), n_units=1, tick_hz=30000.0, pieces=[(0, 30000)])
    >>> reference_features(one)[0, :2].tolist()
    [100.0, 0.0]
    """
    sums, histogram = isi_sums(trains, LOG_EDGES_S)
    return np.column_stack(
        [
            firing_rate_hz(trains),
            cv_of(sums),
            histogram_of(sums, histogram),
            autocorrelation(trains, AUTOCORR_BIN_S, N_LAGS),
            fano_factor(trains, [FANO_BIN_S]),
        ]
    )
