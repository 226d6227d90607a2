"""Each kernel beside its best form in NumPy, and elephant and pynapple where they have it, from trains grouped by unit.

``NH_BENCH_SPIKES=31170000 asv run --python=same --quick --show-stderr --bench bench_kernels`` is an hour and a half.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from nhdata.features.autocorrelation import autocorrelation
from nhdata.features.bursts import burst_index
from nhdata.features.correlogram import autocorrelogram, crosscorrelogram
from nhdata.features.coupling import population_coupling
from nhdata.features.fano import fano_factor
from nhdata.features.firing import presence_ratio
from nhdata.features.isi import LOG_EDGES_S, cv2, isi_sums, local_variation
from nhdata.features.psth import psth
from nhdata.features.quality import refractory_violations
from nhdata.features.reference import N_LAGS
from nhdata.features.sliding_rp import max_confidence

from .data import N_UNITS, SAMPLE_RATE_HZ
from .spikes import BIN, Array, Grouped


class Isi(Grouped):
    """Sum, sum of squares and log histogram of all intervals."""

    edges = np.ceil(LOG_EDGES_S * SAMPLE_RATE_HZ - 1e-6).astype(np.int64)

    def time_ours(self) -> Array:
        sums, histogram = isi_sums(self.grouped, LOG_EDGES_S)
        return np.column_stack([sums[:, 1:].astype(float), histogram[:, 1:-1]])

    def time_numpy(self) -> Array:
        out = np.empty((N_UNITS, 22))
        for u, ticks in enumerate(self.ticks):
            isi = np.diff(ticks).astype(np.int64)
            out[u, 0], out[u, 1] = isi.sum(), isi @ isi
            out[u, 2:] = np.bincount(np.searchsorted(self.edges, isi, side="right"), minlength=22)[1:21]
        return out


class Cv2(Grouped):
    """CV2 of Holt et al."""

    def time_ours(self) -> Array:
        return cv2(self.grouped)

    def time_numpy(self) -> Array:
        isi = [np.diff(t) for t in self.seconds]
        return np.array([2 * np.mean(np.abs(np.diff(i)) / (i[1:] + i[:-1])) for i in isi])

    def time_elephant(self) -> Array:
        import elephant.statistics

        return np.array([elephant.statistics.cv2(np.diff(t)) for t in self.seconds])


class LocalVariation(Grouped):
    """LV of Shinomoto et al."""

    def time_ours(self) -> Array:
        return local_variation(self.grouped)

    def time_numpy(self) -> Array:
        isi = [np.diff(t) for t in self.seconds]
        return np.array([3 * np.mean((np.diff(i) / (i[1:] + i[:-1])) ** 2) for i in isi])

    def time_elephant(self) -> Array:
        import elephant.statistics

        return np.array([elephant.statistics.lv(np.diff(t)) for t in self.seconds])


class Fano(Grouped):
    """Fano factor of 20 ms counts; elephant's own needs a list of trials, one array each."""

    def time_ours(self) -> Array:
        return fano_factor(self.grouped, [0.02])[:, 0]

    def time_numpy(self) -> Array:
        n_bins = self.stop_tick // BIN
        counts = (np.bincount(t // BIN, minlength=n_bins) for t in self.ticks)
        return np.array([c.var(ddof=1) / c.mean() for c in counts])


class Autocorrelation(Grouped):
    """Ten lags of 10 ms counts."""

    def time_ours(self) -> Array:
        return autocorrelation(self.grouped)

    def time_numpy(self) -> Array:
        n_bins = self.stop_tick // 300
        out = np.empty((N_UNITS, N_LAGS))
        for u, t in enumerate(self.ticks):
            d = np.bincount(t // 300, minlength=n_bins) - t.size / n_bins
            out[u] = [d[lag:] @ d[:-lag] for lag in range(1, N_LAGS + 1)] / (d @ d)
        return out


class Autocorrelogram(Grouped):
    """Pairs up to 10 ms apart in bins of 1 ms; pynapple gives rates in bins centred on the lags."""

    def time_ours(self) -> NDArray[np.int64]:
        return autocorrelogram(self.grouped, 0.001, 0.01)

    def time_numpy(self) -> NDArray[np.int64]:
        return np.stack([_lags(t, 300, 30) for t in self.ticks])

    def time_pynapple(self) -> None:
        import pynapple as nap

        epoch = nap.IntervalSet(0, self.stop_s)
        group = nap.TsGroup({k: nap.Ts(t) for k, t in enumerate(self.seconds)}, time_support=epoch)
        nap.compute_autocorrelogram(group, 0.001, 0.01, norm=False)


class Crosscorrelogram(Grouped):
    """One hundred pairs of units, lags up to 10 ms either way in bins of 1 ms."""

    pairs = tuple((a, b) for a in range(10) for b in range(10, 20))

    def time_ours(self) -> NDArray[np.int64]:
        return crosscorrelogram(self.grouped, self.pairs, 0.001, 0.01)

    def time_numpy(self) -> NDArray[np.int64]:
        return np.stack([_cross(self.ticks[a].astype(np.int64), self.ticks[b].astype(np.int64)) for a, b in self.pairs])


class Presence(Grouped):
    """Presence ratio in bins of 1 s."""

    def time_ours(self) -> Array:
        return presence_ratio(self.grouped, 1.0)

    def time_numpy(self) -> Array:
        n_bins = self.stop_tick // 30_000
        return (
            np.array([np.count_nonzero(np.bincount(t // 30_000, minlength=n_bins)[:n_bins]) for t in self.ticks])
            / n_bins
        )


class RefractoryViolations(Grouped):
    """Intervals under 1.5 ms."""

    def time_ours(self) -> NDArray[np.int64]:
        return refractory_violations(self.grouped)

    def time_numpy(self) -> NDArray[np.int64]:
        return np.array([np.count_nonzero(np.diff(t) < 45) for t in self.ticks])


class MaxConfidence(Grouped):
    """IBL's sliding refractory period: pairs up to 10 ms apart in bins of a tick, and those 1 to 2 s apart."""

    def time_ours(self) -> Array:
        return max_confidence(self.grouped)

    def time_numpy(self) -> Array:
        refractory_s = np.arange(1, 301) / 30_000
        out = np.empty(N_UNITS)
        for u, t in enumerate(self.ticks):
            violations = np.cumsum(_lags(t, 300, 1))
            far, near = (np.searchsorted(t, t.astype(np.int64) + lag).sum() for lag in (60_000, 30_000))
            expected = 2 * 0.1 * (far - near) * refractory_s
            out[u] = 100 * (1 - poisson.cdf(violations, expected)[15:]).max()
        return out


class Bursts(Grouped):
    """Fraction of spikes with another within 6 ms."""

    def time_ours(self) -> Array:
        return burst_index(self.grouped)

    def time_numpy(self) -> Array:
        out = np.empty(N_UNITS)
        for u, t in enumerate(self.ticks):
            quick = np.diff(t) < 180
            out[u] = (np.append(quick, False) | np.append(False, quick)).mean()
        return out


class Psth(Grouped):
    """Up to 500 events, 1 s around each in bins of 10 ms."""

    def setup(self) -> None:
        super().setup()
        self.events = np.linspace(30_000, self.stop_tick - 30_000, 500).astype(np.int64)

    def time_ours(self) -> Array:
        return psth(self.grouped, self.events, pre_s=0.5, post_s=0.5, bin_s=0.01)

    def time_numpy(self) -> Array:
        edges = (self.events[:, None] + np.arange(-50, 51) * 300).ravel()
        out = np.empty((N_UNITS, 100))
        for u, t in enumerate(self.ticks):
            at = np.searchsorted(t, edges.astype(np.uint32)).reshape(self.events.size, 101)
            out[u] = np.diff(at, axis=1).mean(axis=0) / 0.01
        return out


class PopulationCoupling(Grouped):
    """Correlation of 10 ms counts with those of all others."""

    def time_ours(self) -> Array:
        return population_coupling(self.grouped)

    def time_numpy(self) -> Array:
        n_bins = self.stop_tick // 300
        population = sum(np.bincount(t // 300, minlength=n_bins) for t in self.ticks)
        out = np.empty(N_UNITS)
        for u, t in enumerate(self.ticks):
            counts = np.bincount(t // 300, minlength=n_bins)
            out[u] = np.corrcoef(counts, population - counts)[0, 1]
        return out


def _lags(ticks: NDArray[np.uint32], reach: int, width: int) -> NDArray[np.int64]:
    """Pairs by lag, one shift of the train after another until no pair is near: the fastest form in NumPy."""
    out = np.zeros(reach // width, np.int64)
    for shift in range(1, ticks.size):
        lag = ticks[shift:] - ticks[:-shift]
        lag = lag[lag < reach]
        if lag.size == 0:
            break
        out += np.bincount(lag // width, minlength=out.size)
    return out


def _cross(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs by lag: between the edges of every bin around each spike of `a`, how many of `b` there are."""
    at = np.searchsorted(b, (a[:, None] + np.arange(-10, 11) * 30).ravel()).reshape(a.size, 21)
    return np.diff(at, axis=1).sum(axis=0)
