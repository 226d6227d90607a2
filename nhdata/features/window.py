"""Which window the reference features are taken from when a session is ingested."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_S = 1.0


def good_window(
    start_s: float,
    stop_s: float,
    length_s: float,
    invalid_start_s: NDArray[np.float64],
    invalid_stop_s: NDArray[np.float64],
) -> tuple[float, float]:
    """The first `length_s` of recording that is free of times stated as invalid.

    Where no stretch is that long, the longest one (the earliest of equals); where not even a second in a row is valid,
    the first `length_s` of all, as if nothing had been stated.

    Parameters
    ----------
    start_s, stop_s : float
        The session.
    length_s : float
    invalid_start_s, invalid_stop_s : (n,) float64
        Spans stated as invalid, in any order; one that has no end lasts to the session's, one without a start counts
        from the session's.

    Returns
    -------
    start_s, stop_s : float
        Half-open.

    Examples
    --------
    >>> good_window(0.0, 300.0, 60.0, np.array([20.0]), np.array([25.0]))
    (25.0, 85.0)
    """
    begin = np.nan_to_num(invalid_start_s, nan=start_s)
    end = np.nan_to_num(invalid_stop_s, nan=stop_s)
    best = (start_s, start_s)
    free_from = start_s
    for a, b in sorted([*zip(begin.tolist(), end.tolist(), strict=True), (stop_s, stop_s)]):
        if a >= b and a < stop_s:
            continue  # says nothing
        until = min(a, stop_s)
        if until - free_from >= length_s:
            return free_from, free_from + length_s
        if until - free_from > best[1] - best[0]:
            best = (free_from, until)
        free_from = max(free_from, b)
    return best if best[1] - best[0] >= LEAST_S else (start_s, min(start_s + length_s, stop_s))
