"""Decoded spikes under a memory budget."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nhdata
from nhdata.loading import WindowBatch, WindowDataset, fetch
from nhdata.loading.fetch import SpikeCache
from nhdata.store.session import Session

CHUNK, N_TICKS = 2000, 60 * 30_000
CHUNK_MB = CHUNK * 6 / 1e6


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "CHUNK_SPIKES", CHUNK)


@pytest.fixture
def sessions(store: Path) -> list[Session]:
    opened = nhdata.open(store)
    return [opened.session(name) for name in opened.session_ids]


@given(
    asked=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, N_TICKS), st.integers(0, 200_000) | st.just(N_TICKS)), max_size=8
    ),
    n_chunks=st.sampled_from([0, 1, 3, 1000]),
)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_spikes_asked_for_within_the_budget(
    sessions: list[Session], asked: list[tuple[int, int, int]], n_chunks: int
) -> None:
    cache = SpikeCache(n_chunks * CHUNK_MB)
    whole = [session.ticks() for session in sessions]
    for number, start, length in asked:
        stop = min(start + length, N_TICKS)
        tick, unit = cache.spikes(sessions[number].path, start, stop)
        assert cache.nbytes <= max(n_chunks, 1) * CHUNK * 6
        assert cache.nbytes == sum(t.nbytes + u.nbytes for t, u in cache._held.values())
        inside = (tick >= start) & (tick < stop)
        expected = (whole[number][0] >= start) & (whole[number][0] < stop)
        np.testing.assert_array_equal(tick[inside], whole[number][0][expected])
        np.testing.assert_array_equal(unit[inside], whole[number][1][expected])
        assert np.all(tick[1:] >= tick[:-1])


def test_a_chunk_is_decoded_once_while_it_is_held(sessions: list[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int]] = []
    plain = Session.read

    def counted(self: Session, lo: int, hi: int) -> Any:
        read.append((self.session_id[-1], lo // CHUNK))
        return plain(self, lo, hi)

    monkeypatch.setattr(Session, "read", counted)
    cache = SpikeCache(2 * CHUNK_MB)
    a, b, c = (session.path for session in sessions)
    for path in (a, b, a, c, a, b):
        cache.spikes(path, 0, 1)
    assert read == [("0", 0), ("1", 0), ("2", 0), ("1", 0)], "the least recently used goes first"
    last = sessions[2].ticks()[0][-1]
    read.clear()
    SpikeCache(1.0).spikes(c, int(last), int(last) + 1)
    assert read == [("2", (sessions[2].n_spikes - 1) // CHUNK)], "a window does not decode its session"


def test_batches_do_not_depend_on_the_budget(store: Path, content: Callable[[WindowBatch], Any]) -> None:
    options: dict[str, Any] = {"ema_tau_s": (0.1, 3.0), "horizon_s": 2.0}
    rich, poor = (WindowDataset(store, memory_budget_mb=mb, **options) for mb in (100, CHUNK_MB))
    assert [content(b) for b in rich] == [content(b) for b in poor]
    assert rich._cache.nbytes > 5 * CHUNK * 6
    assert poor._cache.nbytes <= CHUNK * 6


def test_a_cache_travels_empty(sessions: list[Session]) -> None:
    cache = SpikeCache(1.0)
    cache.spikes(sessions[0].path, 0, N_TICKS)
    other = pickle.loads(pickle.dumps(cache))  # noqa: S301 (made here)
    assert (other.budget, other.nbytes) == (1_000_000, 0)
    np.testing.assert_array_equal(other.spikes(sessions[0].path, 0, 1)[0], cache.spikes(sessions[0].path, 0, 1)[0])
