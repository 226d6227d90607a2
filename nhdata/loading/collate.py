"""Cut one window out of a session's decoded spikes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nhdata.features.jit import kernel


@kernel
def bounds(tick: NDArray[np.uint32], context: int, start: int, mark: int, stop: int) -> tuple[int, int, int, int]:
    """Offsets of the first spikes at or after four ticks, in ascending order of ticks."""
    at = np.searchsorted(tick, np.uint32(max(context, 0)))
    a = at + np.searchsorted(tick[at:], np.uint32(max(start, 0)))
    b = a + np.searchsorted(tick[a:], np.uint32(mark))
    c = b + np.searchsorted(tick[b:], np.uint32(min(stop, 0xFFFFFFFE)))
    return int(at), int(a), int(b), int(c)


@kernel
def cut_tokens(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    column: NDArray[np.int32],
    mark: int,
    tick_hz: float,
    time_s: NDArray[np.float32],
    token_unit: NDArray[np.int32],
) -> int:
    """Write the spikes of selected units as tokens; returns how many there are.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Spikes of the history.
    column : (n_units,) int32
        Where a unit stands among the selected ones; -1 for units that are not.
    mark : int
        End of the history: times are relative to it, so always below 0.
    time_s, token_unit : (≥ n,) arrays
        Written in place.
    """
    n = 0
    for i in range(tick.size):
        c = column[unit[i]]
        if c >= 0:
            time_s[n] = (np.int64(tick[i]) - mark) / tick_hz
            token_unit[n] = c
            n += 1
    return n


@kernel
def cut_counts(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    column: NDArray[np.int32],
    mark: int,
    numerator: int,
    denominator: int,
    first_bin: int,
    out: NDArray[np.int16],
) -> bool:
    """Count spikes in bins about `mark`; bin k holds the ticks t with ``(t - mark) * den // num == k``.

    Parameters
    ----------
    first_bin : int
        Bin of ``out[0]``: 0 for a horizon, ``-n_bins`` for a history.
    out : (n_bins, ≥ n_selected) int16
        Added to in place.

    Returns
    -------
    bool
        False if a count would have passed 32,767; it is left there, never wrapped.
    """
    fits = True
    for i in range(tick.size):
        c = column[unit[i]]
        k = (np.int64(tick[i]) - mark) * denominator // numerator - first_bin
        if c >= 0 and 0 <= k < out.shape[0]:
            if out[k, c] == 32767:
                fits = False
            else:
                out[k, c] += 1
    return fits


@kernel
def cut_ema(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    column: NDArray[np.int32],
    mark: int,
    numerator: int,
    denominator: int,
    weight: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Exponential moving averages of the rate at `mark`, from the whole bins before it.

    Parameters
    ----------
    weight : (n_bins, M) float32
        Weight per spike of the bin k bins before the mark, in Hz; see `ema_weights`.
    out : (M, ≥ n_selected) float32
        Added to in place.
    """
    for i in range(tick.size):
        c = column[unit[i]]
        k = -((np.int64(tick[i]) - mark) * denominator // numerator) - 1
        if c >= 0 and 0 <= k < weight.shape[0]:
            for m in range(weight.shape[1]):
                out[m, c] += weight[k, m]


@lru_cache(maxsize=256)
def ema_weights(tau_s: tuple[float, ...], bin_s: float, n_bins: int) -> NDArray[np.float32]:
    """Weights of past bins that turn counts into moving averages of a rate.

    The weight of age k falls as ``exp(-k * bin_s / tau)`` and each column, times `bin_s`, sums to one over the bins
    there are: near the start of a recording the average is over what was recorded, not over imagined silence.

    Returns
    -------
    (n_bins, M) float32, in Hz per spike
        Kept for the next window; not to be written to.
    """
    age = np.arange(n_bins, dtype=np.float64)[:, None] * bin_s
    weight = np.exp(-age / np.asarray(tau_s, np.float64)[None, :])
    return (weight / (weight.sum(0, keepdims=True) * bin_s)).astype(np.float32) if n_bins else weight.astype(np.float32)
