"""Slots of decoded spikes in memory that all processes of a machine share.

The memory has no name: it is a file without a place in any folder, which travels to worker processes as a file
descriptor and is gone when the last of them is, however that one ended. Who reads a slot pins it, in a row of its
own; the row of a process that died counts no more. Locks are those of `fcntl`, which die with their holder too.
"""

from __future__ import annotations

import fcntl
import mmap
import multiprocessing.context
import multiprocessing.reduction
import os
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.store.layout import CHUNK_SPIKES

SLOT_BYTES = CHUNK_SPIKES * 6
PAGE_BYTES = mmap.PAGESIZE
N_ROWS = 128  # processes that may read at once
_MUTEX = 2**40  # places of locks, past all memory
_WAIT_S = 2e-4

Fill = Callable[[NDArray[np.int64], NDArray[np.int32]], None]


def slots_within(budget_bytes: float, n_spikes: NDArray[np.int64]) -> int:
    """Slots that a memory budget has room for: one per chunk where all chunks fit, else as many full ones as fit.

    A slot takes memory only for the pages that are written, so that chunks of a few spikes are small.

    Parameters
    ----------
    budget_bytes : float
    n_spikes : (n_sessions,) int64
        Spikes of each session.
    """
    n_chunks = int((-(-n_spikes // CHUNK_SPIKES)).sum())
    rest = n_spikes % CHUNK_SPIKES
    pages = -(-4 * rest // PAGE_BYTES) + -(-2 * rest // PAGE_BYTES)
    total = int((n_spikes // CHUNK_SPIKES).sum()) * SLOT_BYTES + int(pages.sum()) * PAGE_BYTES
    return n_chunks if total <= budget_bytes else int(budget_bytes) // SLOT_BYTES


class SpikeArena:
    """Chunks of spikes by number, at most `n_slots` of them at once; the least recently used makes room.

    Parameters
    ----------
    n_chunks : int
        Chunks that there are, numbered over all sessions.
    n_slots : int
        Chunks that are kept. Memory is taken, page by page, as slots are written.

    Attributes
    ----------
    slot_of : (n_chunks,) int32
        Slot of each chunk, plus one; 0 where it is not here.
    tick, unit : (n_slots * CHUNK_SPIKES,) uint32, uint16
        Slot k holds ``[k * CHUNK_SPIKES, (k + 1) * CHUNK_SPIKES)``.
    """

    def __init__(self, n_chunks: int, n_slots: int) -> None:
        self.n_chunks, self.n_slots = n_chunks, n_slots
        self._create()

    def _create(self) -> None:
        self._file = _nameless_file()
        os.ftruncate(self._file, sum(_sizes(self.n_chunks, self.n_slots)))
        self._map()

    def _map(self) -> None:
        """Map the memory into this process."""
        weakref.finalize(self, os.close, self._file)
        sizes = _sizes(self.n_chunks, self.n_slots)
        memory = mmap.mmap(self._file, sum(sizes))
        at = [0, *np.cumsum(sizes).tolist()]

        def part(k: int, dtype: Any, n: int) -> NDArray[Any]:
            return np.frombuffer(memory, dtype, n, at[k])

        self.tick: NDArray[np.uint32] = part(0, np.uint32, self.n_slots * CHUNK_SPIKES)
        self.unit: NDArray[np.uint16] = part(1, np.uint16, self.n_slots * CHUNK_SPIKES)
        # zero is how memory begins, and stands for "none" everywhere
        self.slot_of: NDArray[np.int32] = part(2, np.int32, self.n_chunks)  # slot + 1 of each chunk
        self._chunk_in: NDArray[np.int32] = part(3, np.int32, self.n_slots)  # chunk + 1 in each slot
        self._filler: NDArray[np.int32] = part(4, np.int32, self.n_slots)  # row + 1 of who decodes into each slot
        self._used: NDArray[np.int64] = part(5, np.int64, self.n_slots + 1)  # when; the last is the clock
        self._pins: NDArray[np.uint8] = part(6, np.uint8, N_ROWS * self.n_slots).reshape(N_ROWS, self.n_slots)
        self._join()

    def _join_after_fork(self) -> None:
        """Join, if locks and pins are still the parent's."""
        if self._pid != os.getpid():
            self._join()

    def _join(self) -> None:
        """Take a row for this process's pins."""
        self._threads, self._pid, self._full = threading.Lock(), os.getpid(), False
        for row in range(N_ROWS):
            if self._claim(row):
                self._row = row
                self._pins[row] = 0
                with self._locked():  # what its last owner died over
                    self._forget(np.flatnonzero(self._filler == row + 1))
                return
        raise OSError(f"more than {N_ROWS} processes share one cache of spikes")

    def _claim(self, row: int) -> bool:
        """Whether `row` was free, and is now this process's until it ends."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _MUTEX + 1 + row)
        except OSError:
            return False
        return True

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {"n_chunks": self.n_chunks, "n_slots": self.n_slots}
        if multiprocessing.context.get_spawning_popen() is not None:  # on its way to a child: share
            state["file"] = multiprocessing.reduction.DupFd(self._file)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.n_chunks, self.n_slots = state["n_chunks"], state["n_slots"]
        if "file" in state:
            self._file = state["file"].detach()
            self._map()
        else:
            self._create()

    @property
    def nbytes(self) -> int:
        """Bytes of the slots in use, as if each held a full chunk."""
        return int(np.count_nonzero(self._chunk_in)) * SLOT_BYTES

    @property
    def is_full(self) -> bool:
        """Whether every chunk that there is is here, decoded; then it stays, and nothing need be pinned."""
        if not self._full and self.n_slots >= self.n_chunks and self.slot_of.all():
            self._join_after_fork()
            with self._locked():  # who takes slots gives them to chunks first, and only then says that it fills them
                self._full = bool(self.slot_of.all()) and not self._filler.any()
        return self._full

    def holds(self, chunks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `chunks` are here now, or on their way."""
        return self.slot_of[chunks] > 0

    @contextmanager
    def pinned(self, chunks: NDArray[np.int64], fill: Fill) -> Iterator[NDArray[np.int32] | None]:
        """Slots of `chunks`, which hold them as long as the context lasts; None if there is no room for them now.

        Parameters
        ----------
        chunks : (n,) int64, each once
        fill : callable
            Given chunks and as many slots, decodes the ones into the others.
        """
        self._join_after_fork()
        taken = self._take(chunks)
        if taken is None:
            yield None
            return
        slots, mine = taken
        try:
            if mine.any():
                self._fill(chunks[mine], slots[mine], fill)
            while (pending := self._filler[slots] > 0).any():  # another process or thread decodes them
                orphans = pending & self._orphaned(slots)
                if orphans.any():
                    self._fill(chunks[orphans], slots[orphans], fill)
                else:
                    time.sleep(_WAIT_S)
            # a fill that failed elsewhere leaves nothing: ask again, and meet the error
            yield slots if np.array_equal(self._chunk_in[slots], chunks + 1) else None
        finally:
            with self._threads:
                self._pins[self._row, slots] -= 1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _MUTEX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _MUTEX)

    def _take(self, chunks: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]] | None:
        """Pin the slots of `chunks`, and say which of them are for this caller to fill."""
        with self._locked():
            slots = self.slot_of[chunks] - 1
            missing = slots < 0
            if missing.any():
                self._pins[self._row, slots[~missing]] += 1
                victims = self._victims(int(missing.sum()))
                if victims is None:
                    self._pins[self._row, slots[~missing]] -= 1
                    return None
                self._forget(victims)
                self._chunk_in[victims] = chunks[missing] + 1
                self.slot_of[chunks[missing]] = victims + 1
                self._filler[victims] = self._row + 1
                slots[missing] = victims
                self._pins[self._row, victims] += 1
            else:
                self._pins[self._row, slots] += 1
            self._used[-1] += 1
            self._used[slots] = self._used[-1]
            return slots, missing

    def _victims(self, n: int) -> NDArray[np.int32] | None:
        """`n` slots that nobody reads: empty ones first, then those not used for longest."""
        free = np.flatnonzero(~self._pins.any(0))
        if len(free) < n and self._forget_the_dead():
            free = np.flatnonzero(~self._pins.any(0))
        if len(free) < n:
            return None
        return free[np.argsort(self._used[free], kind="stable")[:n]].astype(np.int32)

    def _forget(self, slots: NDArray[Any]) -> None:
        """Empty some slots."""
        chunks = self._chunk_in[slots]
        self.slot_of[chunks[chunks > 0] - 1] = 0
        self._chunk_in[slots] = self._filler[slots] = 0

    def _forget_the_dead(self) -> bool:
        """Drop the pins of processes that are no more; whether there were any."""
        dead = [row for row in np.flatnonzero(self._pins.any(1)).tolist() if row != self._row and self._is_free(row)]
        self._pins[dead] = 0
        return bool(dead)

    def _is_free(self, row: int) -> bool:
        if not self._claim(row):
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _MUTEX + 1 + row)
        return True

    def _orphaned(self, slots: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which slots were being filled by a process that died; they are this caller's to fill now."""
        with self._locked():
            fillers = self._filler[slots]
            rows = {
                row for row in (np.unique(fillers[fillers > 0]) - 1).tolist() if row != self._row and self._is_free(row)
            }
            orphans = np.isin(fillers - 1, list(rows)) & (fillers > 0)
            self._filler[slots[orphans]] = self._row + 1
            return orphans

    def _fill(self, chunks: NDArray[np.int64], slots: NDArray[np.int32], fill: Fill) -> None:
        try:
            fill(chunks, slots)
        except BaseException:
            with self._locked():  # whoever waits for them will ask again
                self._forget(slots)
            raise
        with self._locked():
            self._filler[slots] = 0


def _sizes(n_chunks: int, n_slots: int) -> list[int]:
    """Bytes of each part of the memory, in order; whole pages, so that each is aligned."""
    parts = (4 * n_slots * CHUNK_SPIKES, 2 * n_slots * CHUNK_SPIKES, 4 * n_chunks, 4 * n_slots, 4 * n_slots)
    return [-(-size // 4096) * 4096 for size in (*parts, 8 * (n_slots + 1), N_ROWS * n_slots)]


def _nameless_file() -> int:
    """A file in memory, or without memory files a temporary one that is deleted at once."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("nhdata-spikes")
    handle, name = tempfile.mkstemp(prefix="nhdata-spikes-")
    os.unlink(name)
    return handle
