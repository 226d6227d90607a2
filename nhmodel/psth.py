"""Peri-stimulus time histograms of counts and forecasts, as sums that merge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PSTH_BINS = 50
"""Bins after an onset that are compared: a second of bins of 20 ms."""


def psth_sums(y: Floats, f: Floats, since_onset: NDArray[np.int64] | None) -> Floats:
    """Sums by time since the onset of a trial.

    Parameters
    ----------
    y, f : (W, T, N) float64
        Counts and forecasts.
    since_onset : (W, T) int or None
        Bins since the latest onset, -1 before any.

    Returns
    -------
    (PSTH_BINS, 1 + 2 N) float64
        Bins seen, then Σy and Σf of each unit.
    """
    out = np.zeros((PSTH_BINS, 1 + 2 * y.shape[2]))
    if since_onset is not None:
        near = (since_onset >= 0) & (since_onset < PSTH_BINS)
        rows = np.concatenate([np.ones((near.sum(), 1)), y[near], f[near]], axis=1)
        np.add.at(out, since_onset[near], rows)
    return out


def psth_r2(parts: list[Floats]) -> float | None:
    """Mean over units of ``1 - SSE / SST`` between mean forecast and mean counts; None where no PSTH varies."""
    found = []
    for part in parts:
        seen = part[:, 0] > 0
        y, f = np.split(part[seen, 1:] / part[seen, :1], 2, axis=1)
        sst = np.sum((y - y.mean(axis=0)) ** 2, axis=0) if len(y) else np.zeros(y.shape[1])
        varies = sst > 1e-12
        found.append(1 - np.sum((f - y) ** 2, axis=0)[varies] / sst[varies])
    r2 = np.concatenate([np.zeros(0), *found])
    return float(r2.mean()) if r2.size else None
