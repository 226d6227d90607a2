"""Spike trains of single units out of a time-sorted session."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.jit import kernel
from nhdata.features.threads import FEW_SPIKES, n_threads, run_parts


def by_unit(
    tick: NDArray[np.uint32], unit: NDArray[np.uint16], n_units: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Counting sort of time-sorted spikes into one train after another, on several threads.

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

    Raises
    ------
    UserError
        If the spikes are not sorted, or one names a unit that is not there.

    Examples
    --------
    >>> train, start = by_unit(np.array([5, 6, 7], np.uint32), np.array([1, 0, 1], np.uint16), 2)
    >>> train.tolist(), start.tolist()
    ([6, 5, 7], [0, 1, 3])
    """
    n_parts = 1 if tick.size < FEW_SPIKES else n_threads()
    edges = [tick.size * k // n_parts for k in range(n_parts + 1)]
    parts = [slice(a, b) for a, b in pairwise(edges)]
    count = np.zeros((n_parts, n_units), np.int64)
    sound = run_parts(
        _count, [(tick[max(part.start - 1, 0) : part.stop], unit[part], count[k]) for k, part in enumerate(parts)]
    )
    if not all(sound):
        raise UserError(
            f"spikes are not sorted in time, or one is of a unit past the last of {n_units}",
            "sort them; a store's are checked by 'nhdata validate --deep'",
        )
    start = np.concatenate([[0], np.cumsum(count.sum(axis=0))]).astype(np.int64)
    place = (start[:-1] + np.cumsum(count, axis=0) - count).astype(
        np.uint64
    )  # where each part's spikes of each unit begin
    train = np.empty(tick.size, np.uint32)
    # filled, not returned: Ctrl-C as Numba hands over a tuple of arrays is a crash
    run_parts(_fill, [(tick[part], unit[part], place[k], train) for k, part in enumerate(parts)])
    return train, start


@kernel
def _count(tick: NDArray[np.uint32], unit: NDArray[np.uint16], count: NDArray[np.int64]) -> bool:
    """Spikes of each unit; False for what would make other kernels read and write where they must not."""
    falls = 0
    for i in range(tick.size - 1):
        falls += tick[i + 1] < tick[i]
    for i in range(unit.size):
        if unit[i] >= count.size:
            return False
        count[unit[i]] += 1
    return falls == 0


@kernel
def _fill(
    tick: NDArray[np.uint32], unit: NDArray[np.uint16], place: NDArray[np.uint64], train: NDArray[np.uint32]
) -> None:
    for i in range(tick.size):
        u = unit[i]
        k = place[u]
        train[k] = tick[i]
        place[u] = k + np.uint64(1)
