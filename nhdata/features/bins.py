"""Bins of time on an integer clock, exact at their edges."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.jit import kernel
from nhdata.features.threads import FEW_SPIKES, n_threads, run_parts

FITS, TOO_MANY, NO_UNIT = 0, 1, 2  # what a counting kernel answers
MOST_BINS = 2**28  # that a kernel holds one number for each of
MAX_DENOMINATOR = 2**20  # times a uint32 tick it stays far below 2**63


def seconds_fraction(span_s: float) -> Fraction:
    """Return seconds as the exact fraction that was meant: 0.1 is one tenth, and ``1 / 30`` one thirtieth.

    A fraction with a denominator up to 2**20 if float64 holds it as `span_s`, else the decimal number that was typed.

    Examples
    --------
    >>> seconds_fraction(0.14) / seconds_fraction(0.02)
    Fraction(7, 1)
    >>> seconds_fraction(1 / 30)
    Fraction(1, 30)
    """
    decimal = Fraction(repr(float(span_s)))
    simple = decimal.limit_denominator(MAX_DENOMINATOR)
    return simple if float(simple) == float(span_s) else decimal


def covering_bins(span_s: float, bin_s: float) -> int:
    """Return the smallest number of bins that cover `span_s`, without rounding errors.

    Parameters
    ----------
    span_s, bin_s : float
        Positive, finite seconds.

    Examples
    --------
    >>> covering_bins(0.14, 0.02), covering_bins(0.15, 0.02)
    (7, 8)
    """
    return math.ceil(seconds_fraction(span_s) / seconds_fraction(bin_s))


def whole_bins(name: str, span_s: float, bin_s: float) -> int:
    """Return the number of bins that make up `span_s`.

    Parameters
    ----------
    name : str
        What the span is called in the error.
    span_s, bin_s : float
        Seconds, taken as the decimal numbers that were typed.

    Raises
    ------
    UserError
        If `span_s` is not a positive whole number of bins; names the nearest spans that are.

    Examples
    --------
    >>> whole_bins("horizon_s", 0.5, 0.02)
    25
    """
    if not (0 < bin_s < math.inf and 0 < span_s < math.inf):
        raise UserError(f"{name}={span_s}, bin_s={bin_s}", "both must be positive numbers of seconds")
    width = seconds_fraction(bin_s)
    bins = seconds_fraction(span_s) / width
    if bins.denominator != 1:
        near = " or ".join(f"{float(k * width):g}" for k in (int(bins), int(bins) + 1) if k)
        raise UserError(f"{name}={span_s} is {float(bins):g} bins of {bin_s} s", f"use {near}")
    return int(bins)


def bin_ticks(bin_s: float, tick_hz: float) -> tuple[int, int]:
    """Width of a bin in ticks as an exact fraction.

    Parameters
    ----------
    bin_s : float
        Width in seconds, taken as the decimal number that was typed: 0.1 is one tenth.
    tick_hz : float
        Ticks per second.

    Returns
    -------
    numerator, denominator : int
        The width is ``numerator / denominator`` ticks; bin k holds the ticks t with
        ``floor(t * denominator / numerator) == k``. Thirds and the like, which no decimal can write, are
        rounded to the nearest fraction of a tick with a denominator up to 2**20: off by less than a
        millionth of a tick after a million bins.

    Raises
    ------
    UserError
        If the width is not a positive number or is shorter than one tick.

    Examples
    --------
    >>> bin_ticks(0.02, 30000.0)
    (600, 1)
    """
    if not np.isfinite(bin_s) or bin_s <= 0:
        raise UserError(f"bin_s={bin_s} is not a width", "give a positive number of seconds, e.g. 0.02")
    width = (Fraction(repr(float(bin_s))) * Fraction(repr(float(tick_hz)))).limit_denominator(MAX_DENOMINATOR)
    if width < 1:
        raise UserError(f"bin_s={bin_s} is shorter than one tick of {1 / tick_hz:.3g} s", "use a wider bin")
    return width.numerator, width.denominator


@kernel
def bin_of(ticks: np.int64, numerator: int, denominator: int, per_tick: float) -> np.int64:
    """``ticks * denominator // numerator`` without a division, which costs more than all the rest of a kernel.

    `per_tick` is ``denominator / numerator``: the product with fewer than 2**32 ticks is off by at most one bin, and
    the remainder tells. Without a branch, so that a loop over it is vectorized.
    """
    k = np.int64(ticks * per_tick)
    remainder = ticks * denominator - k * numerator
    return k - np.int64(remainder < 0) + np.int64(remainder >= numerator)


@kernel
def bins_of_train(
    train: NDArray[np.uint32],
    start_tick: int,
    n_bins: int,
    numerator: int,
    denominator: int,
    out: NDArray[np.uint32],
) -> int:
    """Bin of each spike of one sorted train, counted from `start_tick`, up to the last whole bin.

    Parameters
    ----------
    train : (n,) uint32
        No spike is before `start_tick`.
    start_tick, n_bins : int
        Where bin 0 starts, and the number of whole bins.
    numerator, denominator : int
        Width of a bin in ticks, from `bin_ticks`.
    out : (n or more,) uint32
        Filled with the bins.

    Returns
    -------
    int
        How many spikes lie in whole bins: the first so many.
    """
    per_tick = denominator / numerator
    for i in range(train.size):
        out[i] = bin_of(np.int64(train[i]) - start_tick, numerator, denominator, per_tick)
    n = train.size
    while n > 0 and out[n - 1] >= n_bins:
        n -= 1
    return n


@kernel
def longest_train(first: NDArray[np.int64], stop: NDArray[np.int64]) -> int:
    """Most spikes of one unit in one piece: how much room `bins_of_train` needs."""
    longest = 0
    for u in range(first.shape[0]):
        for p in range(first.shape[1]):
            longest = max(longest, stop[u, p] - first[u, p])
    return longest


@kernel
def squared_runs(bins: NDArray[np.uint32]) -> int:
    """Sum of squared counts of the bins of one sorted train: how long each run of one bin is, squared."""
    squares = 0
    before = 0  # spikes of the same bin before this one: the count squared is Σ (2 before + 1)
    for i in range(bins.size):
        before = before + 1 if i > 0 and bins[i] == bins[i - 1] else 0
        squares += 2 * before + 1
    return squares


@kernel
def count_spikes(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    first_bin: int,
    numerator: int,
    denominator: int,
    out: NDArray[Any],
    largest: int,
) -> int:
    """Add the spikes of consecutive bins to `out`; the bin of tick t is ``t * denominator // numerator``.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Spikes, in any order; those outside the bins of `out` are passed over.
    first_bin : int
        Bin of ``out[0]``.
    numerator, denominator : int
        Width of a bin in ticks, from `bin_ticks`.
    out : (n_bins, n_units) uint8 or uint16
        Counts, added to in place.
    largest : int
        The largest count that `out` holds.

    Returns
    -------
    int
        `FITS`; or `TOO_MANY` if a count would have passed `largest`: it is left there, never wrapped; or `NO_UNIT` if a
        spike is of a unit that `out` has not.
    """
    answer = FITS
    n_bins = out.shape[0]
    per_tick = denominator / numerator
    for i in range(tick.size):
        k = bin_of(np.int64(tick[i]), numerator, denominator, per_tick) - first_bin
        if 0 <= k < n_bins:
            u = unit[i]
            if u >= out.shape[1]:
                return NO_UNIT
            count = out[k, u]
            if count == largest:
                answer = TOO_MANY
            else:
                out[k, u] = count + 1
    return answer


def binned_counts(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    *,
    n_units: int,
    first_bin: int,
    n_bins: int,
    bin_s: float,
    tick_hz: float,
    dtype: type[np.uint8] | type[np.uint16] = np.uint16,
) -> NDArray[Any]:
    """Spike counts of every unit in consecutive half-open bins.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Spikes: sorted ticks since the start of the session, and rows of units below `n_units`.
    n_units, first_bin, n_bins : int
        Shape of the result and the bin it starts at; bin k is ``[k, k + 1) * bin_s``.
    bin_s, tick_hz : float
        Width of a bin in seconds; ticks per second.
    dtype : numpy.uint8 or numpy.uint16
        Of the result.

    Returns
    -------
    (n_bins, n_units) uint8 or uint16

    Raises
    ------
    UserError
        If a bin holds more spikes of one unit than `dtype` can count, a spike is of a unit that is not there, or the
        width is not possible.

    Examples
    --------
    >>> tick, unit = np.array([0, 599, 600], np.uint32), np.zeros(3, np.uint16)
    >>> binned_counts(tick, unit, n_units=1, first_bin=0, n_bins=2, bin_s=0.02, tick_hz=30000).ravel()
    array([2, 1], dtype=uint16)
    """
    numerator, denominator = bin_ticks(bin_s, tick_hz)
    out = np.zeros((n_bins, n_units), dtype)
    largest = int(np.iinfo(dtype).max)
    parts = parts_of_bins(tick, first_bin, n_bins, numerator, denominator)
    work = [(tick[s], unit[s], first_bin + a, numerator, denominator, out[a:b], largest) for a, b, s in parts]
    answer = max(run_parts(count_spikes, work), default=FITS)
    if answer == NO_UNIT:
        raise UserError(f"a spike is of a unit past the last of {n_units}", "look with 'nhdata validate --deep'")
    if answer == TOO_MANY:
        raise UserError(
            f"a bin of {bin_s} s holds more than {largest} spikes of one unit",
            "use a shorter bin" if dtype is np.uint16 else "use a shorter bin, or uint16",
        )
    return out


def parts_of_bins(
    tick: NDArray[np.uint32], first_bin: int, n_bins: int, numerator: int, denominator: int
) -> list[tuple[int, int, slice]]:
    """Bins ``a:b`` and their slice of the sorted spikes, a part for each thread."""
    n = min(n_bins, n_threads()) if tick.size >= FEW_SPIKES else 1
    edges = [n_bins * k // n for k in range(n + 1)]
    ticks = [min(max(-(-(first_bin + k) * numerator // denominator), 0), 2**32 - 1) for k in edges]
    at = [int(np.searchsorted(tick, np.uint32(t))) for t in ticks]
    return [(a, b, slice(i, j)) for a, b, i, j in zip(edges[:-1], edges[1:], at[:-1], at[1:], strict=True)]
