"""What a single expected count is worth: Poisson likelihood, bits per spike, within-unit moments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from nhcatalog.errors import UserError

Floats = NDArray[np.float64]

EXPECTED_FLOOR = 1e-6
"""Least expected count of a bin, for every model alike: a lower forecast counts as this one."""


def floored(expected: ArrayLike) -> Floats:
    """A forecast as float64, never below `EXPECTED_FLOOR`.

    Raises
    ------
    UserError
        If a value is NaN, infinite or negative.
    """
    values = np.asarray(expected, dtype=np.float64)
    bad = ~(values >= 0) | np.isinf(values)
    if bad.any():
        raise UserError(
            f"the forecast is NaN, infinite or negative in {bad.sum()} of {values.size} values",
            "a forecast is an expected count per bin: check the model that made it",
        )
    return np.maximum(values, EXPECTED_FLOOR)


def poisson_nll(counts: ArrayLike, expected: ArrayLike, *, log_factorial: bool = False) -> Floats:
    """Poisson negative log-likelihood of each count, in nats.

    Parameters
    ----------
    counts : array of integer
    expected : array of floating, broadcastable to `counts`
        Expected counts of the same bins.
    log_factorial : bool
        Add ``log(counts!)``, which no model can change: needed only to compare with other likelihoods.

    Returns
    -------
    array of float64
        ``expected - counts · log(expected) [+ log(counts!)]``.
    """
    y, rate = np.asarray(counts, dtype=np.float64), floored(expected)
    nll = rate - y * np.log(rate)
    return nll + gammaln(y + 1) if log_factorial else nll


def bits(nll: float, null: float, spikes: float) -> float | None:
    """``(null - nll) / (spikes · ln 2)``; None without a spike."""
    return float((null - nll) / (spikes * np.log(2))) if spikes else None


def moments_of(y: Floats, f: Floats) -> Floats:
    """(5, N) sums over windows and bins: Σy, Σf, Σy², Σf², Σyf."""
    return np.stack([a.sum(axis=(0, 1)) for a in (y, f, y * y, f * f, y * f)])


def within_unit(n: NDArray[Any], moments: Floats) -> tuple[float | None, float | None]:
    """Mean r and R² over units whose counts vary; (None, None) where no unit's do."""
    y, f, yy, ff, yf = moments
    n = np.maximum(n, 1)
    var_y, var_f = yy - y * y / n, ff - f * f / n
    # a forecast that never varies leaves rounding, not variance
    flat = var_f <= 1e-12 * ff
    varies = var_y > 1e-12 * yy
    if not varies.any():
        return None, None
    r = np.where(flat, 0.0, yf - y * f / n) / np.sqrt(np.where(flat | ~varies, 1.0, var_y * var_f))
    r2 = 1 - (yy - 2 * yf + ff) / np.where(varies, var_y, 1.0)
    return float(r[varies].mean()), float(r2[varies].mean())
