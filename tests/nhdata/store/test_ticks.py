"""Spike times to integer ticks: the choice of clock, and that nothing moves by more than half a tick."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nhcatalog.errors import UserError
from nhdata.recording import Series, Spikes
from nhdata.store import ticks as ticks_module
from nhdata.store.ticks import Clock, check_recording, session_clock, sorted_ticks


def spikes_at(*time, rate_hz=None):
    return Spikes(np.array(time), np.zeros(len(time), np.int32), rate_hz)


def test_samples_are_the_ticks():
    samples = np.array([5, 90_000, 7, 2**31 + 1], np.uint64)
    clock = session_clock(Spikes(samples, np.arange(4), 30000.0), stop_s=3.0)
    tick, unit = sorted_ticks(Spikes(samples, np.arange(4), 30000.0), clock)
    assert (clock.tick_hz, clock.t_start_s) == (30000.0, 0.0)
    assert clock.duration_s == (2**31 + 2) / 30000.0  # one tick past the last spike, which the source did not know
    assert tick.tolist() == [5, 7, 90_000, 2**31 + 1]
    assert unit.tolist() == [0, 2, 1, 3]


def test_a_clock_that_counts_from_1970_starts_at_the_second_before_the_first_spike():
    spikes = spikes_at(1_700_000_000.25, 1_700_000_001.0)
    clock = session_clock(spikes, stop_s=1_700_000_010.0)
    assert (clock.t_start_s, clock.duration_s, clock.tick_hz) == (1_700_000_000.0, 10.0, 1e6)
    assert sorted_ticks(spikes, clock)[0].tolist() == [250_000, 1_000_000]


@pytest.mark.parametrize("rate_hz", [30000.0, 24414.0625])
def test_a_late_start_keeps_samples_exact(rate_hz):
    first = int(rate_hz * 10_000) + 12_345
    samples = np.array([first, first + 2**32 - 10**6], np.int64)
    spikes = Spikes(samples, np.zeros(2, np.int64), rate_hz)
    clock = session_clock(spikes, stop_s=0.0)
    tick, _ = sorted_ticks(spikes, clock)
    assert 0 < clock.t_start_s <= samples[0] / rate_hz < clock.t_start_s + 1.001
    assert (np.rint(clock.t_start_s * rate_hz).astype(np.int64) + tick == samples).all()


def test_silence_within_the_first_minute_is_kept():
    assert session_clock(spikes_at(60.0), stop_s=100.0).t_start_s == 0.0
    assert session_clock(spikes_at(60.5), stop_s=100.0).t_start_s == 60.0


def test_a_session_without_spikes_has_a_clock():
    clock = session_clock(Spikes(np.empty(0), np.empty(0, np.int64)), stop_s=7.5)
    assert (clock.t_start_s, clock.duration_s, clock.tick_hz) == (0.0, 7.5, 1e6)


def test_a_session_too_long_for_the_clock_is_refused():
    with pytest.raises(UserError, match=r"hours of samples.*split"):
        session_clock(spikes_at(0, 2**32 - 2, rate_hz=30000.0), stop_s=0.0)
    with pytest.raises(UserError, match=r"hours.*split"):
        session_clock(spikes_at(0.0, 1.0), stop_s=150_000.0)
    assert session_clock(spikes_at(0, 2**32 - 3, rate_hz=30000.0), stop_s=0.0).tick_hz == 30000.0


@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 5000)),
    st.sampled_from([0.0, 86_400.0, 1_700_000_000.0]),
    st.integers(0, 2**31),
)
def test_times_come_back_within_half_a_tick_sorted_by_time_then_unit(time, offset_s, seed):
    time = time + offset_s
    unit = np.random.default_rng(seed).integers(0, 4, time.size)
    spikes = Spikes(time, unit)
    clock = session_clock(spikes, stop_s=0.0)
    tick, sorted_unit = sorted_ticks(spikes, clock)
    assert (tick.dtype, sorted_unit.dtype) == (np.uint32, np.uint16)
    keys = list(zip(tick.tolist(), sorted_unit.tolist(), strict=True))
    assert keys == sorted(keys)
    for u in range(4):
        back = clock.t_start_s + tick[sorted_unit == u] / clock.tick_hz
        np.testing.assert_allclose(back, np.sort(time[unit == u]), rtol=0, atol=0.5001 / clock.tick_hz + 2.4e-7)
    assert clock.duration_s * clock.tick_hz > tick.max()


def test_a_good_recording_passes(recording):
    check_recording(recording())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spikes": Spikes(np.array([-0.1]), np.array([0]))}, "negative or not a number"),
        ({"spikes": Spikes(np.array([np.nan]), np.array([0]))}, "negative or not a number"),
        ({"spikes": Spikes(np.array([np.inf]), np.array([0]))}, "negative or not a number"),
        ({"spikes": Spikes(np.array([1.0]), np.array([5]))}, "names unit 5 of 5"),
        ({"spikes": Spikes(np.array([1.0]), np.array([-1]))}, "names unit"),
        ({"spikes": Spikes(np.array([1.0]), np.array([0, 1]))}, "1 spike times, 2 spike units"),
        ({"units": {"cluster_id": np.arange(5), "probe": np.arange(4)}}, "column probe has shape"),
        ({"units": {"cluster_id": np.arange(65_535), "probe": np.arange(65_535)}}, "at most 65534"),
        ({"units": {"cluster_id": np.arange(5)}}, "units has no column probe"),
        ({"units": {"cluster_id": np.array([1, 2, 3, 2, 4]), "probe": np.full(5, "p")}}, "both number 2 of probe p"),
        ({"intervals": {"trials": {"start_s": np.arange(3.0)}}}, "trials has no column stop_s"),
        ({"intervals": {"trials": {"start_s": np.arange(3.0), "stop_s": np.ones((3, 2))}}}, "column stop_s has shape"),
        ({"series": {"wheel": Series(np.arange(3.0), np.arange(4.0), "rad")}}, "wheel has 3 times, 4 values"),
    ],
)
def test_a_recording_that_breaks_a_promise_is_refused_and_named(recording, change, message):
    with pytest.raises(UserError, match=message) as caught:
        check_recording(replace(recording(), **change))
    assert "lab session mouse-1" in str(caught.value)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=40),
    st.booleans(),
    st.integers(1, 9),
    st.sampled_from([None, 30000.0]),
)
def test_blocks_give_the_order_of_a_whole_sort(spikes, by_time, block, sample_rate_hz):
    """In order by time, by unit or not at all; many spikes share a tick, also across blocks."""
    if by_time:
        spikes.sort(key=lambda spike: spike[0])
    time = np.array([t for t, _ in spikes], float if sample_rate_hz is None else np.int64)
    clock = Clock(0.0, 13.0, 1.0 if sample_rate_hz is None else sample_rate_hz)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticks_module, "BLOCK", block)
        tick, unit = sorted_ticks(Spikes(time, np.array([u for _, u in spikes], np.int32), sample_rate_hz), clock)
    assert list(zip(tick.tolist(), unit.tolist(), strict=True)) == sorted(spikes)
    assert (tick.dtype, unit.dtype) == (np.uint32, np.uint16)
