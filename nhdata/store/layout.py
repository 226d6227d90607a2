"""The plan of a store: names, clocks, chunks and shards. No I/O."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError

STORE_VERSION = 1
SCHEMA_VERSION = 1
CHUNK_SPIKES = 128 * 1024
SHARD_SPIKES = 32 * CHUNK_SPIKES
BLOCK_S = 0.1
TICK_RATES_HZ = (1e6, 5e5, 2e5, 1e5, 3e4)
NO_TICK = 0xFFFFFFFF
NO_UNIT = 0xFFFF
STAGING = ".staging"

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def check_name(kind: str, name: str) -> str:
    """`name`, if it is safe as one folder's name inside the store.

    Raises
    ------
    UserError
        If it is empty, longer than 128 characters, starts with a dot or a dash, or has any character
        but letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _ID.fullmatch(name):
        raise UserError(
            f"{kind} {name!r} cannot name a folder of the store", "use letters, digits, '_', '.' and '-' only"
        )
    return name


def tick_rate_hz(duration_s: float) -> float:
    """The finest clock whose uint32 ticks hold a session of this length.

    Parameters
    ----------
    duration_s : float
        Seconds from the first to the last instant that must have a tick.

    Raises
    ------
    UserError
        If even 30 kHz is too fine: a session of more than 39 hours.

    Examples
    --------
    >>> tick_rate_hz(3600.0), tick_rate_hz(5382.0)
    (1000000.0, 500000.0)
    """
    for rate_hz in TICK_RATES_HZ:
        if duration_s * rate_hz < NO_TICK - 1:
            return rate_hz
    raise UserError(
        f"a session of {duration_s / 3600:.1f} hours does not fit 2^32 ticks of 1/30000 s",
        "split it into sessions of at most 39 hours",
    )


def shard_spikes(n_spikes: int) -> int:
    """Spikes per shard: 4 Mi, or as few whole chunks as hold a small session."""
    return min(SHARD_SPIKES, max(1, math.ceil(n_spikes / CHUNK_SPIKES)) * CHUNK_SPIKES)


def block_offsets(tick: NDArray[np.uint32], tick_hz: float, duration_s: float) -> NDArray[np.int64]:
    """Where each 100 ms block begins in the sorted spikes.

    Returns
    -------
    (n_blocks + 1,) int64
        Entry k is the offset of the first spike at or after k · 100 ms; the last is the number of spikes.
    """
    n_blocks = math.ceil(round(duration_s / BLOCK_S, 6))
    edges = np.ceil(np.arange(n_blocks) * (BLOCK_S * tick_hz) - 1e-6)
    offsets = np.searchsorted(tick, np.minimum(edges, NO_TICK).astype(np.uint32)).astype(np.int64)
    return np.append(offsets, tick.size)


def tick_at(time_s: float, t_start_s: float, tick_hz: float) -> int:
    """First tick at or after `time_s`; a time that is a tick but for rounding is that tick.

    Rounding is at least a thousandth of a tick, or what float64 cannot tell apart on a clock that counts from 1970.

    Examples
    --------
    >>> tick_at(0.1 + 0.2, 0.0, 1e6)  # 0.30000000000000004
    300000
    """
    exact = (time_s - t_start_s) * tick_hz
    nearest = round(exact)
    rounding = max(1e-3, math.ulp(time_s) * tick_hz)
    return nearest if abs(exact - nearest) < rounding else math.ceil(exact)
