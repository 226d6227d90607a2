"""The simulation says what is true: rates that its spikes keep, and behaviour that fits together."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nhcatalog.errors import UserError
from nhdata.sources import SessionRef, SourceOptions, open_source
from nhdata.sources.synthetic import MAX_RATE_HZ, SAMPLE_RATE_HZ, _draw_network, _spikes
from nhdata.store.ticks import check_recording

OPTIONS = SourceOptions(n_sessions=3, n_units=24, duration_s=240.0, seed=11)
BIN_S = 0.02


def load(options=OPTIONS, number=0):
    source = open_source("synthetic", options)
    return source.load(list(source.iter_sessions([]))[number])


@pytest.fixture(scope="module")
def recording():
    return load()


@pytest.fixture(scope="module")
def counts(recording):
    """(bins, units) spikes per 20 ms."""
    edges = np.arange(len(recording.series["true_rate_hz"].time_s) + 1) * BIN_S * SAMPLE_RATE_HZ - 0.5
    return np.histogram2d(recording.spikes.time, recording.spikes.unit, bins=(edges, np.arange(25)))[0]


def test_the_recording_keeps_the_promises_of_a_source(recording):
    check_recording(recording)
    assert recording.n_units == 24
    assert recording.spikes.sample_rate_hz == SAMPLE_RATE_HZ
    assert recording.spikes.time.max() < 240 * SAMPLE_RATE_HZ
    assert recording.spikes.time.size > 24 * 240  # more than a spike a second and unit


def test_the_same_seed_gives_the_same_session(recording):
    again = load()
    np.testing.assert_array_equal(again.spikes.time, recording.spikes.time)
    np.testing.assert_array_equal(again.spikes.unit, recording.spikes.unit)
    for name, series in recording.series.items():
        np.testing.assert_array_equal(again.series[name].value, series.value)
    for name, column in recording.intervals["trials"].items():
        np.testing.assert_array_equal(again.intervals["trials"][name], column)


def test_another_seed_or_session_is_another_recording(recording):
    others = [load(number=1), load(replace(OPTIONS, seed=12))]
    sizes = {other.spikes.time.size for other in [recording, *others]}
    ids = {other.session_id for other in [recording, *others]}
    assert (len(sizes), len(ids)) == (3, 3)


def test_ids_tell_what_was_simulated_and_two_sessions_share_an_animal():
    source = open_source("synthetic", OPTIONS)
    refs = list(source.iter_sessions([]))
    assert [ref.session_id for ref in refs] == [f"sim-n24-t240-s11-{k:03d}" for k in range(3)]
    assert [source.load(ref).subject for ref in refs[:2]] == ["sim00", "sim00"]
    assert source.load(refs[2]).subject == "sim01"


def test_a_unit_is_silent_for_its_refractory_period(recording):
    refractory_steps = _draw_network(np.random.default_rng([11, 0, 24]), 24).refractory_steps
    assert set(refractory_steps) <= {2, 3, 4, 5}
    for unit in range(24):
        interval = np.diff(np.sort(recording.spikes.time[recording.spikes.unit == unit]))
        # a spike lies anywhere in its step of 30 samples, so up to 29 of them may be missing
        assert interval.min() > (refractory_steps[unit] - 1) * 30
        assert interval.min() < (refractory_steps[unit] + 60) * 30  # and it is not silent for much longer


def test_the_true_rate_predicts_how_often_each_unit_fires(recording, counts):
    """The number of spikes is near the sum of rate · dt, with at most a Poisson variance."""
    expected = recording.series["true_rate_hz"].value.astype(float).sum(axis=0) * BIN_S
    z = (counts.sum(axis=0) - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 5
    assert 0.4 < np.std(z) < 1.6  # refractory units are a little more regular than Poisson


def test_the_true_rate_is_calibrated_at_low_and_high_rates(recording, counts):
    """It would not be if it knew of the refractory silence after a spike of the bin itself."""
    expected = recording.series["true_rate_hz"].value.astype(float) * BIN_S
    order = np.argsort(expected, axis=None)
    for part in np.array_split(order, 10):
        total = expected.ravel()[part].sum()
        assert abs(counts.ravel()[part].sum() - total) < 5 * np.sqrt(total)


def test_the_true_rate_beats_each_units_mean(recording, counts):
    rate = recording.series["true_rate_hz"].value.astype(float) * BIN_S
    mean = counts.mean(axis=0)
    gain = (counts * np.log(np.maximum(rate, 1e-9) / mean) - rate + mean).sum(axis=0) / counts.sum(axis=0)
    assert gain.min() > 0
    assert gain.mean() / np.log(2) > 0.1  # bits per spike
    shifted = np.roll(rate, 500, axis=0)  # the same rates, ten seconds late, must not
    worse = (counts * np.log(np.maximum(shifted, 1e-9) / mean) - shifted + mean).sum(axis=0) / counts.sum(axis=0)
    assert worse.mean() < 0


def test_rates_are_in_range_and_at_bin_centres(recording):
    series = recording.series["true_rate_hz"]
    assert (series.value.shape, series.unit) == ((12_000, 24), "Hz")
    assert series.value.min() >= 0
    assert series.value.max() <= MAX_RATE_HZ
    np.testing.assert_allclose(series.time_s, 0.01 + 0.02 * np.arange(12_000))


def test_trials_lie_within_the_session_one_after_another(recording):
    trials = recording.intervals["trials"]
    assert trials["start_s"].size > 30
    assert trials["start_s"].min() > 0
    assert trials["stop_s"].max() < 240.0
    assert (trials["start_s"] < trials["stim_on_s"]).all()
    assert (trials["stim_on_s"] < trials["stop_s"]).all()
    assert (trials["stop_s"][:-1] < trials["start_s"][1:]).all()
    np.testing.assert_array_equal(trials["correct"], trials["choice"] == np.sign(trials["contrast"]))


def test_the_wheel_stands_where_its_velocity_took_it(recording):
    position, velocity = recording.series["wheel_position"], recording.series["wheel_velocity"]
    assert (position.unit, velocity.unit) == ("rad", "rad/s")
    np.testing.assert_array_equal(position.time_s, velocity.time_s)
    np.testing.assert_allclose(np.diff(position.value), velocity.value[1:] * np.diff(position.time_s), atol=1e-9)


def test_a_short_session_without_a_trial_is_still_one():
    recording = load(SourceOptions(n_sessions=1, n_units=1, duration_s=1.0))
    check_recording(recording)
    assert recording.intervals["trials"]["start_s"].size == 0


@pytest.mark.parametrize(
    "options",
    [
        SourceOptions(n_sessions=0),
        SourceOptions(n_units=0),
        SourceOptions(duration_s=0.5),
        SourceOptions(duration_s=float("inf")),
        SourceOptions(seed=-1),
    ],
)
def test_nothing_cannot_be_simulated(options):
    with pytest.raises(UserError, match="at least one session, one unit, one second and seed 0"):
        next(open_source("synthetic", options).iter_sessions([]))


def test_a_path_is_refused_and_a_reference_is_not_looked_up():
    source = open_source("synthetic", OPTIONS)
    with pytest.raises(UserError, match="reads no path, but was given x"):
        next(source.iter_sessions([Path("x")]))
    ref = SessionRef(Path("sim-n24-t240-s11-000"), "sim-n24-t240-s11-000")
    assert source.load(ref).session_id == ref.session_id


def test_an_interrupt_while_spikes_are_drawn_is_an_interrupt():
    """Numba hands over a tuple of arrays so that an exception that is due by then crashes the process."""

    def interrupt(*_):
        raise KeyboardInterrupt

    def draw(n_steps):
        network = _draw_network(np.random.default_rng(0), 20)
        rate = np.zeros((n_steps, 20), np.float32)
        latent = np.zeros((n_steps, network.loading.shape[1]))
        _spikes(0, latent, network.log_rate_hz, network.loading, network.coupling, network.refractory_steps, rate)

    draw(9)  # compiles
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            draw(300_000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
