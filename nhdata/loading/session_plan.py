"""What a plan of windows knows of a session: no spikes, only where windows may lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class WindowShape:
    """A window in ticks of one session: `history` ticks before its mark, `horizon` ticks from it."""

    history: int
    horizon: int


@dataclass(frozen=True)
class SessionPlan:
    """What the plan knows of one session.

    Attributes
    ----------
    stretches : (K, 2) int64
        Half-open stretches that windows may touch, in ticks.
    shape : WindowShape
    n_units : int
        Selected ones.
    n_spikes, n_ticks : int
        Of the whole session.
    events : (E,) int64, optional
        Ticks that windows are aligned to; without them they lie on a grid.
    """

    stretches: NDArray[np.int64]
    shape: WindowShape
    n_units: int
    n_spikes: int = 1
    n_ticks: int = 1
    events: NDArray[np.int64] | None = None
