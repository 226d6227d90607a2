"""Quality metrics of real Neuropixels units beside the formulas of SpikeInterface and IBL.

Neither ibllib nor SpikeInterface can be installed beside this package's own requirements, so their published formulas
are written here anew, in float seconds as they have them:

* SpikeInterface 0.103, ``metrics/quality/misc_metrics.py``: ``presence_ratio``, ``isi_violations``,
  ``_compute_rp_contamination_one_unit``.
* ``slidingRP`` 1.1 (used by IBL), ``metrics.py``: ``computeMatrix``, ``computeViol``, ``confidence_contamin``, with
  ``correlograms`` of phylib, which counts lags in whole samples.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import poisson

from nhdata.features.bursts import burst_index
from nhdata.features.firing import presence_ratio
from nhdata.features.quality import contamination_hill, contamination_llobet, refractory_violations
from nhdata.features.sliding_rp import max_confidence
from nhdata.features.trains import Trains, spike_trains

pytestmark = pytest.mark.realdata

RATE_HZ = 30000.0
DURATION_S = 120.0


class Recording(NamedTuple):
    sample: list[np.ndarray]
    trains: Trains


@pytest.fixture(scope="module")
def ibl(realdata: Path) -> Recording:
    folder = next((realdata / "ibl_alf").rglob("spikes.samples.npy")).parent
    sample, cluster = (np.load(folder / f"spikes.{name}.npy").ravel() for name in ("samples", "clusters"))
    keep = sample < DURATION_S * RATE_HZ
    units, unit = np.unique(cluster[keep], return_inverse=True)
    order = np.argsort(sample[keep], kind="stable")
    sample, unit = sample[keep][order].astype(np.int64), unit[order]
    trains = spike_trains(
        sample.astype(np.uint32),
        unit.astype(np.uint16),
        n_units=units.size,
        tick_hz=RATE_HZ,
        pieces=[(0, int(DURATION_S * RATE_HZ))],
    )
    assert trains.n_units > 390
    return Recording([sample[unit == u] for u in range(units.size)], trains)


@pytest.mark.parametrize("bin_s", [10.0, 60.0])
def test_presence_ratios_equal_spikeinterface(ibl, bin_s):
    n_bins = int(DURATION_S // bin_s)
    edges = np.linspace(0, n_bins * bin_s * RATE_HZ, n_bins + 1)
    expected = [(np.histogram(sample, edges)[0] > 0).sum() / n_bins for sample in ibl.sample]
    np.testing.assert_allclose(presence_ratio(ibl.trains, bin_s), expected)
    assert 0 < np.mean(np.array(expected) < 1) < 1


def test_interval_violations_equal_spikeinterface(ibl):
    threshold_s, min_isi_s = 0.0015, 0.0
    counts, ratios = [], []
    for sample in ibl.sample:
        isi_s = np.diff(sample) / RATE_HZ
        n_violations = np.sum(isi_s < threshold_s)
        violation_time = 2 * sample.size * (threshold_s - min_isi_s)
        counts.append(n_violations)
        ratios.append((n_violations / violation_time) / (sample.size / DURATION_S))
    np.testing.assert_array_equal(refractory_violations(ibl.trains), counts)
    np.testing.assert_allclose(contamination_hill(ibl.trains), ratios, rtol=1e-12)
    assert sum(counts) > 1000


@pytest.mark.parametrize(("refractory_s", "censored_s"), [(0.001, 0.0), (0.002, 0.0003)])
def test_contamination_equals_spikeinterface(ibl, refractory_s, censored_s):
    reach, dead, total = (round(t * RATE_HZ) for t in (refractory_s, censored_s, DURATION_S))
    expected = []
    for sample in ibl.sample:
        n, n_v = sample.size, 0
        shift = 1
        while shift < n and np.any(close := sample[shift:] - sample[:-shift] <= reach):
            n_v += close.sum()
            shift += 1
        d = 1 - n_v * (total - 2 * n * dead) / (n**2 * (reach - dead))
        expected.append(1 - np.sqrt(d) if d >= 0 else 1.0)
    ours = contamination_llobet(ibl.trains, refractory_s, censored_s)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    assert np.std(expected) > 0.1


def phy_correlogram(sample: np.ndarray, bin_samples: int, n_bins: int) -> np.ndarray:
    """phylib's one-sided correlogram: pairs by their lag in whole samples // bin."""
    out = np.zeros(n_bins, np.int64)
    for shift in range(1, sample.size):
        lag = (sample[shift:] - sample[:-shift]) // bin_samples
        lag = lag[lag < n_bins]
        if lag.size == 0:
            break
        out += np.bincount(lag, minlength=n_bins)
    return out


def test_maximal_confidence_equals_sliding_rp(ibl):
    cont = np.arange(0.5, 35, 0.5)
    bin_s = 1 / 30000
    edges = np.arange(0, 10 / 1000, bin_s)
    rp = edges + np.mean(np.diff(edges)[0]) / 2
    rows = np.argsort([s.size for s in ibl.sample])[::6]
    expected = []
    for u in rows:
        sample = ibl.sample[u]
        rate_hz = phy_correlogram(sample, 30000, 2)[1] / sample.size
        violations = np.cumsum(phy_correlogram(sample, 1, rp.size))[np.newaxis, :]
        expected_violations = (rate_hz * cont[:, None] / 100) * (rp[None, :] + bin_s / 2) * 2 * sample.size
        matrix = 100 * (1 - poisson.cdf(violations, expected_violations))
        expected.append(matrix[np.where(cont >= 10)[0][0], rp > 0.0005].max())
    np.testing.assert_allclose(max_confidence(ibl.trains)[rows], expected, rtol=1e-9, atol=1e-9)
    assert np.min(expected) < 50 < 90 < np.max(expected)


def test_burst_indices_equal_numpy(ibl):
    expected = []
    for sample in ibl.sample:
        quick = np.diff(sample) / RATE_HZ < 0.006
        expected.append((np.append(quick, False) | np.append(False, quick)).mean())
    np.testing.assert_allclose(burst_index(ibl.trains), expected)
