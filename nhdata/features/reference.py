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
histogram sums to at most 1. A bin cut off by the window's end is left out of counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhcatalog.schema import FEATURE_NAMES
from nhdata.features.bins import bin_ticks
from nhdata.features.group import by_unit
from nhdata.features.jit import kernel

__all__ = ["FEATURE_NAMES", "VERSION", "WINDOW_S", "reference_features"]

VERSION = 1
WINDOW_S = 60.0
ISI_EDGES_S = np.logspace(-4, 1, 21)
AUTOCORR_BIN_S = 0.01
N_LAGS = 10
FANO_BIN_S = 0.02


@kernel
def _isi_cv(train: NDArray[np.uint32]) -> float:
    """Standard deviation over mean of the intervals, in one pass about the first interval."""
    n = train.size - 1
    if n < 2:
        return np.nan
    shift = np.float64(train[1]) - np.float64(train[0])
    total = 0.0
    total_sq = 0.0
    for i in range(n):
        d = np.float64(train[i + 1]) - np.float64(train[i]) - shift
        total += d
        total_sq += d * d
    mean = total / n
    variance = max(total_sq / n - mean * mean, 0.0)
    return float(np.sqrt(variance) / (mean + shift)) if mean + shift > 0 else np.nan


@kernel
def _isi_histogram(train: NDArray[np.uint32], edges: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Fraction of intervals with ``edges[k] <= interval < edges[k + 1]``, written to `out`."""
    n = train.size - 1
    if n < 1:
        out[:] = np.nan
        return
    out[:] = 0.0
    for i in range(n):
        interval = np.int64(train[i + 1]) - np.int64(train[i])
        k = int(np.searchsorted(edges, interval, side="right")) - 1
        if 0 <= k < out.size:
            out[k] += 1.0
    for k in range(out.size):
        out[k] /= n


@kernel
def _train_counts(
    train: NDArray[np.uint32], start: int, numerator: int, denominator: int, out: NDArray[np.int64]
) -> None:
    """Counts of one train in bins that begin at tick `start`."""
    out[:] = 0
    for i in range(train.size):
        k = (np.int64(train[i]) - start) * denominator // numerator
        if 0 <= k < out.size:
            out[k] += 1


@kernel
def _autocorrelation(counts: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Sample autocorrelation at lags 1 … len(out): sum of lagged products of deviations / sum of squares."""
    n = counts.size
    mean = counts.sum() / max(n, 1)
    power = 0.0
    for i in range(n):
        power += (counts[i] - mean) ** 2
    for lag in range(1, out.size + 1):
        if power <= 0.0:
            out[lag - 1] = np.nan
            continue
        product = 0.0
        for i in range(n - lag):
            product += (counts[i] - mean) * (counts[i + lag] - mean)
        out[lag - 1] = product / power


@kernel
def _fano(counts: NDArray[np.int64]) -> float:
    """Variance (ddof 1) over mean."""
    n = counts.size
    total = counts.sum()
    if n < 2 or total == 0:
        return np.nan
    mean = total / n
    squares = 0.0
    for i in range(n):
        squares += (counts[i] - mean) ** 2
    return float(squares / (n - 1) / mean)


@kernel
def _features(
    train: NDArray[np.uint32],
    start: NDArray[np.int64],
    window_start: int,
    window_s: float,
    isi_edges: NDArray[np.int64],
    ac_width: tuple[int, int],
    n_ac: int,
    fano_width: tuple[int, int],
    n_fano: int,
) -> NDArray[np.float64]:
    n_units = start.size - 1
    out = np.empty((n_units, 33), np.float64)
    ac_counts = np.empty(n_ac, np.int64)
    fano_counts = np.empty(n_fano, np.int64)
    for u in range(n_units):
        one = train[start[u] : start[u + 1]]
        out[u, 0] = one.size / window_s
        out[u, 1] = _isi_cv(one)
        _isi_histogram(one, isi_edges, out[u, 2:22])
        _train_counts(one, window_start, ac_width[0], ac_width[1], ac_counts)
        _autocorrelation(ac_counts, out[u, 22:32])
        _train_counts(one, window_start, fano_width[0], fano_width[1], fano_counts)
        out[u, 32] = _fano(fano_counts)
    return out


def reference_features(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    *,
    n_units: int,
    start_tick: int,
    stop_tick: int,
    tick_hz: float,
) -> NDArray[np.float64]:
    """The 33 reference features of every unit over one window.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Time-sorted spikes; those outside the window are passed over.
    n_units : int
    start_tick, stop_tick : int
        The half-open window ``[start_tick, stop_tick)``.
    tick_hz : float
        Ticks per second.

    Returns
    -------
    (n_units, 33) float64
        Columns as in `FEATURE_NAMES`; NaN where undefined (see the module's notes).

    Raises
    ------
    UserError
        If the window is empty.

    Examples
    --------
    >>> import numpy as np
    >>> tick = np.arange(0, 30000, 300, dtype=np.uint32)  # 100 Hz, perfectly regular, for 1 s
    >>> f = reference_features(tick, np.zeros(100, np.uint16), n_units=1, start_tick=0, stop_tick=30000, tick_hz=30000)
    >>> float(f[0, 0]), float(f[0, 1])
    (100.0, 0.0)
    """
    if stop_tick <= start_tick:
        raise UserError(f"the window [{start_tick}, {stop_tick}) ticks is empty", "give a stop after the start")
    lo, hi = (int(np.searchsorted(tick, np.uint32(t))) for t in (start_tick, min(stop_tick, 2**32 - 1)))
    train, start = by_unit(tick[lo:hi], unit[lo:hi], n_units)
    ac, fano = bin_ticks(AUTOCORR_BIN_S, tick_hz), bin_ticks(FANO_BIN_S, tick_hz)
    span = stop_tick - start_tick
    # the small factor keeps an edge that is a whole tick (10 s) from rising by a rounding error
    isi_edges = np.ceil(ISI_EDGES_S * tick_hz * (1 - 1e-12)).astype(np.int64)
    return _features(
        train,
        start,
        start_tick,
        span / tick_hz,
        isi_edges,
        ac,
        span * ac[1] // ac[0],
        fano,
        span * fano[1] // fano[0],
    )
