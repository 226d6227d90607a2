"""Pieces of time, rows of units, threads, and words that are wrong."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhcatalog.errors import UserError
from nhdata.features import threads
from nhdata.features.autocorrelation import autocorrelation
from nhdata.features.bins import binned_counts
from nhdata.features.bursts import burst_index
from nhdata.features.correlogram import autocorrelogram, crosscorrelogram
from nhdata.features.coupling import population_coupling
from nhdata.features.fano import fano_factor
from nhdata.features.firing import presence_ratio
from nhdata.features.group import by_unit
from nhdata.features.isi import isi_log_histogram
from nhdata.features.psth import event_counts, psth
from nhdata.features.quality import contamination_hill, contamination_llobet, refractory_violations
from nhdata.features.reference import reference_features
from nhdata.features.sliding_rp import max_confidence
from nhdata.features.trains import spike_trains, united

NOTHING = np.empty(0, np.uint32), np.empty(0, np.uint16)


def made(n_units=3, pieces=((0, 30000),)):
    rng = np.random.default_rng(0)
    tick = np.sort(rng.integers(0, 30000, 300)).astype(np.uint32)
    unit = rng.integers(0, n_units, 300).astype(np.uint16)
    return spike_trains(tick, unit, n_units=n_units, tick_hz=30000.0, pieces=list(pieces))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=8))
def test_united_pieces_cover_the_same_time_and_do_not_touch(spans):
    pieces = [(a, a + n) for a, n in spans]
    ours = united(pieces).tolist()
    covered = {t for a, b in pieces for t in range(a, b)}
    assert {t for a, b in ours for t in range(a, b)} == covered
    assert all(first[1] < second[0] for first, second in pairwise(ours))


@pytest.mark.parametrize(("pieces", "message"), [([], "no window"), ([(5, 5)], "empty"), ([(0, 9), (7, 3)], "empty")])
def test_a_window_without_time_is_refused(pieces, message):
    with pytest.raises(UserError, match=message):
        spike_trains(*NOTHING, n_units=1, tick_hz=1e6, pieces=pieces)


def test_a_window_may_start_before_the_clock_and_end_after_it():
    tick = np.array([0, 5, 2**32 - 2], np.uint32)
    trains = spike_trains(tick, np.zeros(3, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(-10, 2**32 + 5)])
    assert trains.n_spikes.tolist() == [3]
    assert fano_factor(trains, [0.01]).shape == (1, 1)
    assert autocorrelogram(trains, 0.005, 0.01).tolist() == [[0, 1]]
    early = spike_trains(tick, np.zeros(3, np.uint16), n_units=1, tick_hz=1000.0, pieces=[(-10, 0), (3, 9)])
    assert early.n_spikes.tolist() == [1]
    assert presence_ratio(early, 0.005).tolist() == [1 / 3]


def test_units_are_chosen_by_row():
    trains = made()
    np.testing.assert_array_equal(reference_features(trains.units([2, 0])), reference_features(trains)[[2, 0]])
    for row in (3, -1):
        with pytest.raises(UserError, match=f"no unit {row}"):
            trains.units([row])


KERNELS = {
    "reference": (reference_features, (33,)),
    "autocorrelation": (lambda t: autocorrelation(t, 0.01, 4), (4,)),
    "autocorrelogram": (lambda t: autocorrelogram(t, 0.001, 0.005), (5,)),
    "fano": (lambda t: fano_factor(t, [0.01, 0.02]), (2,)),
    "isi": (lambda t: isi_log_histogram(t, [0.001, 0.01]), (1,)),
    "presence": (lambda t: presence_ratio(t, 0.1), ()),
    "violations": (refractory_violations, ()),
    "hill": (contamination_hill, ()),
    "llobet": (contamination_llobet, ()),
    "sliding": (max_confidence, ()),
    "bursts": (burst_index, ()),
    "coupling": (population_coupling, ()),
    "psth": (lambda t: psth(t, [500], pre_s=0.01, post_s=0.01, bin_s=0.01), (2,)),
    "events": (lambda t: event_counts(t, [], pre_s=0.0, post_s=0.01, bin_s=0.01), (0, 1)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_nothing_gives_empty_results_of_the_right_shape(name):
    kernel, shape = KERNELS[name]
    assert kernel(made().units([])).shape == (0, *shape)
    silent = spike_trains(*NOTHING, n_units=4, tick_hz=30000.0, pieces=[(0, 30000)])
    assert kernel(silent).shape == (4, *shape)


@pytest.mark.parametrize("name", KERNELS)
def test_threads_change_nothing(name, monkeypatch):
    rng = np.random.default_rng(1)
    tick = np.sort(rng.integers(0, 30000, 3000)).astype(np.uint32)
    unit = rng.integers(0, 7, tick.size).astype(np.uint16)
    results = []
    for few, n in ((10**9, 1), (0, 3)):
        for module in ("threads", "group", "correlogram", "bins"):
            monkeypatch.setattr(f"nhdata.features.{module}.FEW_SPIKES", few)
        for module in ("threads", "group", "correlogram", "bins"):
            monkeypatch.setattr(f"nhdata.features.{module}.n_threads", lambda n=n: n)
        trains = spike_trains(tick, unit, n_units=7, tick_hz=30000.0, pieces=[(10, 14000), (15000, 29000)])
        results.append(KERNELS[name][0](trains))
    np.testing.assert_array_equal(*results)


def test_threads_change_no_counts_groups_or_pairs(monkeypatch):
    rng = np.random.default_rng(2)
    tick = np.sort(rng.integers(0, 30000, 2000)).astype(np.uint32)
    unit = rng.integers(0, 5, tick.size).astype(np.uint16)
    shape = {"n_units": 5, "first_bin": 3, "n_bins": 40, "bin_s": 1 / 60, "tick_hz": 30000.0}
    pairs = [(a, b) for a in range(5) for b in range(5) if a != b]
    results = []
    for few, n in ((10**9, 1), (0, 4)):
        for module in ("threads", "group", "correlogram", "bins"):
            monkeypatch.setattr(f"nhdata.features.{module}.FEW_SPIKES", few)
            monkeypatch.setattr(f"nhdata.features.{module}.n_threads", lambda n=n: n)
        trains = spike_trains(tick, unit, n_units=5, tick_hz=30000.0, pieces=[(0, 30000)])
        results.append([*by_unit(tick, unit, 5), binned_counts(tick, unit, **shape), crosscorrelogram(trains, pairs)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_error_in_one_part_is_raised(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        threads.run_parts(divmod, [(1, 1), (1, 0), (2, 1)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: presence_ratio(t, 0.0), "bin_s=0.0 is not a width"),
        (lambda t: fano_factor(t, [float("nan")]), "bin_s=nan is not a width"),
        (lambda t: autocorrelation(t, -0.01), "bin_s=-0.01 is not a width"),
        (lambda t: autocorrelation(t, 0.01, 0), "n_lags=0"),
        (lambda t: autocorrelogram(t, float("nan"), 1.0), "window_s=1.0, bin_s=nan"),
        (lambda t: autocorrelogram(t, 0.001, 0.0015), "window_s=0.0015 is 1.5 bins"),
        (lambda t: autocorrelogram(t, 0.001, float("inf")), "window_s=inf, bin_s=0.001: both must be positive"),
        (lambda t: crosscorrelogram(t, [(0, 0)]), r"pair \(0, 0\) is one unit twice"),
        (lambda t: crosscorrelogram(t, [(0, 3)]), r"pair \(0, 3\) names no unit"),
        (lambda t: refractory_violations(t, float("nan")), "refractory_s=nan is not a time"),
        (lambda t: contamination_hill(t, 0.001, 0.001), "censored_s=0.001"),
        (lambda t: contamination_llobet(t, -0.001), "refractory_s=-0.001"),
        (lambda t: max_confidence(t, 1.0), r"contamination=1.0 is not a fraction"),
        (lambda t: burst_index(t, -1.0), "interval_s=-1.0 is not a time"),
        (lambda t: isi_log_histogram(t, [0.1, 0.1]), r"edges_s=\[0.1, 0.1\] do not increase"),
        (lambda t: isi_log_histogram(t, [0.0, float("nan")]), "do not increase"),
        (lambda t: psth(t, [0], pre_s=0.0, post_s=0.0, bin_s=0.01), "leave no bin"),
        (lambda t: psth(t, [0], pre_s=-0.1, post_s=0.1, bin_s=0.01), "pre_s=-0.1, bin_s=0.01: both must be positive"),
        (lambda t: population_coupling(t, 1e-9), "shorter than one tick"),
    ],
)
def test_a_wrong_value_is_named(call, message):
    with pytest.raises(UserError, match=message):
        call(made())
