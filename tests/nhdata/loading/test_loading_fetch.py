"""Decoded spikes under a memory budget, shared between processes."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nhdata
from nhdata.loading import WindowBatch, WindowDataset
from nhdata.loading.arena import PAGE_BYTES, SLOT_BYTES, SpikeArena, slots_within
from nhdata.loading.fetch import ChunkReader, SpikeCache, chunk_spans
from nhdata.loading.selection import select_units
from nhdata.store.layout import CHUNK_SPIKES, block_offsets

SLOT_MB = SLOT_BYTES / 1e6
N_SPIKES = (3 * CHUNK_SPIKES + 5, 2 * CHUNK_SPIKES, 1000)
TICK_HZ, DURATION_S = 1000.0, 3000
Make = Callable[..., WindowDataset]
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class Reader:
    """A session in memory that notes what is read."""

    def __init__(self, number: int, read: list[tuple[int, int]]) -> None:
        rng = np.random.default_rng(number)
        n = N_SPIKES[number]
        self.tick = np.sort(rng.integers(0, int(DURATION_S * TICK_HZ), n)).astype(np.uint32)
        self.unit = rng.integers(0, 50, n).astype(np.uint16)
        self.number, self.noted = number, read

    def spans(self) -> Any:
        return chunk_spans(block_offsets(self.tick, TICK_HZ, DURATION_S), TICK_HZ, len(self.tick))

    def read(self, numbers: Any, tick: Any, unit: Any) -> None:
        for k, number in enumerate(numbers.tolist()):
            self.noted.append((self.number, number))
            part = slice(number * CHUNK_SPIKES, (number + 1) * CHUNK_SPIKES)
            tick[k][: len(self.tick[part])], unit[k][: len(self.unit[part])] = self.tick[part], self.unit[part]


def cache_of(n_slots: float, read: list[tuple[int, int]]) -> SpikeCache:
    cache: Any = SpikeCache([SimpleNamespace(n_spikes=n, path=Path()) for n in N_SPIKES], n_slots * SLOT_MB)  # type: ignore[misc]
    cache._readers = {number: Reader(number, read) for number in range(len(N_SPIKES))}
    return cache


def spikes_of(cache: SpikeCache, windows: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Ticks and units inside of each window, from the chunks that the cache says hold them."""
    session, start, stop = np.array(windows, np.int64).T.copy()
    lo, hi = cache.locate(session, start, stop)
    for rows, spikes in cache.held(lo, hi):
        for w in range(rows.start, rows.stop):
            found = []
            for chunk in range(lo[w], hi[w]):
                n = min(CHUNK_SPIKES, N_SPIKES[session[w]] - (chunk - cache.first_chunk[session[w]]) * CHUNK_SPIKES)
                at = (int(spikes.slot_of[chunk]) - 1) * CHUNK_SPIKES
                tick, unit = spikes.tick[at : at + n], spikes.unit[at : at + n]
                inside = (tick >= start[w]) & (tick < stop[w])
                found += list(zip(tick[inside].tolist(), unit[inside].tolist(), strict=True))
            yield found


N_TICKS = int(DURATION_S * TICK_HZ)
PIECE = st.tuples(st.integers(0, 2), st.integers(0, N_TICKS), st.integers(0, 3000) | st.just(N_TICKS // 2))


@given(st.lists(st.lists(PIECE, min_size=1, max_size=5), min_size=1, max_size=4), st.sampled_from([0, 1, 2, 4, 100]))
@settings(deadline=None, max_examples=25)
def test_all_spikes_asked_for_within_the_budget(batches: list[list[tuple[int, int, int]]], n_slots: int) -> None:
    cache = cache_of(n_slots, [])
    for batch in batches:
        windows = [(number, start, min(start + length, N_TICKS)) for number, start, length in batch]
        for (number, start, stop), found in zip(windows, spikes_of(cache, windows), strict=True):
            assert cache.arena.nbytes <= max(n_slots, 1) * SLOT_BYTES
            reader = Reader(number, [])
            a, b = np.searchsorted(reader.tick, [start, stop])
            assert found == list(zip(reader.tick[a:b].tolist(), reader.unit[a:b].tolist(), strict=True))


def test_a_chunk_is_decoded_once_while_it_is_held() -> None:
    read: list[tuple[int, int]] = []
    cache = cache_of(2, read)
    for number in (0, 1, 0, 2, 0, 1):
        next(spikes_of(cache, [(number, 0, 20_000)]))
    assert read == [(0, 0), (1, 0), (2, 0), (1, 0)], "the least recently used goes first"
    read.clear()
    last = int(Reader(0, []).tick[-1])
    next(spikes_of(cache_of(9, read), [(0, last, last + 1)]))
    assert (0, 0) not in read, "a window does not decode its session"


def test_read_ahead_is_read_once() -> None:
    read: list[tuple[int, int]] = []
    cache = cache_of(9, read)
    lo, hi = cache.locate(*np.array([[0, 1, 1], [0, 0, 0], [N_TICKS, 9, 5]], np.int64))
    cache.fetch(lo, hi)
    assert sorted(read) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    list(spikes_of(cache, [(0, 0, N_TICKS), (1, 0, 1)]))
    assert len(read) == 5


def test_a_fault_while_reading_leaves_the_cache_whole() -> None:
    cache = cache_of(9, [])

    def fail(*_: Any) -> None:
        raise OSError("a disk is full of sand")

    whole, cache._readers[0].read = cache._readers[0].read, fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="sand"):
        list(spikes_of(cache, [(0, 0, N_TICKS)]))
    assert cache.arena.nbytes == 0
    cache._readers[0].read = whole  # type: ignore[method-assign]
    assert len(next(spikes_of(cache, [(0, 0, N_TICKS)]))) == N_SPIKES[0]


def test_batches_do_not_depend_on_the_budget(
    train: Any, windows_over: Make, content: Callable[[WindowBatch], Any]
) -> None:
    readers = [Reader(number, []) for number in range(2)]
    trains = [train(r.tick, r.unit, range(0, 50, 1 + r.number), TICK_HZ, N_TICKS) for r in readers]
    shape = {"history_s": 60.0, "horizon_s": 120.0, "bin_s": 1.0, "ema_tau_s": (3.0,), "batch_size": 16}
    rich, poor, none = (
        windows_over(*trains, memory_budget_mb=slots * SLOT_MB, shuffle=False, **shape) for slots in (100, 2, 0)
    )
    assert [content(b) for b in rich] == [content(b) for b in poor] == [content(b) for b in none]
    assert rich._cutter.cache.arena.nbytes == 5 * SLOT_BYTES
    assert poor._cutter.cache.arena.nbytes == 2 * SLOT_BYTES


def test_short_sessions_take_memory_for_their_spikes_only(store: Path) -> None:
    """40 sessions under a budget of four full chunks."""
    sessions = select_units(nhdata.open(store)).sessions[:1] * 40
    n = sessions[0].n_spikes
    cache = SpikeCache(sessions, 4 * SLOT_MB)
    before = os.fstat(cache.arena._file).st_blocks * 512
    whole = np.tile([[0], [0], [10**7]], 40)
    whole[0] = np.arange(40)
    lo, hi = cache.locate(*whole)
    (rows,) = (rows for rows, _ in cache.held(lo, hi))
    assert rows == slice(0, 40), "all are held at once"
    cache.fetch(lo, hi)
    assert cache.arena.is_full
    pages = (-(-4 * n // PAGE_BYTES) + -(-2 * n // PAGE_BYTES)) * PAGE_BYTES
    bookkeeping = 16 * PAGE_BYTES
    assert 40 * 6 * n <= os.fstat(cache.arena._file).st_blocks * 512 - before <= 40 * pages + bookkeeping
    expected = nhdata.open(store).session(sessions[0].session_id).read(0, n)
    for slot in cache.arena.slot_of[:40] - 1:
        part = slice(slot * CHUNK_SPIKES, slot * CHUNK_SPIKES + n)
        np.testing.assert_array_equal(cache.arena.tick[part], expected[0])
        np.testing.assert_array_equal(cache.arena.unit[part], expected[1])


def test_slots_are_one_per_chunk_where_the_spikes_fit_the_budget() -> None:
    full, small = CHUNK_SPIKES, 100
    n_spikes = np.array([full, small, full + small, 0])
    needed = 2 * SLOT_BYTES + 2 * 2 * PAGE_BYTES
    assert slots_within(needed, n_spikes) == 4
    assert slots_within(needed - 1, n_spikes) == 2


def test_a_cache_travels_empty(store: Path) -> None:
    sessions = select_units(nhdata.open(store)).sessions
    cache = SpikeCache(sessions, 0.001)  # less than one session
    lo, hi = cache.locate(*np.array([[0], [0], [10**6]], np.int64))
    cache.fetch(lo, hi)
    other = pickle.loads(pickle.dumps(cache))  # noqa: S301 (made here)
    assert cache.arena.nbytes == SLOT_BYTES
    assert (other.arena.n_slots, other.arena.nbytes) == (1, 0)
    other.fetch(lo, hi)
    n = sessions[0].n_spikes
    np.testing.assert_array_equal(other.arena.tick[:n], cache.arena.tick[:n])


def test_chunks_come_as_zarr_reads_them(store: Path) -> None:
    """Directly, and through zarr where the direct way does not know the layout."""
    session = select_units(nhdata.open(store)).sessions[0]
    direct, through = ChunkReader(session), ChunkReader(session)
    assert direct._session.shards is not None
    through._session.__dict__["shards"] = None
    expected = nhdata.open(store).session(session.session_id).ticks()
    for reader in (direct, through):
        tick, unit = np.empty((1, CHUNK_SPIKES), np.uint32), np.empty((1, CHUNK_SPIKES), np.uint16)
        reader.read(np.array([0]), tick, unit)
        np.testing.assert_array_equal(tick[0, : session.n_spikes], expected[0])
        np.testing.assert_array_equal(unit[0, : session.n_spikes], expected[1])


def fill_with(value: int) -> Any:
    def fill(arena: SpikeArena, slots: Any) -> None:
        arena.tick.reshape(-1, CHUNK_SPIKES)[slots, :3] = value

    return fill


def in_another(work: Callable[[], None]) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


@forks
def test_processes_share_what_one_of_them_decoded() -> None:
    arena, chunks = SpikeArena(10, 4), np.array([3, 7])

    def child() -> None:
        with arena.pinned(chunks, lambda _, slots: fill_with(42)(arena, slots)):
            pass

    other = in_another(child)
    other.join(30)
    assert other.exitcode == 0
    with arena.pinned(chunks, pytest.fail) as slots:
        assert slots is not None
        assert (arena.tick.reshape(4, -1)[slots, :3] == 42).all()


@forks
@pytest.mark.parametrize("when", ["while it reads", "while it decodes"])
def test_a_process_that_is_killed_blocks_nobody(when: str) -> None:
    arena, chunks = SpikeArena(10, 2), np.array([3, 7])
    ready = multiprocessing.get_context("fork").Event()

    def child() -> None:
        def fill(_: Any, slots: Any) -> None:
            fill_with(1)(arena, slots)
            if when == "while it decodes":
                ready.set()
                signal.pause()

        with arena.pinned(chunks, fill):
            ready.set()
            signal.pause()

    other = in_another(child)
    assert ready.wait(30)
    with arena.pinned(np.array([1]), pytest.fail) as slots:
        assert slots is None, "all slots are pinned"
    os.kill(other.pid, signal.SIGKILL)  # type: ignore[arg-type]
    other.join(30)
    filled: list[int] = []

    def fill(chunks: Any, slots: Any) -> None:
        filled.extend(chunks)
        fill_with(9)(arena, slots)

    if when == "while it decodes":
        with arena.pinned(chunks, fill) as slots:
            assert slots is not None
            assert filled == [3, 7], "what it left half done is done again"
    with arena.pinned(np.array([1, 2]), fill) as slots:
        assert slots is not None
        assert filled[-2:] == [1, 2], "and its pins count no more"


def test_what_is_being_decoded_does_not_count_as_here() -> None:
    """Asked in the middle of taking slots, which NumPy allows: it lets other threads run as it assigns."""
    arena = SpikeArena(2, 2)
    askers: list[threading.Thread] = []
    said: list[bool] = []

    class Asked(np.ndarray[Any, np.dtype[np.int32]]):
        def __setitem__(self, key: Any, value: Any) -> None:
            askers.append(threading.Thread(target=lambda: said.append(arena.is_full)))
            askers[-1].start()
            askers[-1].join(0.2)
            super().__setitem__(key, value)

    def fill(chunks: NDArray[np.int64], slots: NDArray[np.int32]) -> None:
        for asker in askers:
            asker.join()
        assert said == [False] * len(askers) != []

    arena._filler = arena._filler.view(Asked)
    with arena.pinned(np.arange(2), fill) as slots:
        assert slots is not None
    assert arena.is_full
