"""The 33 features and binned counts of a session: beside NumPy and pynapple in the same run, in copies of memory, and
the time to compile.

``NH_BENCH_SPIKES=31170000 asv run --python=same --quick --show-stderr --bench bench_features`` is an hour and a half.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import nhdata
from nhdata.features.bins import binned_counts
from nhdata.features.isi import LOG_EDGES_S, isi_sums
from nhdata.features.reference import N_LAGS, reference_features
from nhdata.features.warm_up import warm_up

from .data import N_SPIKES, N_UNITS, SAMPLE_RATE_HZ, add, recording
from .spikes import BIN, Array, Grouped, Spikes


class ReferenceFeatures(Spikes):
    """All 33 of all units over the whole session, grouping by unit included."""

    def time_ours(self) -> Array:
        return reference_features(self.trains())

    def time_numpy(self) -> Array:
        trains = self.by_unit()
        n_bins = round(self.stop_s / 0.01)
        bins = (self.tick // 300).astype(np.int64)
        counts = np.bincount(bins * N_UNITS + self.unit, minlength=n_bins * N_UNITS).reshape(n_bins, N_UNITS)
        return _features([np.diff(train) for train in trains], counts, self.stop_s)

    def time_pynapple(self) -> Array:
        group = self.pynapple()
        counts = group.count(0.01).values
        return _features([np.diff(group[k].t) for k in range(N_UNITS)], counts, self.stop_s)


class FromStore:
    """All 33 of all units of the whole session from an open store, decoding included."""

    timeout = 600

    def setup_cache(self) -> str:
        root = Path(tempfile.mkdtemp(dir=".")) / "data.zarr"
        add(root, recording())
        return str(root)

    def setup(self, root: str) -> None:
        warm_up()
        store = nhdata.open(root)
        self.session = store.session(store.session_ids[0])
        self.session.spikes(0.0, 1.0)

    def time_decoding_alone(self, root: str) -> None:
        self.session.ticks()

    def time_ours(self, root: str) -> None:
        self.session.features(self.session.t_start_s, self.session.t_stop_s)


class Counts(Spikes):
    """Counts of all units in bins of 20 ms over the whole session."""

    def time_ours(self) -> NDArray[np.uint16]:
        return binned_counts(
            self.tick,
            self.unit,
            n_units=N_UNITS,
            first_bin=0,
            n_bins=self.stop_tick // BIN,
            bin_s=0.02,
            tick_hz=SAMPLE_RATE_HZ,
        )

    def time_numpy(self) -> NDArray[np.int64]:
        n_bins = self.stop_tick // BIN
        flat = (self.tick // BIN).astype(np.int64) * N_UNITS + self.unit
        return np.bincount(flat, minlength=n_bins * N_UNITS).reshape(n_bins, N_UNITS)

    def time_pynapple(self) -> NDArray[np.int64]:
        return self.pynapple().count(0.02).values


class MemoryCopies(Grouped):
    """Times of intervals and counts, in copies of the ticks from one ready array to another: 8 at most is the aim."""

    unit = "copies"

    def setup(self) -> None:
        super().setup()
        self.target = np.empty_like(self.tick)

    def track_ours_isi(self) -> float:
        return self._copies(lambda: isi_sums(self.grouped, LOG_EDGES_S))

    def track_ours_counts_u1(self) -> float:
        return self._copies(lambda: self._counts(np.uint8))

    def track_ours_counts_u2(self) -> float:
        return self._copies(lambda: self._counts(np.uint16))

    def _counts(self, dtype: type[np.uint8] | type[np.uint16]) -> NDArray[np.generic]:
        shape = {"n_units": N_UNITS, "first_bin": 0, "n_bins": self.stop_tick // BIN}
        return binned_counts(self.tick, self.unit, **shape, bin_s=0.02, tick_hz=SAMPLE_RATE_HZ, dtype=dtype)

    def _copies(self, work: Callable[[], object]) -> float:
        return _best(work) / _best(lambda: np.copyto(self.target, self.tick))


class Compilation:
    """Seconds from nothing to the first results of every kernel, in a process of its own."""

    unit = "s"
    timeout = 600

    def setup(self) -> None:
        if N_SPIKES < 100_000:
            raise NotImplementedError  # a look at whether benchmarks run has no time for it

    def track_ours_never_compiled(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return self._warm_up(folder)

    def track_ours_compiled_before(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            self._warm_up(folder)
            return self._warm_up(folder)

    def _warm_up(self, cache: str) -> float:
        command = [sys.executable, "-c", "from nhdata.features.warm_up import warm_up; print(warm_up())"]
        env = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(sys.path)}
        return float(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)


def _best(work: Callable[[], object], n: int = 5) -> float:
    times = []
    for _ in range(n):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def _features(intervals: list[Array], counts_10ms: NDArray[np.int64], duration_s: float) -> Array:
    """The same 33 columns from the intervals of every unit and its counts in bins of 10 ms, unit by unit."""
    out = np.empty((len(intervals), 33))
    by_unit = np.ascontiguousarray(counts_10ms.T)  # unit by unit in memory is twenty times as fast as in columns
    for k, isi in enumerate(intervals):
        counts = by_unit[k]
        deviation = counts - counts.mean()
        twenty = counts[: len(counts) // 2 * 2].reshape(-1, 2).sum(1)
        out[k, 0] = counts.sum() / duration_s
        out[k, 1] = isi.std() / isi.mean()
        out[k, 2:22] = np.histogram(isi, LOG_EDGES_S)[0] / isi.size
        out[k, 22:32] = [deviation[lag:] @ deviation[:-lag] for lag in range(1, N_LAGS + 1)] / (deviation @ deviation)
        out[k, 32] = twenty.var(ddof=1) / twenty.mean()
    return out
