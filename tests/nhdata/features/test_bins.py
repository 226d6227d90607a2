"""Counts in bins against exact fractions, at edges and on clocks whose bins are no whole ticks."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhcatalog.errors import UserError
from nhdata.features.bins import TOO_MANY, bin_ticks, binned_counts, count_spikes

MAX_COUNT = 65_535

CLOCKS = [  # bin_s, tick_hz, the width in ticks worked out by hand
    (0.02, 30000.0, Fraction(600)),
    (0.1, 1e6, Fraction(100_000)),
    (0.3, 1e6, Fraction(300_000)),
    (1 / 30, 30000.0, Fraction(1000)),
    (1 / 3, 1e6, Fraction(1_000_000, 3)),
    (0.02, 24414.0625, Fraction(15625, 32)),
    (0.001, 24414.0625, Fraction(3125, 128)),
    (0.1, 32552.0, Fraction(16276, 5)),
    (0.003, 30000.035, Fraction(18000021, 200000)),
]


def exact_counts(tick, unit, n_units, first_bin, n_bins, width):
    """Counts by rational arithmetic, spike by spike."""
    counts = np.zeros((n_bins, n_units), int)
    for t, u in zip(tick.tolist(), unit.tolist(), strict=True):
        k = t // width - first_bin
        if 0 <= k < n_bins:
            counts[k, u] += 1
    return counts


@pytest.mark.parametrize(("bin_s", "tick_hz", "width"), CLOCKS)
def test_the_width_of_a_bin_is_an_exact_fraction_of_ticks(bin_s, tick_hz, width):
    assert Fraction(*bin_ticks(bin_s, tick_hz)) == width


@pytest.mark.parametrize(("bin_s", "tick_hz", "width"), CLOCKS)
def test_the_tick_on_an_edge_opens_its_bin_and_the_one_before_closes_the_last(bin_s, tick_hz, width):
    last = int((2**32 - 1) / width) - 1
    for k in {1, 2, 3, 49, 1000, last // 2, last}:
        edge = ceil(k * width)
        tick = np.array([edge - 1, edge], np.uint32)
        counts = binned_counts(
            tick, np.zeros(2, np.uint16), n_units=1, first_bin=k - 1, n_bins=2, bin_s=bin_s, tick_hz=tick_hz
        )
        assert counts.ravel().tolist() == [1, 1], k


@st.composite
def spikes_and_bins(draw):
    bin_s, tick_hz, width = draw(st.sampled_from(CLOCKS))
    first_bin = draw(st.integers(-4, int(2**31 / width)))
    edge = st.builds(lambda k, d: max(0, ceil((first_bin + k) * width) + d), st.integers(-2, 8), st.integers(-2, 2))
    tick = np.sort(np.array(draw(st.lists(edge | st.integers(0, 2**32 - 2), max_size=60)), np.uint32))
    unit = np.array(draw(st.lists(st.integers(0, 2), min_size=tick.size, max_size=tick.size)), np.uint16)
    return tick, unit, first_bin, draw(st.integers(0, 6)), bin_s, tick_hz, width


@given(spikes_and_bins())
def test_counts_equal_rational_arithmetic(case):
    tick, unit, first_bin, n_bins, bin_s, tick_hz, width = case
    counts = binned_counts(tick, unit, n_units=3, first_bin=first_bin, n_bins=n_bins, bin_s=bin_s, tick_hz=tick_hz)
    assert counts.dtype == np.uint16
    np.testing.assert_array_equal(counts, exact_counts(tick, unit, 3, first_bin, n_bins, width))


def test_counts_equal_numpy_histogram_where_edges_are_whole_ticks():
    rng = np.random.default_rng(0)
    tick = np.sort(rng.integers(0, 30000 * 20, 20_000)).astype(np.uint32)
    unit = rng.integers(0, 7, tick.size).astype(np.uint16)
    counts = binned_counts(tick, unit, n_units=7, first_bin=0, n_bins=1000, bin_s=0.02, tick_hz=30000.0)
    expected, _, _ = np.histogram2d(tick, unit, bins=(np.arange(1001) * 600, np.arange(8)))
    np.testing.assert_array_equal(counts, expected)


def test_a_count_past_the_largest_is_an_error_and_never_wraps():
    tick, unit = np.zeros(MAX_COUNT + 1, np.uint32), np.zeros(MAX_COUNT + 1, np.uint16)
    shape = {"n_units": 1, "first_bin": 0, "n_bins": 1, "bin_s": 0.02, "tick_hz": 30000.0}
    assert binned_counts(tick[1:], unit[1:], **shape).item() == MAX_COUNT
    with pytest.raises(UserError, match=r"0\.02 s holds more than 65535.*shorter bin"):
        binned_counts(tick, unit, **shape)
    out = np.full((1, 1), MAX_COUNT, np.uint16)
    assert count_spikes(tick[:1], unit[:1], 0, 600, 1, out, MAX_COUNT) == TOO_MANY
    assert out.item() == MAX_COUNT


def test_a_spike_of_no_unit_is_an_error():
    shape = {"n_units": 2, "first_bin": 0, "n_bins": 1, "bin_s": 0.02, "tick_hz": 30000.0}
    with pytest.raises(UserError, match="past the last of 2"):
        binned_counts(np.zeros(3, np.uint32), np.array([0, 2, 1], np.uint16), **shape)


@pytest.mark.parametrize("bin_s", [0.0, -0.02, float("nan"), float("inf")])
def test_a_width_that_is_no_width_is_refused(bin_s):
    with pytest.raises(UserError, match="is not a width"):
        bin_ticks(bin_s, 30000.0)


def test_a_bin_is_at_least_one_tick():
    assert bin_ticks(1 / 30000, 30000.0) == (1, 1)
    with pytest.raises(UserError, match="shorter than one tick"):
        bin_ticks(0.9 / 30000, 30000.0)
