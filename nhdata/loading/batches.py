"""Where batches end: after so many windows, or before so many tokens. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nhdata.store.layout import BLOCK_S


@dataclass(frozen=True)
class BySize:
    """Batches of so many windows; the last may be smaller."""

    batch_size: int

    def __call__(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ends of the batches of (n, 2) windows."""
        ends = np.arange(self.batch_size, len(windows) + self.batch_size, self.batch_size)
        return np.minimum(ends, len(windows))


@dataclass(frozen=True)
class SpikeIndex:
    """How many spikes of one session may be tokens.

    Attributes
    ----------
    block : (n_blocks + 1,) int64
        Offset of the first spike at or after each 100 ms.
    tick_hz : float
    history : int
        Ticks before a mark.
    share : float
        Of all spikes, those of selected units.
    """

    block: NDArray[np.int64]
    tick_hz: float
    history: int
    share: float

    def tokens(self, marks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Most tokens of the windows with these marks; in proportion where not all units are selected."""
        per_block, last = BLOCK_S * self.tick_hz, len(self.block) - 1
        first = np.floor((marks - self.history) / per_block).astype(np.int64)
        stop = np.ceil(marks / per_block).astype(np.int64)
        spikes = self.block[np.clip(stop, 0, last)] - self.block[np.clip(first, 0, last)]
        return np.asarray(np.ceil(spikes * self.share), np.int64)


@dataclass(frozen=True)
class ByTokens:
    """Batches of as many windows as have `max_tokens` together; a window that has more is alone.

    Attributes
    ----------
    sessions : tuple of SpikeIndex
    """

    max_tokens: int
    sessions: tuple[SpikeIndex, ...]

    def __call__(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ends of the batches of (n, 2) windows."""
        tokens = np.zeros(len(windows), np.int64)
        for number in np.unique(windows[:, 0]).tolist():
            rows = windows[:, 0] == number
            tokens[rows] = self.sessions[number].tokens(windows[rows, 1])
        total = np.cumsum(tokens)
        ends, done, before = [], 0, 0
        while done < len(windows):
            done = max(int(np.searchsorted(total, before + self.max_tokens, side="right")), done + 1)
            before = int(total[done - 1])
            ends.append(done)
        return np.array(ends, np.int64)
