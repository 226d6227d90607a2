"""Kernels on several threads: they release the GIL, so plain threads are enough.

Numba's own ``parallel=True`` is not used: its disk cache confuses serial and parallel code of one function, it
compiles slower, and a process that has forked after it hangs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numba.core import config
from numpy.typing import NDArray

FEW_SPIKES = 200_000  # below, a thread costs more than it gives
PARTS_PER_THREAD = 4


def n_threads() -> int:
    """Threads to use: ``NUMBA_NUM_THREADS``, else every core; one in a worker process, whose siblings have the rest."""
    return 1 if multiprocessing.parent_process() else int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def run_parts(work: Callable[..., Any], parts: Sequence[tuple[Any, ...]]) -> list[Any]:
    """``work(*part)`` for every part, on threads; results in order.

    Examples
    --------
    >>> run_parts(max, [(1, 2), (5, 3)])
    [2, 5]
    """
    threads = min(n_threads(), len(parts))
    if threads <= 1:
        return [work(*part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, *part) for part in parts]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def equal_parts(n_spikes: NDArray[np.int64]) -> list[slice]:
    """Rows in consecutive parts of about equally many spikes, several a thread; one part where there is little to do.

    Examples
    --------
    >>> equal_parts(np.array([3, 1, 2]))
    [slice(0, 3, None)]
    """
    total, rows = int(n_spikes.sum()), n_spikes.size
    n = 1 if total < FEW_SPIKES else min(rows, n_threads() * PARTS_PER_THREAD)
    if n <= 1:
        return [slice(0, rows)]
    ends = np.searchsorted(np.cumsum(n_spikes), np.arange(1, n) * (total / n)) + 1
    edges = np.unique([0, *np.minimum(ends, rows), rows])
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]
