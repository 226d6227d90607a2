"""Trains of single units against a stable sort."""

import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nhcatalog.errors import UserError
from nhdata.features.group import by_unit

N_UNITS = 6


@given(hnp.arrays(np.uint16, st.integers(0, 200), elements=st.integers(0, N_UNITS - 1)), st.integers(0, 2**31))
def test_trains_equal_a_stable_sort_by_unit(unit, seed):
    tick = np.sort(np.random.default_rng(seed).integers(0, 2**32, unit.size, dtype=np.uint32))
    train, start = by_unit(tick, unit, N_UNITS)
    np.testing.assert_array_equal(train, tick[np.argsort(unit, kind="stable")])
    np.testing.assert_array_equal(np.diff(start), np.bincount(unit, minlength=N_UNITS))
    assert (train.dtype, start.dtype, start[0]) == (np.uint32, np.int64, 0)


def test_a_session_without_spikes_has_empty_trains():
    train, start = by_unit(np.empty(0, np.uint32), np.empty(0, np.uint16), 3)
    assert train.size == 0
    assert start.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    ("tick", "unit"), [([1, 2, 3, 9, 8, 9], [0] * 6), ([1, 2, 3, 2, 5, 6], [0] * 6), ([1] * 6, [6] * 6)]
)
def test_spikes_that_would_lead_kernels_astray_are_refused(tick, unit, n_threads, monkeypatch):
    monkeypatch.setattr("nhdata.features.group.FEW_SPIKES", 0)
    monkeypatch.setattr("nhdata.features.group.n_threads", lambda: n_threads)
    with pytest.raises(UserError, match="not sorted in time, or one is of a unit past the last of 6"):
        by_unit(np.array(tick, np.uint32), np.array(unit, np.uint16), N_UNITS)


def test_an_interrupt_while_the_kernel_runs_is_an_interrupt():
    """Numba hands over a tuple of arrays so that an exception that is due by then crashes the process."""

    def interrupt(*_):
        raise KeyboardInterrupt

    tick, unit = np.arange(8_000_000, dtype=np.uint32), np.zeros(8_000_000, np.uint16)
    by_unit(tick[:9], unit[:9], 1)  # compiles
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        with pytest.raises(KeyboardInterrupt):
            by_unit(tick, unit, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
