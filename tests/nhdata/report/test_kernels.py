"""Kernels of the report against NumPy."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nhdata.features.group import by_unit
from nhdata.report.kernels import count_grid, isi_counts, lag_counts

N_UNITS = 3
spikes = st.lists(st.tuples(st.integers(0, 999), st.integers(0, N_UNITS - 1)), max_size=80).map(sorted)


def arrays(pairs):
    tick, unit = (np.array([p[k] for p in pairs], dtype) for k, dtype in ((0, np.uint32), (1, np.uint16)))
    return tick, unit, *by_unit(tick, unit, N_UNITS)


@settings(deadline=None)
@given(spikes, st.integers(1, 7))
def test_count_grid(pairs, n_parts) -> None:
    tick, unit, _, _ = arrays(pairs)
    out = np.zeros((N_UNITS, n_parts), np.int64)
    count_grid(tick, unit, 1000, out)
    edges = np.array([-(-k * 1000 // n_parts) for k in range(n_parts + 1)])
    expected = [np.histogram(tick[unit == u], np.append(edges[:-1], 1000))[0] for u in range(N_UNITS)]
    np.testing.assert_array_equal(out, expected)


@settings(deadline=None)
@given(spikes)
def test_isi_counts(pairs) -> None:
    tick, unit, train, start = arrays(pairs)
    edges = np.array([1.0, 2.0, 10.0, 100.0])
    out = np.zeros((N_UNITS, 3), np.int64)
    isi_counts(train, start, edges, out)
    for u in range(N_UNITS):
        interval = np.diff(tick[unit == u].astype(int))
        expected = [np.sum((interval >= a) & (interval < b)) for a, b in pairwise(edges)]
        np.testing.assert_array_equal(out[u], expected)


@settings(deadline=None)
@given(spikes)
def test_lag_counts(pairs) -> None:
    tick, unit, train, start = arrays(pairs)
    out = np.zeros((N_UNITS, 5), np.int64)
    used = lag_counts(train, start, 8.0, 10**9, out)
    np.testing.assert_array_equal(used, np.bincount(unit, minlength=N_UNITS))
    for u in range(N_UNITS):
        one = tick[unit == u].astype(int)
        lag = np.array([b - a for i, a in enumerate(one) for b in one[i + 1 :]], int)
        np.testing.assert_array_equal(out[u], [np.sum(lag // 8 == k) for k in range(5)])


def test_lag_counts_stops_and_says_how_far_it_came() -> None:
    train, start = np.arange(1000, dtype=np.uint32), np.array([0, 1000])
    out = np.zeros((1, 10), np.int64)
    (used,) = lag_counts(train, start, 1.0, 90, out)
    assert used == 10
    assert out.sum() == 90
