"""How well an epoch is shuffled, and what memory buys it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nhdata.loading.dataset import WindowDataset
from nhdata.loading.plan import EpochPlan


@dataclass(frozen=True)
class ShuffleQuality:
    """How far batches are from random samples of all windows.

    Attributes
    ----------
    memory_budget_mb : float
    same_session : float
        How many times more often than by chance two windows of a batch come from the same session.
    same_minute : float
        The same for those of one session and the same minute of it. Both are 1 for random samples.
    """

    memory_budget_mb: float
    same_session: float
    same_minute: float


def shuffle_quality(windows: WindowDataset, budgets_mb: Sequence[float] = ()) -> list[ShuffleQuality]:
    """The quality of the current epoch's order, under its own memory budget or under others. Reads no spikes.

    Batches take sessions of similar size only, so that `same_session` is above 1 for sessions of
    different sizes under any budget.

    Parameters
    ----------
    windows : WindowDataset
        Shuffled.
    budgets_mb : sequence of float
        Budgets to compare; by default the one that `windows` has.
    """
    found = []
    for budget_mb in budgets_mb or [windows.memory_budget_mb]:
        plan = windows.plan(open_chunks=windows.open_chunks(windows.slots_within(budget_mb)))
        tick_hz = np.array([s.tick_hz for s in windows.selection.sessions])
        session, mark = plan.windows[:, 0], plan.windows[:, 1]
        minute = session * 2**20 + (mark / (60 * tick_hz[session])).astype(np.int64)
        same_session = _excess(session, plan)
        found.append(ShuffleQuality(budget_mb, same_session, _excess(minute, plan) / same_session))
    return found


def _excess(cell: NDArray[np.int64], plan: EpochPlan) -> float:
    """Pairs of windows in one batch that share a cell, over those expected if batches were drawn at random.

    Drawn without replacement, a pair shares a cell with probability sum of N_c (N_c - 1) over N (N - 1).
    """
    batch = np.repeat(np.arange(len(plan.edges) - 1), np.diff(plan.edges))
    together = np.unique(np.column_stack([batch, cell]), axis=0, return_counts=True)[1]
    size, of_cell, n = np.diff(plan.edges), np.unique(cell, return_counts=True)[1], len(cell)
    expected = (size * (size - 1)).sum() * (of_cell * (of_cell - 1)).sum() / max(n * (n - 1), 1)
    return float((together * (together - 1)).sum() / expected) if expected else 1.0
