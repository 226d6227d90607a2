"""How far a score could have come out otherwise: a paired bootstrap over blocks of time and sessions.

Windows next to each other are not independent, so whole blocks of time are drawn, within each session;
from `SESSIONS` sessions on, sessions are drawn too, and the blocks within each draw of a session. Few blocks make the
plain percentile interval too narrow: it is widened as Student's t widens a normal one (Hesterberg 2015,
doi:10.1080/00031305.2015.1089789, "expanded percentile"), and fewer than `FEWEST` blocks give none.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from nhmodel.metrics import ScoreSums

SESSIONS = 5
"""Sessions from which on sessions are drawn too: a draw from fewer says little about others."""
FEWEST = 8
"""Blocks below which nothing is said."""
BLOCK_S, SHORTEST_S, ENOUGH = 10.0, 2.0, 16
"""Length of a block; where that makes fewer than `ENOUGH` of them, they are shorter, down to `SHORTEST_S`."""

Interval = tuple[float, float] | tuple[None, None]


def bootstrap_fp_bps(
    sums: ScoreSums, *, block_s: float | None = None, n_resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile interval of a model's forward-prediction bits per spike.

    Parameters
    ----------
    sums : ScoreSums
    block_s : float, optional
        Length of the blocks that are drawn together, counted from each session's first window; `block_length_s`
        by default.
    n_resamples : int
    level : float
        Share of the resamples inside the interval.
    seed : int
        The same seed draws the same blocks for every model.

    Returns
    -------
    (low, high) : float or None
        None, None where there are fewer than `FEWEST` blocks, or no spikes: nothing can be said.
    """
    block_s = block_length_s(sums) if block_s is None else block_s
    blocks = [_blocks(s.t_s, block_s, s.window_null - s.window_nll, s.window_spikes) for s in sums.sessions.values()]
    return _interval(blocks, n_resamples, level, seed)


def bootstrap_delta(
    model: ScoreSums,
    other: ScoreSums,
    *,
    block_s: float | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of ``fp_bps(model) - fp_bps(other)``, both taken on the same drawn blocks.

    Parameters as `bootstrap_fp_bps`.

    Raises
    ------
    ValueError
        If the two were not scored on the same windows against the same null.
    """
    if model.sessions.keys() != other.sessions.keys():
        raise ValueError("the models were scored on different sessions")
    block_s = block_length_s(model) if block_s is None else block_s
    blocks = []
    for session_id, mine in model.sessions.items():
        theirs = other.sessions[session_id]
        if not (
            np.array_equal(mine.t_s, theirs.t_s)
            and np.array_equal(mine.window_spikes, theirs.window_spikes)
            and np.array_equal(mine.null_expected, theirs.null_expected)
        ):
            raise ValueError(f"session {session_id}: the models were scored on different windows or nulls")
        blocks.append(_blocks(mine.t_s, block_s, theirs.window_nll - mine.window_nll, mine.window_spikes))
    return _interval(blocks, n_resamples, level, seed)


def block_length_s(sums: ScoreSums) -> float:
    """`BLOCK_S`, or in short recordings what makes `ENOUGH` blocks of them, but at least `SHORTEST_S`.

    Examples
    --------
    >>> block_length_s(ScoreSums())
    2.0
    """
    scored_s = sum(_step_s(part.t_s) + float(part.t_s[-1] - part.t_s[0]) for part in sums.sessions.values())
    return min(BLOCK_S, max(SHORTEST_S, scored_s / ENOUGH))


def _step_s(t_s: NDArray[np.float64]) -> float:
    """Time from one window to the next."""
    return float(np.median(np.diff(t_s))) if len(t_s) > 1 else 0.0


def _blocks(
    t_s: NDArray[np.float64], block_s: float, nats: NDArray[np.float64], spikes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(B, 2) nats gained and spikes of each block that holds a window."""
    block = np.floor((t_s - t_s[:1]) / block_s).astype(np.int64)
    _, block = np.unique(block, return_inverse=True)
    return np.stack([np.bincount(block, nats), np.bincount(block, spikes)], axis=1)


def _interval(blocks: list[NDArray[np.float64]], n_resamples: int, level: float, seed: int) -> Interval:
    n_sessions, n_blocks = len(blocks), sum(len(session) for session in blocks)
    if n_blocks < FEWEST or not sum(session[:, 1].sum() for session in blocks):
        return None, None
    rng = np.random.default_rng(seed)
    draws = np.ones((n_resamples, n_sessions), np.int64)
    if n_sessions >= SESSIONS:
        draws = rng.multinomial(n_sessions, np.full(n_sessions, 1 / n_sessions), size=n_resamples)
    nats, spikes = np.zeros(n_resamples), np.zeros(n_resamples)
    for session, times in zip(blocks, draws.T, strict=True):
        # k draws of a session with B blocks hold k·B blocks, each equally likely
        weights = rng.multinomial(times * len(session), np.full(len(session), 1 / len(session)))
        gained, fired = (weights @ session).T
        nats, spikes = nats + gained, spikes + fired
    spiking = spikes > 0
    bps = nats[spiking] / (spikes[spiking] * np.log(2))
    tail = _tail(level, n_sessions if n_sessions >= SESSIONS else n_blocks)
    low, high = np.quantile(bps, [tail, 1 - tail])
    return float(low), float(high)


def _tail(level: float, n: int) -> float:
    """Share of the resamples beyond each end of an interval from `n` independent things."""
    return float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2)))
