"""Decoded spikes of sessions, kept under a memory budget."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nhdata.store.layout import CHUNK_SPIKES
from nhdata.store.session import Session

SpikeArrays = tuple[NDArray[np.uint32], NDArray[np.uint16]]


class SpikeCache:
    """Decode chunks of the store once and keep them while the budget lasts; the least recently used goes first.

    The chunk in use is always kept, even where it alone passes the budget. Sessions are opened by the
    process that asks: nothing open is carried across a fork or a pickle. Their indexes stay (8 bytes for every
    100 ms of recording) and are not counted.

    Parameters
    ----------
    memory_budget_mb : float
        Megabytes (1e6 bytes) of decoded spikes to keep.
    """

    def __init__(self, memory_budget_mb: float) -> None:
        self.budget = int(memory_budget_mb * 1e6)
        self._forget()

    def _forget(self) -> None:
        self._sessions: dict[Path, Session] = {}
        self._held: OrderedDict[tuple[Path, int], SpikeArrays] = OrderedDict()
        self.nbytes = 0
        """Bytes of decoded spikes held now."""

    def __getstate__(self) -> dict[str, int]:
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.budget = state["budget"]
        self._forget()

    def spikes(self, path: Path, start_tick: int, stop_tick: int) -> SpikeArrays:
        """Spikes of the session at `path`: all of ``[start_tick, stop_tick)``, and some about it.

        Returns
        -------
        tick : (n,) uint32
            Sorted.
        unit : (n,) uint16
            Row of each spike's unit.
        """
        if path not in self._sessions:
            self._sessions[path] = Session(path)
        lo, hi = self._sessions[path].offsets(start_tick, stop_tick)
        parts = []
        for number in range(lo // CHUNK_SPIKES, max(hi - 1, lo) // CHUNK_SPIKES + 1):
            at = number * CHUNK_SPIKES
            inside = slice(max(lo - at, 0), hi - at)
            tick, unit = self._chunk(path, number)
            parts.append((tick[inside], unit[inside]))
        if len(parts) == 1:
            return parts[0]
        ticks, units = zip(*parts, strict=True)
        return np.concatenate(ticks), np.concatenate(units)

    def _chunk(self, path: Path, number: int) -> SpikeArrays:
        key = path, number
        if key not in self._held:
            chunk = self._sessions[path].read(number * CHUNK_SPIKES, (number + 1) * CHUNK_SPIKES)
            self._held[key] = chunk
            self.nbytes += _nbytes(chunk)
            while self.nbytes > self.budget and len(self._held) > 1:
                self.nbytes -= _nbytes(self._held.popitem(last=False)[1])
        self._held.move_to_end(key)
        return self._held[key]


def _nbytes(spikes: SpikeArrays) -> int:
    tick, unit = spikes
    return tick.nbytes + unit.nbytes
