"""Cut a whole batch of windows out of decoded spikes in one call."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nhdata.features.jit import kernel
from nhdata.store.layout import CHUNK_SPIKES

NO_COLUMN = np.uint16(0xFFFF)


class Sessions(NamedTuple):
    """What the kernel must know of all sessions, flat.

    Attributes
    ----------
    numerator, denominator : (n_sessions,) int64
        Width of a bin in ticks.
    tick_hz : (n_sessions,) float64
    n_spikes, first_chunk : (n_sessions,), (n_sessions + 1,) int64
    n_selected, first_unit : (n_sessions,) int64
        Selected units, and the place of the first of them among all selected ones.
    column, column_at : (sum of units,) uint16, (n_sessions + 1,) int64
        Where each unit stands among the selected ones of its session; `NO_COLUMN` for units that are not.
    """

    numerator: NDArray[np.int64]
    denominator: NDArray[np.int64]
    tick_hz: NDArray[np.float64]
    n_spikes: NDArray[np.int64]
    first_chunk: NDArray[np.int64]
    n_selected: NDArray[np.int64]
    first_unit: NDArray[np.int64]
    column: NDArray[np.uint16]
    column_at: NDArray[np.int64]


class Windows(NamedTuple):
    """Windows to cut, one entry each: session, mark, seed, bins to look back for averages, chunks ``[lo, hi)``."""

    session: NDArray[np.int64]
    mark: NDArray[np.int64]
    seed: NDArray[np.int64]
    past_bins: NDArray[np.int64]
    lo: NDArray[np.int64]
    hi: NDArray[np.int64]


class Arrays(NamedTuple):
    """The arrays of a batch, all of its windows: written in place. See `WindowBatch`."""

    cu_seqlens: NDArray[np.int32]
    history: NDArray[np.int16]
    ema_hz: NDArray[np.float32]
    counts: NDArray[np.int16]
    unit_id: NDArray[np.int64]
    unit_mask: NDArray[np.bool_]


@kernel
def first_at(tick: NDArray[np.uint32], wanted: int) -> int:
    """Offset of the first of some sorted ticks that is at or after `wanted`."""
    lo, hi = 0, len(tick)
    while lo < hi:
        mid = (lo + hi) >> 1
        if np.int64(tick[mid]) < wanted:
            lo = mid + 1
        else:
            hi = mid
    return lo


@kernel
def bin_edge(mark: int, k: int, numerator: int, denominator: int) -> int:
    """First tick of bin k about `mark`: bin k holds the ticks t with ``(t - mark) * denominator // numerator == k``."""
    return mark - (-k * numerator) // denominator


@kernel
def most_tokens(
    tick: NDArray[np.uint32], slot_of: NDArray[np.int32], sessions: Sessions, windows: Windows, n_history: int
) -> int:
    """Spikes in the histories of all windows, of selected units or not."""
    total = 0
    for w in range(len(windows.session)):
        s, mark = windows.session[w], windows.mark[w]
        start = bin_edge(mark, -n_history, sessions.numerator[s], sessions.denominator[s])
        for chunk in range(windows.lo[w], windows.hi[w]):
            at = (np.int64(slot_of[chunk]) - 1) * CHUNK_SPIKES
            n = min(sessions.n_spikes[s] - (chunk - sessions.first_chunk[s]) * CHUNK_SPIKES, CHUNK_SPIKES)
            held = tick[at : at + n]
            total += first_at(held, mark) - first_at(held, start)
    return total


@kernel
def _clear(values: NDArray[Any]) -> None:
    flat = values.ravel()
    for i in range(flat.size):
        flat[i] = 0


@kernel
def _count_all(tick: NDArray[np.uint32], unit: NDArray[np.uint16], i: int, edge: int, bins: NDArray[np.int16]) -> int:
    """Count the spikes from `i` on that come before `edge`, but no more than an int16 can be asked to bear.

    Returns where it stopped.
    """
    n = min(len(tick), i + 32768)
    while i + 4 <= n and tick[i + 3] < edge:  # four at a time: the loop is bound by its branches
        a, b, c, d = unit[i], unit[i + 1], unit[i + 2], unit[i + 3]
        bins[a] += 1
        bins[b] += 1
        bins[c] += 1
        bins[d] += 1
        i += 4
    while i < n and tick[i] < edge:
        bins[unit[i]] += 1
        i += 1
    return i


@kernel
def _count_some(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    i: int,
    edge: int,
    column: NDArray[np.uint16],
    bins: NDArray[np.int16],
) -> int:
    """The same for selected units only."""
    n = min(len(tick), i + 32768)
    while i < n and tick[i] < edge:
        c = column[unit[i]]
        if c < len(bins):
            bins[c] += 1
        i += 1
    return i


@kernel
def is_dropped(seed: int, unit: int, share: float) -> bool:
    """Whether a unit is left out of the window that has this seed: a hash of both, so the same on every machine."""
    z = np.uint64(seed) + np.uint64(unit + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bool((z ^ (z >> np.uint64(31))) >> np.uint64(11) < np.uint64(share * 2**53))


@kernel
def _fill_row(session: int, row: int, dropout: float, seed: int, sessions: Sessions, out: Arrays) -> None:
    """Units of one window, and zeros where nothing was counted yet."""
    n = sessions.n_selected[session]
    for c in range(out.unit_id.shape[1]):
        heard = c < n and not (dropout > 0 and is_dropped(seed, c, dropout))
        out.unit_mask[row, c] = heard
        out.unit_id[row, c] = sessions.first_unit[session] + c if heard else -1
    _clear(out.history[row])
    _clear(out.counts[row])


@kernel
def cut(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    slot_of: NDArray[np.int32],
    sessions: Sessions,
    windows: Windows,
    first_row: int,
    n_history: int,
    dropout: float,
    decay: NDArray[np.float32],
    norm: NDArray[np.float32],
    time_s: NDArray[np.float32],
    token_unit: NDArray[np.int32],
    out: Arrays,
) -> bool:
    """Write tokens, counts and averages of some windows into the rows of their batch from `first_row` on.

    Parameters
    ----------
    tick, unit, slot_of : arrays
        Decoded chunks, see `nhdata.loading.fetch.Spikes`; all chunks of `windows` are there.
    n_history : int
        Bins of the history; they are counted if ``out.history`` has any.
    dropout : float
        Share of units to leave out of each window.
    decay : (P, M) float32
        What a spike weighs in each average, by the age of its bin.
    norm : (P + 1, M) float32
        Sum of the weights of the first bins, times the width of a bin.
    time_s, token_unit : (S,) float32, int32
        Tokens of these windows.
    out : Arrays
        Rows need not be zero.

    Returns
    -------
    bool
        False if a count passed 32,767.
    """
    fits = True
    n_horizon, counted = out.counts.shape[1], out.history.shape[1] > 0
    n_columns, n_averages = out.unit_id.shape[1], decay.shape[1]
    average = np.empty((n_columns, n_averages), np.float32)
    before, n_tokens = np.int64(out.cu_seqlens[first_row]), np.uint64(0)
    for w in range(len(windows.session)):
        s, mark, row = windows.session[w], windows.mark[w], first_row + w
        num, den, hz = sessions.numerator[s], sessions.denominator[s], sessions.tick_hz[s]
        _fill_row(s, row, dropout, windows.seed[w], sessions, out)
        _clear(average)
        history, counts = out.history[row], out.counts[row]
        column = sessions.column[sessions.column_at[s] : sessions.column_at[s + 1]]
        # where all units are selected, tokens need no choosing
        whole = dropout == 0 and sessions.n_selected[s] == len(column) and n_history * num // den < 2**31
        if dropout > 0:
            column = column.copy()
            for u in range(len(column)):
                if column[u] < n_columns and not out.unit_mask[row, column[u]]:
                    column[u] = NO_COLUMN
        past = windows.past_bins[w]
        k = min(-past, -n_history)
        start = bin_edge(mark, k, num, den)
        edge = bin_edge(mark, k + 1, num, den)
        in_bin = 0
        for chunk in range(windows.lo[w], windows.hi[w]):
            at = (np.int64(slot_of[chunk]) - 1) * CHUNK_SPIKES
            n = min(sessions.n_spikes[s] - (chunk - sessions.first_chunk[s]) * CHUNK_SPIKES, CHUNK_SPIKES)
            ticks, units = tick[at : at + n], unit[at : at + n]
            i = first_at(ticks, start)
            a = i  # first and end of the spikes that are tokens
            b = i
            while i < n and k < n_horizon:
                first = i
                if k >= 0 or (counted and k >= -n_history):
                    bins = counts[k] if k >= 0 else history[k + n_history]
                    if whole:
                        i = _count_all(ticks, units, i, edge, bins)
                    else:
                        i = _count_some(ticks, units, i, edge, column, bins)
                    if k < 0:
                        b = i
                    if in_bin + i - first > 32767:
                        fits = fits and bool(np.all(bins >= 0))
                else:
                    if k >= -n_history and past == 0:  # nothing is binned before the mark
                        k, edge = -1, mark
                    i += first_at(ticks[i:], edge)
                    b = i
                    if k < -n_history:
                        a = i
                in_bin += i - first
                if k < 0 and past + k >= 0:
                    weight = decay[-k - 1]
                    for j in range(first, i):
                        c = column[units[j]]
                        if c < n_columns:
                            for m in range(n_averages):
                                average[c, m] += weight[m]
                if i < n and ticks[i] >= edge:
                    k += 1
                    edge = bin_edge(mark, k + 1, num, den)
                    in_bin = 0
            if whole:
                n_tokens += _all_tokens(ticks[a:b], units[a:b], mark, hz, time_s[n_tokens:], token_unit[n_tokens:])
            else:
                n_tokens += _some_tokens(
                    ticks[a:b], units[a:b], column, mark, hz, time_s[n_tokens:], token_unit[n_tokens:]
                )
        out.cu_seqlens[row + 1] = before + n_tokens
        for m in range(n_averages):
            for c in range(n_columns):
                out.ema_hz[row, m, c] = average[c, m] / norm[past, m] if past > 0 else 0.0
    return fits


@kernel
def _all_tokens(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    mark: int,
    tick_hz: float,
    time_s: NDArray[np.float32],
    token_unit: NDArray[np.int32],
) -> int:
    """Spikes as tokens, times relative to `mark` by less than 2**31 ticks; returns how many."""
    tick_s, end = 1.0 / tick_hz, np.uint32(mark)
    for j in range(len(tick)):
        time_s[j] = np.int32(tick[j] - end) * tick_s
    for j in range(len(unit)):
        token_unit[j] = unit[j]
    return len(tick)


@kernel
def _some_tokens(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    column: NDArray[np.uint16],
    mark: int,
    tick_hz: float,
    time_s: NDArray[np.float32],
    token_unit: NDArray[np.int32],
) -> int:
    """The same for spikes of selected units only."""
    n = 0
    for j in range(len(tick)):
        c = column[unit[j]]
        if c != NO_COLUMN:
            time_s[n] = (np.int64(tick[j]) - mark) * (1.0 / tick_hz)
            token_unit[n] = c
            n += 1
    return n


@lru_cache(maxsize=64)
def ema_decay(tau_s: tuple[float, ...], bin_s: float, n_bins: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of past bins in moving averages of a rate, and what they sum to.

    The weight of age k falls as ``exp(-k * bin_s / tau)``; divided by the sum over the bins there are, times `bin_s`,
    spikes become a rate: near the start of a recording the average is over what there is, not over imagined silence.

    Returns
    -------
    decay : (n_bins, M) float32
    norm : (n_bins + 1, M) float32, seconds
        Entry n is the sum of the first n weights, times `bin_s`.
    """
    age = np.arange(n_bins, dtype=np.float64)[:, None] * bin_s
    decay = np.exp(-age / np.asarray(tau_s, np.float64)[None, :])
    norm = np.concatenate([np.zeros((1, len(tau_s))), np.cumsum(decay, 0) * bin_s])
    return decay.astype(np.float32), norm.astype(np.float32)
