"""The 33 reference features against NumPy, written from their definitions and not from the kernels."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nhcatalog.errors import UserError
from nhdata.features.reference import FEATURE_NAMES, reference_features
from nhdata.features.trains import spike_trains


def features_of(tick, unit, *, n_units, start_tick, stop_tick, tick_hz):
    pieces = [(start_tick, stop_tick)]
    return reference_features(spike_trains(tick, unit, n_units=n_units, tick_hz=tick_hz, pieces=pieces))


def window_counts(train, start, stop, tick_hz, bin_s):
    """Counts in whole bins of a window, by rational arithmetic."""
    width = Fraction(bin_s) * Fraction(tick_hz)
    n_bins = int((stop - start) / width)
    bins = [int((t - start) / width) for t in train]
    return np.bincount([k for k in bins if k < n_bins], minlength=n_bins)[:n_bins]


def isi_bin(interval_ticks, tick_hz):
    """The last k of 10 ** (k / 4 - 4) s <= interval, by integers: raised to the fourth power, edges are exact."""
    power = (Fraction(interval_ticks) / Fraction(tick_hz)) ** 4 * 10**16
    return max((k for k in range(21) if power >= 10**k), default=-1)


def numpy_features(train, start, stop, tick_hz):
    """Features of one unit's sorted train of whole ticks, all within the window."""
    out = np.full(33, np.nan)
    interval = np.diff(np.asarray(train, np.int64))
    out[0] = len(train) / ((stop - start) / tick_hz)
    if len(train) >= 3 and interval.any():
        out[1] = np.std(interval) / np.mean(interval)
    if len(train) >= 2:
        placed = [isi_bin(int(i), tick_hz) for i in interval]
        out[2:22] = [placed.count(k) / interval.size for k in range(20)]
    counts = window_counts(train, start, stop, tick_hz, "0.01")
    if counts.size and np.ptp(counts):
        deviation = counts - counts.mean()
        full = np.correlate(deviation, np.pad(deviation, (0, 10)), "full")[::-1]
        at_zero = counts.size - 1
        out[22:32] = full[at_zero + 1 : at_zero + 11] / full[at_zero]
    counts = window_counts(train, start, stop, tick_hz, "0.02")
    if counts.size > 1 and counts.any():
        out[32] = counts.var(ddof=1) / counts.mean()
    return out


@st.composite
def trains(draw):
    """Trains of three units with bursts, duplicates and silence, spilling over both ends of a window."""
    tick_hz = draw(st.sampled_from([1000.0, 24414.0625, 30000.0, 1e6]))
    start = draw(st.integers(0, 3 * int(tick_hz)))
    stop = start + draw(st.integers(1, 2 * int(tick_hz)))
    steps = st.sampled_from([0, 1, 3, 30, 300, 1000]) | st.integers(0, int(tick_hz))
    units = []
    for _ in range(3):
        gaps = draw(st.lists(steps, max_size=25))
        units.append(max(0, start - 500) + np.cumsum(gaps, dtype=np.int64))
    return units, start, stop, tick_hz


def together(units):
    tick = np.concatenate(units).astype(np.uint32)
    unit = np.repeat(np.arange(len(units)), [len(u) for u in units]).astype(np.uint16)
    order = np.argsort(tick, kind="stable")
    return tick[order], unit[order]


NOTHING = np.empty(0, np.int64)


@given(trains())
@example(([NOTHING, np.array([100]), np.array([100, 130])], 0, 30000, 30000.0))
@example(([np.array([0, 600, 29999]), np.array([5, 5, 5]), np.array([29999, 30000])], 0, 30000, 30000.0))
@example(([np.arange(0, 30000, 300), np.arange(0, 30000, 150), NOTHING], 0, 30000, 30000.0))
@example(([np.array([0, 3, 33, 333, 30333]), np.array([0, 300000]), np.array([0, 2])], 0, 330000, 30000.0))
def test_features_equal_numpy(case):
    units, start, stop, tick_hz = case
    tick, unit = together(units)
    features = features_of(tick, unit, n_units=3, start_tick=start, stop_tick=stop, tick_hz=tick_hz)
    assert features.shape == (3, len(FEATURE_NAMES))
    for train, got in zip(units, features, strict=True):
        inside = train[(train >= start) & (train < stop)]
        np.testing.assert_allclose(got, numpy_features(inside, start, stop, tick_hz), rtol=1e-9, atol=1e-12)


def test_a_silent_unit_has_a_rate_of_zero_and_nothing_else():
    features = features_of(
        np.empty(0, np.uint32), np.empty(0, np.uint16), n_units=2, start_tick=0, stop_tick=30000, tick_hz=30000.0
    )
    assert (features[:, 0] == 0).all()
    assert np.isnan(features[:, 1:]).all()


@pytest.mark.parametrize(
    ("n_spikes", "defined"), [(1, {"rate", "autocorr", "fano"}), (2, {"rate", "autocorr", "fano", "isi_hist"})]
)
def test_few_spikes_leave_undefined_what_they_cannot_tell(n_spikes, defined):
    tick = np.array([100, 700], np.uint32)[:n_spikes]
    features = features_of(
        tick, np.zeros(n_spikes, np.uint16), n_units=1, start_tick=0, stop_tick=30000, tick_hz=30000.0
    )
    there = {name for name, value in zip(FEATURE_NAMES, features[0], strict=True) if not np.isnan(value)}
    assert there == {name for name in FEATURE_NAMES if name.startswith(tuple(defined))}


def test_a_poisson_unit_looks_like_one():
    rng = np.random.default_rng(3)
    tick = np.sort(rng.integers(0, 30000 * 1000, 20_000)).astype(np.uint32)
    (f,) = features_of(
        tick, np.zeros(tick.size, np.uint16), n_units=1, start_tick=0, stop_tick=30000 * 1000, tick_hz=30000.0
    )
    assert f[0] == 20.0
    assert f[1] == pytest.approx(1.0, abs=0.03)
    assert f[2:22].sum() == pytest.approx(1.0, abs=0.01)  # few intervals are under 0.1 ms
    assert np.abs(f[22:32]).max() < 5 / np.sqrt(100_000)
    assert f[32] == pytest.approx(1.0, abs=5 * np.sqrt(2 / 50_000))


def test_the_last_tick_of_the_clock_can_be_the_windows_end():
    tick = np.array([2**32 - 3, 2**32 - 2], np.uint32)
    features = features_of(
        tick,
        np.zeros(2, np.uint16),
        n_units=1,
        start_tick=2**32 - 30000,
        stop_tick=2**32,
        tick_hz=30000.0,
    )
    assert features[0, 0] == 2.0


@pytest.mark.parametrize("stop_tick", [5, 4])
def test_an_empty_window_is_refused(stop_tick):
    with pytest.raises(UserError, match="empty"):
        features_of(
            np.zeros(1, np.uint32), np.zeros(1, np.uint16), n_units=1, start_tick=5, stop_tick=stop_tick, tick_hz=3e4
        )
