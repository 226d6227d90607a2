"""Which chunks of the store windows need, and those chunks decoded under a memory budget."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nhdata.features.jit import kernel
from nhdata.loading.arena import SpikeArena, slots_within
from nhdata.loading.mix import block_chunks
from nhdata.loading.selection import SelectedSession
from nhdata.store.layout import BLOCK_S, CHUNK_SPIKES
from nhdata.store.session import Session

Rows = Sequence[NDArray[Any]]
REMOTE_READERS = 4
_WAIT_S = 1e-3


class Spikes(NamedTuple):
    """Decoded chunks: chunk c holds ``tick[slot * CHUNK_SPIKES:]`` on, where ``slot = slot_of[c] - 1``."""

    tick: NDArray[np.uint32]
    unit: NDArray[np.uint16]
    slot_of: NDArray[np.int32]


class ChunkReader:
    """The chunks of one session: decoded straight from their files, or through zarr if laid out in another way."""

    def __init__(self, session: SelectedSession) -> None:
        self._session = Session(session.path)

    def spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bounds of the ticks of each chunk: none is below the first, all are below the second."""
        return chunk_spans(self._session.block_offsets, self._session.tick_hz, self._session.n_spikes)

    def read(self, numbers: NDArray[np.int64], tick: Rows, unit: Rows) -> None:
        """Decode chunks, in ascending order, each into an array of CHUNK_SPIKES ticks and one of units.

        Nothing is written past the last spike of a chunk.
        """
        shards = self._session.shards
        if shards is not None:
            shards.fetch(numbers.tolist())
            for k, number in enumerate(numbers.tolist()):
                n = min(self._session.n_spikes - number * CHUNK_SPIKES, CHUNK_SPIKES)
                if n == CHUNK_SPIKES:
                    shards.read_chunk(number, tick[k], unit[k])
                    continue
                # the padding of a short chunk would take the memory of a full one
                ticks, units = np.empty(CHUNK_SPIKES, np.uint32), np.empty(CHUNK_SPIKES, np.uint16)
                shards.read_chunk(number, ticks, units)
                tick[k][:n], unit[k][:n] = ticks[:n], units[:n]
            return
        edges = np.flatnonzero(np.diff(numbers) > 1) + 1
        for run in np.split(np.arange(len(numbers)), edges):  # neighbours in one read
            lo = int(numbers[run[0]]) * CHUNK_SPIKES
            ticks, units = self._session.read(lo, lo + len(run) * CHUNK_SPIKES)
            for k, place in enumerate(run.tolist()):
                part = slice(k * CHUNK_SPIKES, (k + 1) * CHUNK_SPIKES)
                tick[place][: len(ticks[part])], unit[place][: len(units[part])] = ticks[part], units[part]


def chunk_spans(block: NDArray[np.int64], tick_hz: float, n_spikes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bounds of the ticks of each chunk, from the offsets of the session's 100 ms blocks."""
    starts = np.arange(0, n_spikes, CHUNK_SPIKES)
    lasts = np.minimum(starts + CHUNK_SPIKES, n_spikes) - 1
    per_block = BLOCK_S * tick_hz
    first, last = (np.searchsorted(block, at, side="right") - 1 for at in (starts, lasts))
    return np.floor(first * per_block).astype(np.int64), np.ceil((last + 1) * per_block).astype(np.int64) + 1


class SpikeCache:
    """Decode chunks of the store once per machine and keep them while the budget lasts.

    What a batch is being cut from is always there, even where it alone passes the budget. Sessions are opened by
    the process that asks: nothing open is carried across a fork or a pickle. What stays of each session in
    each process are the bounds of its chunks, 16 bytes for 131,072 spikes.

    Parameters
    ----------
    sessions : sequence of SelectedSession
    memory_budget_mb : float
        Megabytes (1e6 bytes) of decoded spikes to keep, 6 bytes each in whole pages, in all processes that share this
        cache.

    Attributes
    ----------
    first_chunk : (n_sessions + 1,) int64
        Chunks are numbered over all sessions; this is where each session begins.
    n_readers : int
        Threads that should read ahead: more where reading is waiting.
    """

    def __init__(self, sessions: Sequence[SelectedSession], memory_budget_mb: float) -> None:
        self._sessions = tuple(sessions)
        n_chunks = [-(-s.n_spikes // CHUNK_SPIKES) for s in sessions]
        self.first_chunk = np.cumsum([0, *n_chunks])
        total = max(int(self.first_chunk[-1]), 1)
        self.arena = SpikeArena(total, min(max(self.slots_within(memory_budget_mb), 1), total))
        self._begin()

    def slots_within(self, memory_budget_mb: float) -> int:
        """Chunks that a memory budget has room for; all of them where their spikes fit."""
        return slots_within(memory_budget_mb * 1e6, np.array([s.n_spikes for s in self._sessions], np.int64))

    def _begin(self) -> None:
        is_local = all(isinstance(s.path, Path) for s in self._sessions)
        self.n_readers = 1 if is_local else REMOTE_READERS
        self._piece = 1 if is_local else block_chunks(self.arena.n_slots)
        self._readers: dict[int, ChunkReader] = {}
        self._pid = os.getpid()
        self._low, self._high = np.zeros((2, int(self.first_chunk[-1])), np.int64)
        self._known = np.zeros(len(self._sessions), bool)

    def __getstate__(self) -> dict[str, Any]:
        return {"sessions": self._sessions, "first_chunk": self.first_chunk, "arena": self.arena}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._sessions, self.first_chunk, self.arena = state["sessions"], state["first_chunk"], state["arena"]
        self._begin()

    def _reader(self, number: int) -> ChunkReader:
        if number not in self._readers:
            self._readers[number] = ChunkReader(self._sessions[number])
        return self._readers[number]

    def locate(
        self, session: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers ``[lo, hi)`` of the chunks that hold the ticks ``[start, stop)`` of each window.

        Parameters
        ----------
        session, start, stop : (B,) int64
        """
        if self._pid != os.getpid():
            self._begin()
        for number in np.unique(session[~self._known[session]]).tolist():
            part = slice(*self.first_chunk[number : number + 2])
            self._low[part], self._high[part] = self._reader(number).spans()
            self._known[number] = True
        lo, hi = np.empty((2, len(session)), np.int64)
        _locate(self._low, self._high, self.first_chunk, session, start, stop, lo, hi)
        return lo, hi

    def held(self, lo: NDArray[np.int64], hi: NDArray[np.int64]) -> Iterator[tuple[slice, Spikes]]:
        """Decoded spikes of all windows, as many windows at a time as there is room for.

        What is yielded is there until the next one is asked for.

        Parameters
        ----------
        lo, hi : (B,) int64
            Chunks of each window.
        """
        if self.arena.is_full:
            yield slice(0, len(lo)), Spikes(self.arena.tick, self.arena.unit, self.arena.slot_of)
            return
        done, wanted = 0, len(lo)
        while done < len(lo):
            rows = slice(done, done + wanted)
            chunks = _chunks(lo[rows], hi[rows])
            if wanted == 1 and len(chunks) > self.arena.n_slots:
                yield rows, self._alone(chunks)
                done += 1
                continue
            with self.arena.pinned(chunks, self._fill) as slots:
                if slots is not None:
                    yield rows, Spikes(self.arena.tick, self.arena.unit, self.arena.slot_of)
                    done += wanted
                    wanted = min(wanted, len(lo) - done)
                    continue
            if wanted == 1:
                time.sleep(_WAIT_S)  # others have pinned it all, and will let go
            wanted = max(wanted // 2, 1)

    def lacks(self, lo: NDArray[np.int64], hi: NDArray[np.int64]) -> bool:
        """Whether something that windows need is not here."""
        return not self.arena.is_full and not self.arena.holds(_chunks(lo, hi)).all()

    def fetch(self, lo: NDArray[np.int64], hi: NDArray[np.int64]) -> None:
        """Decode what windows will need, if it is not here and there is room."""
        chunks = _chunks(lo, hi)
        missing = chunks[~self.arena.holds(chunks)]
        if self._piece > 1:
            missing = np.unique(missing[:, None] // self._piece * self._piece + np.arange(self._piece))
            missing = missing[missing < self.first_chunk[-1]]
            missing = missing[~self.arena.holds(missing)]
        with self.arena.pinned(missing, self._fill):
            pass

    def _alone(self, chunks: NDArray[np.int64]) -> Spikes:
        """A window too long for the budget, in memory of its own."""
        tick, unit = np.empty(len(chunks) * CHUNK_SPIKES, np.uint32), np.empty(len(chunks) * CHUNK_SPIKES, np.uint16)
        slot_of = np.zeros(len(self.arena.slot_of), np.int32)
        slot_of[chunks] = 1 + np.arange(len(chunks), dtype=np.int32)
        self._read(chunks, [*tick.reshape(-1, CHUNK_SPIKES)], [*unit.reshape(-1, CHUNK_SPIKES)])
        return Spikes(tick, unit, slot_of)

    def _fill(self, chunks: NDArray[np.int64], slots: NDArray[np.int32]) -> None:
        tick, unit = (flat.reshape(-1, CHUNK_SPIKES) for flat in (self.arena.tick, self.arena.unit))
        self._read(chunks, [tick[k] for k in slots], [unit[k] for k in slots])

    def _read(self, chunks: NDArray[np.int64], tick: Rows, unit: Rows) -> None:
        """Decode `chunks`, in ascending order."""
        owner = np.searchsorted(self.first_chunk, chunks, side="right") - 1
        for number in np.unique(owner).tolist():
            a, b = np.searchsorted(owner, [number, number + 1]).tolist()
            self._reader(number).read(chunks[a:b] - self.first_chunk[number], tick[a:b], unit[a:b])


@kernel
def _locate(
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    first_chunk: NDArray[np.int64],
    session: NDArray[np.int64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
) -> None:
    for w in range(len(session)):
        a, b = first_chunk[session[w]], first_chunk[session[w] + 1]
        lo[w] = a + np.searchsorted(high[a:b], start[w], side="right")
        hi[w] = max(a + np.searchsorted(low[a:b], stop[w], side="left"), lo[w])


@kernel
def _chunks(lo: NDArray[np.int64], hi: NDArray[np.int64]) -> NDArray[np.int64]:
    """All chunks of some windows, ascending, each once."""
    every = np.empty((hi - lo).sum(), np.int64)
    n = 0
    for w in range(len(lo)):
        for chunk in range(lo[w], hi[w]):
            every[n] = chunk
            n += 1
    every.sort()
    kept = 0
    for k in range(n):
        if kept == 0 or every[k] != every[kept - 1]:
            every[kept] = every[k]
            kept += 1
    return every[:kept]
