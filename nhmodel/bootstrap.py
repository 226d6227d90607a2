"""How far a score could have come out otherwise: a paired bootstrap over blocks of time and sessions.

Windows next to each other are not independent, so whole blocks of `block_s` are drawn, within each session;
from `SESSIONS` sessions on, sessions are drawn too, and the blocks within each draw of a session.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nhmodel.metrics import ScoreSums

SESSIONS = 5
"""Sessions from which on sessions are drawn too: a draw from fewer says little about others."""

Interval = tuple[float, float] | tuple[None, None]


def bootstrap_fp_bps(
    sums: ScoreSums, *, block_s: float = 10.0, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile interval of a model's forward-prediction bits per spike.

    Parameters
    ----------
    sums : ScoreSums
    block_s : float
        Length of the blocks that are drawn together, counted from each session's first window.
    n_resamples : int
    level : float
        Share of the resamples inside the interval.
    seed : int
        The same seed draws the same blocks for every model.

    Returns
    -------
    (low, high) : float or None
        None, None where there are fewer than two blocks, or no spikes: nothing can be said.
    """
    blocks = [_blocks(s.t_s, block_s, s.window_null - s.window_nll, s.window_spikes) for s in sums.sessions.values()]
    return _interval(blocks, n_resamples, level, seed)


def bootstrap_delta(
    model: ScoreSums,
    other: ScoreSums,
    *,
    block_s: float = 10.0,
    n_resamples: int = 1000,
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


def _blocks(
    t_s: NDArray[np.float64], block_s: float, nats: NDArray[np.float64], spikes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(B, 2) nats gained and spikes of each block that holds a window."""
    block = np.floor((t_s - t_s[:1]) / block_s).astype(np.int64)
    _, block = np.unique(block, return_inverse=True)
    return np.stack([np.bincount(block, nats), np.bincount(block, spikes)], axis=1)


def _interval(blocks: list[NDArray[np.float64]], n_resamples: int, level: float, seed: int) -> Interval:
    if sum(len(session) for session in blocks) < 2 or not sum(session[:, 1].sum() for session in blocks):
        return None, None
    rng = np.random.default_rng(seed)
    n = len(blocks)
    draws = np.ones((n_resamples, n), np.int64)
    if n >= SESSIONS:
        draws = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    nats, spikes = np.zeros(n_resamples), np.zeros(n_resamples)
    for session, times in zip(blocks, draws.T, strict=True):
        # k draws of a session with B blocks hold k·B blocks, each equally likely
        weights = rng.multinomial(times * len(session), np.full(len(session), 1 / len(session)))
        gained, fired = (weights @ session).T
        nats, spikes = nats + gained, spikes + fired
    spiking = spikes > 0
    bps = nats[spiking] / (spikes[spiking] * np.log(2))
    low, high = np.quantile(bps, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
