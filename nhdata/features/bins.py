"""Bins of time on an integer clock, exact at their edges."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.jit import kernel

MAX_COUNT = np.iinfo(np.uint16).max
MAX_DENOMINATOR = 2**20  # times a uint32 tick it stays far below 2**63


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
def count_spikes(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    first_bin: int,
    numerator: int,
    denominator: int,
    out: NDArray[np.uint16],
) -> bool:
    """Add the spikes of consecutive bins to `out`; the bin of tick t is ``t * denominator // numerator``.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Spikes, in any order; those outside the bins of `out` are passed over.
    first_bin : int
        Bin of ``out[0]``.
    numerator, denominator : int
        Width of a bin in ticks, from `bin_ticks`.
    out : (n_bins, n_units) uint16
        Counts, added to in place.

    Returns
    -------
    bool
        False if a count would have passed 65,535: it is left at its maximum, never wrapped.
    """
    fits = True
    n_bins = out.shape[0]
    for i in range(tick.size):
        k = np.int64(tick[i]) * denominator // numerator - first_bin
        if 0 <= k < n_bins:
            if out[k, unit[i]] == 65535:
                fits = False
            else:
                out[k, unit[i]] += 1
    return fits


def binned_counts(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    *,
    n_units: int,
    first_bin: int,
    n_bins: int,
    bin_s: float,
    tick_hz: float,
) -> NDArray[np.uint16]:
    """Spike counts of every unit in consecutive half-open bins.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Spikes: ticks since the start of the session, and rows of units below `n_units`.
    n_units, first_bin, n_bins : int
        Shape of the result and the bin it starts at; bin k is ``[k, k + 1) * bin_s``.
    bin_s, tick_hz : float
        Width of a bin in seconds; ticks per second.

    Returns
    -------
    (n_bins, n_units) uint16

    Raises
    ------
    UserError
        If a bin holds more than 65,535 spikes of one unit, or the width is not possible.

    Examples
    --------
    >>> import numpy as np
    >>> tick, unit = np.array([0, 599, 600], np.uint32), np.zeros(3, np.uint16)
    >>> binned_counts(tick, unit, n_units=1, first_bin=0, n_bins=2, bin_s=0.02, tick_hz=30000).ravel()
    array([2, 1], dtype=uint16)
    """
    numerator, denominator = bin_ticks(bin_s, tick_hz)
    out = np.zeros((n_bins, n_units), np.uint16)
    if not count_spikes(tick, unit, first_bin, numerator, denominator, out):
        raise UserError(f"a bin of {bin_s} s holds more than {MAX_COUNT} spikes of one unit", "use a shorter bin")
    return out
