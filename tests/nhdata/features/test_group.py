"""Trains of single units against a stable sort."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nhdata.features.group import by_unit

N_UNITS = 6


@settings(deadline=None)  # the first call compiles
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
