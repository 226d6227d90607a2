"""Spike trains of single units out of a time-sorted session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhdata.features.jit import kernel


def by_unit(
    tick: NDArray[np.uint32], unit: NDArray[np.uint16], n_units: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Counting sort of time-sorted spikes into one train after another.

    Parameters
    ----------
    tick : (n,) uint32
        Sorted in time.
    unit : (n,) uint16
        Row of each spike's unit, below `n_units`.
    n_units : int

    Returns
    -------
    train : (n,) uint32
        Ticks unit by unit, each unit's sorted in time.
    start : (n_units + 1,) int64
        Unit u's train is ``train[start[u]:start[u + 1]]``.
    """
    train, start = np.empty(tick.size, np.uint32), np.zeros(n_units + 1, np.int64)
    _fill(tick, unit, train, start)  # filled, not returned: Ctrl-C as Numba hands over a tuple of arrays is a crash
    return train, start


@kernel
def _fill(
    tick: NDArray[np.uint32], unit: NDArray[np.uint16], train: NDArray[np.uint32], start: NDArray[np.int64]
) -> None:
    for i in range(unit.size):
        start[unit[i] + 1] += 1
    for u in range(start.size - 1):
        start[u + 1] += start[u]
    place = start[:-1].copy()
    for i in range(tick.size):
        u = unit[i]
        train[place[u]] = tick[i]
        place[u] += 1
