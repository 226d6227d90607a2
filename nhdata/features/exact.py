"""Statistics from whole-number sums, as Python's integers have no last digit: correct to the rounding of one division.

Kernels sum ticks and counts, which are whole; what a mean or a variance makes of them is done here, unit by unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def per_unit(function: Callable[..., float], *columns: NDArray[Any]) -> FloatArray:
    """`function` of the whole numbers of each unit: columns (n_units,), or (n_units, k) for a list of k.

    Examples
    --------
    >>> per_unit(lambda a, b: a / b, np.array([1, 2]), np.array([2, 4]))
    array([0.5, 0.5])
    """
    return np.array([function(*row) for row in zip(*(c.tolist() for c in columns), strict=True)], np.float64)


def ratio(numerator: int, denominator: int) -> float:
    """Their quotient; NaN if the second is 0."""
    return numerator / denominator if denominator else math.nan


def ratios(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    """Their quotients, broadcast; NaN where the second is 0.

    Examples
    --------
    >>> ratios(np.array([1, 2]), np.array([2, 0]))
    array([0.5, nan])
    """
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(numerator.shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=out, where=denominator != 0))


def fano(n: int, total: int, squares: int) -> float:
    """Variance (ddof 1) over mean of `n` counts with this sum and sum of squares; NaN if all are 0, or n < 2."""
    return ratio(n * squares - total * total, (n - 1) * total) if n > 1 else math.nan


def cv(n: int, total: int, squares: int) -> float:
    """Standard deviation (ddof 0) over mean of `n` values; NaN if n < 2 or all are 0."""
    if n < 2 or total == 0:
        return math.nan
    return math.sqrt(ratio(n * squares - total * total, total * total))


def autocorrelation(
    n: int, total: int, squares: int, pairs: list[int], products: list[int], ends: list[int]
) -> list[float]:
    """Sample autocorrelation of `n` counts at several lags; NaN where all counts are equal.

    Parameters
    ----------
    n, total, squares : int
        Number of counts, their sum, their sum of squares.
    pairs, products, ends : lists of int
        At each lag the number of pairs of bins, the sum of their products, and the sum of all their members.
    """
    power = n * squares - total * total
    return [
        ratio(n * (n * product - total * end) + pair * total * total, n * power)
        for pair, product, end in zip(pairs, products, ends, strict=True)
    ]


def pearson(n: int, x: int, y: int, xx: int, yy: int, xy: int) -> float:
    """Correlation of two series of `n` whole numbers from their sums, sums of squares and sum of products."""
    spread = (n * xx - x * x) * (n * yy - y * y)
    if spread == 0:
        return math.nan
    covariance = n * xy - x * y
    return math.copysign(math.sqrt(ratio(covariance * covariance, spread)), covariance)
