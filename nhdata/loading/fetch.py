"""Decoded spikes of sessions, kept under a memory budget."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nhdata.store.session import Session

SpikeArrays = tuple[NDArray[np.uint32], NDArray[np.uint16]]


class SpikeCache:
    """Decode a session once and keep it while the budget lasts; the least recently used goes first.

    The session in use is always kept, even where it alone passes the budget. Sessions are opened by the
    process that asks: nothing open is carried across a fork or a pickle.

    Parameters
    ----------
    memory_budget_mb : float
        Megabytes (1e6 bytes) of decoded spikes to keep.
    """

    def __init__(self, memory_budget_mb: float) -> None:
        self.budget = int(memory_budget_mb * 1e6)
        self._held: OrderedDict[Path, SpikeArrays] = OrderedDict()

    def __getstate__(self) -> dict[str, int]:
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.budget = state["budget"]
        self._held = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of decoded spikes held now."""
        return sum(tick.nbytes + unit.nbytes for tick, unit in self._held.values())

    def spikes(self, path: Path) -> SpikeArrays:
        """All spikes of the session at `path`: sorted ticks and rows of units."""
        if path not in self._held:
            self._held[path] = Session(path).ticks()
            while self.nbytes > self.budget and len(self._held) > 1:
                self._held.popitem(last=False)
        self._held.move_to_end(path)
        return self._held[path]
