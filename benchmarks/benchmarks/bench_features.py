"""The 33 reference features and binned counts: Numba kernels beside NumPy and pynapple, from the same spikes."""

import numpy as np
import pynapple as nap
from numpy.typing import NDArray

from nhdata.features.bins import binned_counts
from nhdata.features.isi import LOG_EDGES_S
from nhdata.features.reference import N_LAGS, reference_features
from nhdata.features.trains import spike_trains

from .data import N_UNITS, SAMPLE_RATE_HZ, compile_kernels, recording

Array = NDArray[np.float64]


class _Spikes:
    timeout = 600

    def setup(self) -> None:
        compile_kernels()
        spikes = recording().spikes
        self.tick, self.unit = spikes.time.astype(np.uint32), spikes.unit.astype(np.uint16)
        self.time_s = self.tick / SAMPLE_RATE_HZ
        self.stop_tick = int(self.tick[-1]) // 600 * 600  # whole bins of 20 ms
        self.stop_s = self.stop_tick / SAMPLE_RATE_HZ
        keep = self.tick < self.stop_tick
        self.tick, self.unit, self.time_s = self.tick[keep], self.unit[keep], self.time_s[keep]

    def trains(self) -> list[Array]:
        """Spike times of each unit."""
        order = np.argsort(self.unit, kind="stable")
        return np.split(self.time_s[order], np.cumsum(np.bincount(self.unit, minlength=N_UNITS))[:-1])


class ReferenceFeatures(_Spikes):
    """All 33 of all units over the whole session, grouping by unit included."""

    def time_ours(self) -> Array:
        pieces = [(0, self.stop_tick)]
        return reference_features(
            spike_trains(self.tick, self.unit, n_units=N_UNITS, tick_hz=SAMPLE_RATE_HZ, pieces=pieces)
        )

    def time_numpy(self) -> Array:
        trains = self.trains()
        n_bins = round(self.stop_s / 0.01)
        bins = (self.tick // 300).astype(np.int64)
        counts = np.bincount(bins * N_UNITS + self.unit, minlength=n_bins * N_UNITS).reshape(n_bins, N_UNITS)
        return _features([np.diff(train) for train in trains], counts, self.stop_s)

    def time_pynapple(self) -> Array:
        epoch = nap.IntervalSet(0, self.stop_s)
        group = nap.TsGroup({k: nap.Ts(train) for k, train in enumerate(self.trains())}, time_support=epoch)
        counts = group.count(0.01, ep=epoch).values
        return _features([np.diff(group[k].t) for k in range(N_UNITS)], counts, self.stop_s)


class Counts(_Spikes):
    """Counts of all units in bins of 20 ms over the whole session."""

    def time_ours(self) -> NDArray[np.uint16]:
        n_bins = self.stop_tick // 600
        return binned_counts(
            self.tick, self.unit, n_units=N_UNITS, first_bin=0, n_bins=n_bins, bin_s=0.02, tick_hz=SAMPLE_RATE_HZ
        )

    def time_numpy(self) -> NDArray[np.int64]:
        n_bins = self.stop_tick // 600
        flat = (self.tick // 600).astype(np.int64) * N_UNITS + self.unit
        return np.bincount(flat, minlength=n_bins * N_UNITS).reshape(n_bins, N_UNITS)

    def time_pynapple(self) -> NDArray[np.int64]:
        epoch = nap.IntervalSet(0, self.stop_s)
        group = nap.TsGroup({k: nap.Ts(train) for k, train in enumerate(self.trains())}, time_support=epoch)
        return group.count(0.02, ep=epoch).values


def _features(intervals: list[Array], counts_10ms: NDArray[np.int64], duration_s: float) -> Array:
    """The same 33 columns from the intervals of every unit and its counts in bins of 10 ms, unit by unit."""
    out = np.empty((len(intervals), 33))
    for k, isi in enumerate(intervals):
        counts = counts_10ms[:, k]
        deviation = counts - counts.mean()
        twenty = counts[: len(counts) // 2 * 2].reshape(-1, 2).sum(1)
        out[k, 0] = counts.sum() / duration_s
        out[k, 1] = isi.std() / isi.mean()
        out[k, 2:22] = np.histogram(isi, LOG_EDGES_S)[0] / isi.size
        out[k, 22:32] = [deviation[lag:] @ deviation[:-lag] for lag in range(1, N_LAGS + 1)] / (deviation @ deviation)
        out[k, 32] = twenty.var(ddof=1) / twenty.mean()
    return out
