"""Reading a session: windows against brute force, lazy counts, features, tables."""

import pickle
from dataclasses import replace

import dask
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nhcatalog.errors import UserError
from nhdata.recording import Spikes
from nhdata.store.session import Session

INF = float("inf")


@pytest.fixture(scope="module")
def truth(session):
    """All ticks and units, read in one piece."""
    return session.ticks()


TIMES = st.floats(-3, 16) | st.integers(-20, 140).map(lambda k: k / 10) | st.sampled_from([-INF, INF, -1e12, 1e12])


@settings(deadline=None)
@given(TIMES, TIMES)
@example(0.0, 12.34)
@example(3.0, 3.0)
@example(13.0, 1e12)
@example(-INF, INF)
def test_spikes_of_a_window_equal_brute_force(session, truth, a, b):
    start_s, stop_s = min(a, b), max(a, b)
    times_s, unit = session.spikes(start_s, stop_s)
    tick, all_units = truth
    inside = (tick >= np.ceil(start_s * 1e6 - 1e-3)) & (tick < np.ceil(stop_s * 1e6 - 1e-3))
    np.testing.assert_array_equal(times_s, tick[inside] / 1e6)
    np.testing.assert_array_equal(unit, all_units[inside])
    assert (times_s.dtype, unit.dtype) == (np.float64, np.uint16)


@settings(deadline=None)
@given(st.integers(0, 899), st.integers(0, 899))
def test_a_window_from_spike_to_spike_has_the_first_and_not_the_last(session, truth, i, j):
    times_s, _ = session.spikes()
    i, j = min(i, j), max(i, j)
    got, _ = session.spikes(times_s[i], times_s[j])
    np.testing.assert_array_equal(got, times_s[(times_s >= times_s[i]) & (times_s < times_s[j])])


@settings(deadline=None)
@given(st.integers(-10, 2**33), st.none() | st.integers(-10, 2**33))
@example(0, 0)
@example(100_000, 200_000)
@example(2**32 - 1, 2**32)
def test_ticks_of_a_window_equal_brute_force(session, truth, start, stop):
    tick, unit = session.ticks(start, stop)
    inside = truth[0].astype(np.int64) >= start
    if stop is not None:
        inside &= truth[0].astype(np.int64) < stop
    np.testing.assert_array_equal(tick, truth[0][inside])
    np.testing.assert_array_equal(unit, truth[1][inside])


@pytest.mark.parametrize(("start_s", "stop_s"), [(5.0, 4.0), (float("nan"), 4.0), (4.0, float("nan"))])
def test_a_window_that_ends_before_it_starts_is_refused(session, start_s, stop_s):
    with pytest.raises(UserError, match="ends before it starts"):
        session.spikes(start_s, stop_s)


def test_windows_are_half_open_on_a_clock_that_counts_from_1970(write, recording):
    """A float64 cannot hold a microsecond there: the times that were given must still find their own spikes."""
    one = recording()
    late = write(replace(one, spikes=replace(one.spikes, time=one.spikes.time + 1.7e9), stop_s=1.7e9 + 12.34))
    times_s, _ = late.spikes()
    assert late.t_start_s == 1.7e9
    assert times_s.size == 900
    for i in range(0, 890, 10):
        first, stop = np.searchsorted(times_s, times_s[[i, i + 7]])
        np.testing.assert_array_equal(late.spikes(times_s[i], times_s[i + 7])[0], times_s[first:stop])


def test_tables_and_series_come_back(session, recording):
    one = recording()
    units = session.units()
    assert set(units) == {*one.units, "n_spikes"}
    assert units.pop("n_spikes").tolist() == np.bincount(one.spikes.unit, minlength=5).tolist()
    assert units.pop("region").tolist() == ["CA1", "", "", "Área 3ª / β", "CA1"]
    for name, values in units.items():
        np.testing.assert_array_equal(values, one.units[name])
        assert values.dtype == one.units[name].dtype
    intervals = session.intervals()
    assert intervals["trials"].pop("side").tolist() == ["left", "", "right"]
    for table, columns in intervals.items():
        for name, values in columns.items():
            np.testing.assert_array_equal(values, one.intervals[table][name])
    assert {name: series[2] for name, series in session.series().items()} == {"wheel_position": "rad", "xy": "cm"}
    for name, (time_s, value, _) in session.series().items():
        np.testing.assert_array_equal(time_s, one.series[name].time_s)
        np.testing.assert_array_equal(value, one.series[name].value)
        assert value.dtype == one.series[name].value.dtype


@pytest.mark.parametrize("bin_s", [0.02, 0.1, 1 / 30, 0.0007, 12.34])
def test_counts_equal_numpy(session, truth, bin_s):
    counts = session.counts(bin_s)
    n_bins = {1 / 30: 370}.get(bin_s, int(round(12.34 / bin_s, 6)))
    assert counts.dims == ("time", "unit")
    assert (counts.shape, counts.dtype) == ((n_bins, 5), np.uint16)
    edges = np.ceil(np.arange(n_bins + 1) * bin_s * 1e6 - 1e-3)  # a spike on an edge opens the bin
    expected, _, _ = np.histogram2d(*truth, bins=(edges - 0.5, np.arange(6)))
    np.testing.assert_array_equal(counts.values, expected)
    np.testing.assert_allclose(counts["time"], np.arange(n_bins) * bin_s)


def test_whole_bins_hold_every_spike(session):
    assert int(session.counts(0.02).sum()) == session.n_spikes == 900
    assert int(session.counts(5.0).sum()) == (session.spikes()[0] < 10.0).sum()  # the cut off bin is left out


def test_counts_read_nothing_before_they_are_computed(session, monkeypatch):
    asked = []
    real = Session.ticks
    monkeypatch.setattr(Session, "ticks", lambda self, *window: asked.append(window) or real(self, *window))
    fresh = pickle.loads(pickle.dumps(session))  # noqa: S301
    counts = fresh.counts(0.02)
    total = counts.sum()
    assert dask.is_dask_collection(counts)
    assert asked == []
    assert total.compute().item() == 900
    assert len(asked) == 1  # one chunk, a minute long


def test_counts_in_chunks_read_only_the_minutes_asked_for(write, recording, monkeypatch):
    rng = np.random.default_rng(0)
    sample = np.sort(rng.integers(0, 24414 * 200, 5000))
    session = write(recording(spikes=Spikes(sample, rng.integers(0, 5, 5000), 24414.0625), stop_s=200.0))
    counts = session.counts(0.02)
    assert counts.chunks[0] == (3000, 3000, 3000, 1000)
    whole = counts.values
    assert whole.sum() == 5000
    asked = []
    real = Session.ticks
    monkeypatch.setattr(Session, "ticks", lambda self, *window: asked.append(window) or real(self, *window))
    np.testing.assert_array_equal(counts[3100:3200].values, whole[3100:3200])
    assert asked == [(-(-3000 * 15625 // 32), -(-6000 * 15625 // 32))]


@pytest.mark.parametrize(
    ("bin_s", "message"),
    [(0.0, "not a width"), (-1.0, "not a width"), (1e-7, "one tick"), (13.0, "longer than session")],
)
def test_impossible_bins_are_refused_at_once(session, bin_s, message):
    with pytest.raises(UserError, match=message):
        session.counts(bin_s)


def test_a_count_too_large_is_an_error_when_computed(write, recording):
    session = write(recording(spikes=Spikes(np.full(65_536, 3), np.zeros(65_536, np.int64), 30000.0)))
    with pytest.raises(UserError, match="more than 65535 spikes"):
        session.counts(1.0).compute()


def test_stored_features_equal_those_of_the_same_window(session):
    stored = session.features()
    again = session.features(stored.attrs["window_start_s"], stored.attrs["window_stop_s"])
    assert stored.shape == (5, 33)
    assert stored.sel(unit=4, feature="rate_hz").item() == 0
    np.testing.assert_array_equal(stored.values, again.values)


@pytest.mark.parametrize("last", [59, 61, 118, 1_800_000, 2_400_000])
def test_features_of_a_short_session_count_its_last_spike(write, recording, last):
    """(60 / 30000) * 30000 is not 60: the window's end must not be cut to the tick before."""
    session = write(recording(spikes=Spikes(np.array([1, 2, last - 1]), np.zeros(3, np.int64), 30000.0), stop_s=0.0))
    window_s = min(last / 30000, 60.0)
    n_inside = sum(t / 30000 < window_s for t in (1, 2, last - 1))
    stored = session.features()
    assert stored.sel(unit=0, feature="rate_hz").item() == pytest.approx(n_inside / window_s)
    np.testing.assert_array_equal(stored, session.features(0.0, stored.attrs["window_stop_s"]))


def test_features_of_a_window_see_only_its_spikes(session):
    times_s, unit = session.spikes(3.0, 7.0)
    features = session.features(3.0, 7.0)
    np.testing.assert_allclose(features.sel(feature="rate_hz"), np.bincount(unit, minlength=5) / 4)
    for u in range(4):
        interval = np.diff(times_s[unit == u])
        assert features.sel(unit=u, feature="isi_cv").item() == pytest.approx(interval.std() / interval.mean())


@pytest.mark.parametrize("window", [(-1.0, 5.0), (5.0, 5.0), (6.0, 5.0), (5.0, 13.0), (5.0, float("nan"))])
def test_features_of_a_window_outside_the_session_are_refused(session, window):
    with pytest.raises(UserError, match="not within session mouse-1"):
        session.features(*window)


def test_features_of_intervals_pool_what_lies_in_each_and_nothing_across(session):
    times_s, unit = session.spikes()
    spans = [(0.5, 2.0), (4.0, 6.0)]  # the third trial has no end
    features = session.features(intervals="trials")
    assert features.attrs["intervals"] == "trials"
    for u in range(4):
        parts = [times_s[(unit == u) & (times_s >= a) & (times_s < b)] for a, b in spans]
        gaps = np.concatenate([np.diff(part) for part in parts])
        assert features.sel(unit=u, feature="rate_hz").item() == pytest.approx(sum(map(len, parts)) / 3.5)
        assert features.sel(unit=u, feature="isi_cv").item() == pytest.approx(gaps.std() / gaps.mean())
    cut = session.features(1.0, 5.0, intervals="trials")
    inside = ((times_s >= 1) & (times_s < 2)) | ((times_s >= 4) & (times_s < 5))
    np.testing.assert_allclose(cut.sel(feature="rate_hz"), np.bincount(unit[inside], minlength=5) / 2)


@pytest.mark.parametrize(
    ("name", "window", "message"),
    [
        ("trails", (None, None), "no interval table 'trails'.*it has: empty, trials"),
        ("empty", (None, None), "no span of 'empty'"),
        ("trials", (2.5, 3.5), r"no span of 'trials' lies in \[2.5, 3.5\)"),
        ("trials", (5.0, 99.0), "not within session"),
        (None, (1.0000001, 1.0000002), "holds no tick"),
        (None, (float("nan"), 2.0), "not within session"),
    ],
)
def test_intervals_and_windows_that_say_nothing_are_refused(session, name, window, message):
    with pytest.raises(UserError, match=message):
        session.features(*window, intervals=name)


def test_stored_features_are_of_the_first_good_minute(write, recording):
    invalid = {"start_s": np.array([1.0, 0.0]), "stop_s": np.array([3.0, 0.5])}
    session = write(recording(intervals={"invalid_times": invalid}))
    stored = session.features()
    assert (stored.attrs["window_start_s"], stored.attrs["window_stop_s"]) == (3.0, session.t_stop_s)
    np.testing.assert_array_equal(stored, session.features(3.0, session.t_stop_s))


def test_a_session_travels_as_its_path(session):
    session.spikes()
    other = pickle.loads(pickle.dumps(session))  # noqa: S301
    assert len(pickle.dumps(session)) < 1000
    assert repr(other) == repr(session)
    np.testing.assert_array_equal(other.spikes(1.0, 2.0)[0], session.spikes(1.0, 2.0)[0])


def test_a_folder_without_a_session_is_named(tmp_path):
    with pytest.raises(UserError, match="no session here"):
        Session(tmp_path / "gone")


def test_a_session_without_spikes_can_be_read(write, recording):
    session = write(recording(spikes=Spikes(np.empty(0), np.empty(0, np.int64))))
    assert session.n_spikes == 0
    assert session.spikes(1.0, 2.0)[0].size == 0
    assert int(session.counts(0.02).sum()) == 0
    assert (session.features().sel(feature="rate_hz") == 0).all()
