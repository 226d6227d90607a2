"""Our features of real units beside those of pynapple and elephant, on CRCNS hc-3 (NWB, rat hippocampus).

Where they differ and why: the peers hold seconds as floats and compare floats with edges, so that a spike or
an interval exactly on an edge may fall on either side; here it always opens the bin that starts there. Units
were sampled at 20 kHz, so many are. elephant's Fano factor divides by n (ours by n - 1). Neither has the
autocorrelation of binned counts (pynapple's correlogram is of pairs of spikes): NumPy is its reference. pynapple's
correlograms are rates in bins centred on the lags: two of our bins, of half the width, are one of theirs.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from nhdata.features.bins import binned_counts
from nhdata.features.correlogram import autocorrelogram, crosscorrelogram
from nhdata.features.coupling import population_coupling
from nhdata.features.isi import LOG_EDGES_S, cv2, local_variation
from nhdata.features.psth import event_counts
from nhdata.features.reference import FEATURE_NAMES, reference_features
from nhdata.features.trains import Trains, spike_trains

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import elephant.statistics
    import pynapple

pytestmark = [pytest.mark.realdata, pytest.mark.filterwarnings("ignore")]

TICK_HZ = 1e6
STOP_TICK = 600_000_000
HALF_SAMPLE = 25  # ticks: half of 1 / 20 kHz, which takes every spike off the edges of bins


class Spikes(NamedTuple):
    tick: np.ndarray
    unit: np.ndarray
    time_s: list[np.ndarray]


@pytest.fixture(scope="module")
def hc3(realdata: Path) -> Spikes:
    """Ten minutes of all units, spikes half a sample late."""
    with h5py.File(realdata / "nwb" / "hc3" / "ec013_626.nwb") as file:
        time_s, stop = file["units/spike_times"][:], file["units/spike_times_index"][:]
    tick = np.rint(time_s * TICK_HZ).astype(np.uint32) + np.uint32(HALF_SAMPLE)
    trains = [train[train < STOP_TICK] for train in np.split(tick, stop[:-1])]
    tick = np.concatenate(trains)
    unit = np.repeat(np.arange(len(trains)), [len(t) for t in trains]).astype(np.uint16)
    order = np.argsort(tick, kind="stable")
    return Spikes(tick[order], unit[order], [t / TICK_HZ for t in trains])


@pytest.fixture(scope="module")
def trains(hc3: Spikes) -> Trains:
    return spike_trains(hc3.tick, hc3.unit, n_units=len(hc3.time_s), tick_hz=TICK_HZ, pieces=[(0, STOP_TICK)])


@pytest.fixture(scope="module")
def features(trains: Trains) -> dict[str, np.ndarray]:
    return dict(zip(FEATURE_NAMES, reference_features(trains).T, strict=True))


@pytest.fixture(scope="module")
def group(hc3: Spikes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        support = pynapple.IntervalSet(0, STOP_TICK / TICK_HZ)
        return pynapple.TsGroup({u: pynapple.Ts(t) for u, t in enumerate(hc3.time_s)}, time_support=support)


def counts_of(hc3: Spikes, bin_s: float) -> np.ndarray:
    n_bins = round(STOP_TICK / TICK_HZ / bin_s)
    return binned_counts(
        hc3.tick, hc3.unit, n_units=len(hc3.time_s), first_bin=0, n_bins=n_bins, bin_s=bin_s, tick_hz=TICK_HZ
    )


@pytest.mark.parametrize("bin_s", [0.01, 0.02])
def test_counts_equal_pynapple(hc3, group, bin_s):
    counts = counts_of(hc3, bin_s)
    assert counts.sum() == hc3.tick.size > 90_000
    np.testing.assert_array_equal(counts, group.count(bin_s).values)


def test_rates_equal_pynapple(features, group):
    np.testing.assert_allclose(features["rate_hz"], group["rate"].to_numpy(), rtol=1e-12)


def test_interval_histograms_equal_pynapple_but_for_intervals_on_an_edge(hc3, features, group):
    several = [u for u, train in enumerate(hc3.time_s) if train.size >= 2]  # pynapple fails on a silent unit
    peer = pynapple.compute_isi_distribution(group[several], bins=LOG_EDGES_S)
    moved_in_all = 0.0
    for u in several:
        interval = np.diff(hc3.time_s[u])
        ours = np.array([features[f"isi_hist_{k:02d}"][u] for k in range(20)])
        theirs = peer[u].to_numpy() / interval.size
        on_edge = np.isclose(interval[:, None], LOG_EDGES_S, rtol=0, atol=1e-9).any(axis=1).mean()
        moved = np.abs(np.cumsum(ours) - np.cumsum(theirs)).max()
        assert moved <= on_edge + 1e-12
        moved_in_all += moved
    assert moved_in_all < 0.01 * len(several) > 0.5  # the difference is small, so the comparison says something


def test_coefficients_of_variation_equal_elephant(hc3, features):
    peer = [elephant.statistics.cv(elephant.statistics.isi(t)) if t.size >= 3 else np.nan for t in hc3.time_s]
    np.testing.assert_allclose(features["isi_cv"], peer, rtol=1e-9)
    assert np.isfinite(features["isi_cv"]).sum() > 50


def test_fano_factors_equal_elephant_times_n_over_n_minus_1(hc3, features):
    edges_s = np.arange(1, 30_000) * 0.02
    for u in np.argsort(features["rate_hz"])[-5:]:
        train = hc3.time_s[u]
        peer = elephant.statistics.fanofactor(np.split(train, np.searchsorted(train, edges_s)))
        assert features["fano_20ms"][u] == pytest.approx(peer * 30_000 / 29_999, rel=1e-9)


def test_autocorrelations_equal_numpy(hc3, features):
    counts = counts_of(hc3, 0.01).astype(float)
    deviation = counts - counts.mean(axis=0)
    with np.errstate(invalid="ignore"):
        for lag in range(1, 11):
            expected = (deviation[:-lag] * deviation[lag:]).sum(axis=0) / (deviation**2).sum(axis=0)
            np.testing.assert_allclose(features[f"autocorr_{10 * lag:03d}ms"], expected, rtol=1e-9)


def test_local_variation_equals_elephant(hc3, trains):
    for ours, peer in ((cv2(trains), elephant.statistics.cv2), (local_variation(trains), elephant.statistics.lv)):
        expected = [peer(np.diff(train)) if train.size >= 3 else np.nan for train in hc3.time_s]
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


# 1.05 ms: half of it, 10.5 samples of 20 kHz, so that no lag is on an edge, where floats fall either way
LAG_BIN_S, LAG_WINDOW_S = 0.00105, 0.0525


def centred(half: np.ndarray) -> np.ndarray:
    """Counts in bins of half the width, from -n to n, as counts in bins centred on whole lags."""
    return half[1:-1].reshape(-1, 2).sum(axis=1)


def test_autocorrelograms_equal_pynapple(hc3, trains, group):
    peer = pynapple.compute_autocorrelogram(group, LAG_BIN_S, LAG_WINDOW_S - LAG_BIN_S / 2, norm=False)
    right = autocorrelogram(trains, LAG_BIN_S / 2, LAG_WINDOW_S)
    compared = 0
    for u in np.flatnonzero(trains.n_spikes > 100):
        expected = peer[u].to_numpy() * hc3.time_s[u].size * LAG_BIN_S
        ours = centred(np.concatenate([right[u][::-1], right[u]]))
        middle = ours.size // 2
        ours[middle] = expected[middle] = 0  # pynapple blanks lag 0
        compared += 1
        np.testing.assert_array_equal(ours, np.rint(expected))
    assert compared > 30


def test_crosscorrelograms_equal_pynapple(hc3, trains, group):
    a, b = (int(u) for u in np.argsort(trains.n_spikes)[-2:])
    peer = pynapple.compute_crosscorrelogram(
        (group[[a]], group[[b]]), LAG_BIN_S, LAG_WINDOW_S - LAG_BIN_S / 2, norm=False
    )
    expected = peer.iloc[:, 0].to_numpy() * hc3.time_s[a].size * LAG_BIN_S
    (ours,) = crosscorrelogram(trains, [(a, b)], LAG_BIN_S / 2, LAG_WINDOW_S)
    np.testing.assert_array_equal(centred(ours), np.rint(expected))
    assert centred(ours).sum() > 1000


def test_peri_event_counts_equal_pynapple(hc3, trains, group):
    events_s = np.arange(5.0, 590.0, 7.3)
    u = int(np.argmax(trains.n_spikes))
    ours = event_counts(trains, np.rint(events_s * TICK_HZ), pre_s=0.5, post_s=1.0, bin_s=0.05)[u]
    around = pynapple.compute_perievent(group[u], pynapple.Ts(events_s), (-0.5, 1.0))
    edges_s = np.arange(-10, 21) * 0.05
    expected = np.stack([np.histogram(around[k].t, edges_s)[0] for k in range(events_s.size)])
    np.testing.assert_array_equal(ours, expected)
    assert ours.sum() > 500


def test_population_coupling_equals_numpy_on_the_counts_of_pynapple(trains, group):
    counts = group.count(0.02).values
    expected = []
    for u in range(counts.shape[1]):
        others = np.delete(counts, u, axis=1).sum(axis=1)
        expected.append(np.corrcoef(counts[:, u], others)[0, 1] if counts[:, u].any() else np.nan)
    np.testing.assert_allclose(population_coupling(trains, 0.02), expected, rtol=1e-9)
