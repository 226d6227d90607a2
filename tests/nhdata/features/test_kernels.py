"""Every kernel against NumPy, written from its definition, on trains with bursts, duplicates, silence and gaps in time.

``NUMBA_DISABLE_JIT=1 pytest tests/nhdata/features`` runs the same tests without the compiler; `test_uncompiled` runs
this file so.
"""

import math
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import poisson

from nhdata.features.autocorrelation import autocorrelation
from nhdata.features.bursts import burst_index
from nhdata.features.correlogram import autocorrelogram, crosscorrelogram, pairs_between
from nhdata.features.coupling import population_coupling
from nhdata.features.fano import fano_factor
from nhdata.features.firing import firing_rate_hz, presence_ratio
from nhdata.features.isi import cv2, isi_cv, isi_log_histogram, local_variation
from nhdata.features.psth import event_counts, psth
from nhdata.features.quality import contamination_hill, contamination_llobet, refractory_violations
from nhdata.features.sliding_rp import max_confidence
from nhdata.features.trains import spike_trains

CLOCKS_HZ = (1000.0, 24414.0625, 30000.0, 1e6)


class Case(NamedTuple):
    units: list[list[int]]  # sorted ticks
    pieces: list[tuple[int, int]]  # apart and in order
    tick_hz: float

    def trains(self):
        tick = np.array([t for unit in self.units for t in unit], np.uint32)
        unit = np.array([u for u, ticks in enumerate(self.units) for _ in ticks], np.uint16)
        order = np.argsort(tick, kind="stable")
        return spike_trains(tick[order], unit[order], n_units=len(self.units), tick_hz=self.tick_hz, pieces=self.pieces)

    def cut(self):
        """Per unit, an int64 array for each piece."""
        return [[np.array([t for t in unit if a <= t < b], np.int64) for a, b in self.pieces] for unit in self.units]

    def counts(self, bin_s):
        """Per unit and piece the counts in whole bins, by rational arithmetic."""
        width = Fraction(repr(bin_s)) * Fraction(self.tick_hz)
        out = []
        for unit in self.cut():
            rows = []
            for (a, b), ticks in zip(self.pieces, unit, strict=True):
                n = int((b - a) / width)
                bins = [int((int(t) - a) / width) for t in ticks]
                rows.append(np.bincount([k for k in bins if k < n], minlength=n)[:n])
            out.append(rows)
        return out

    def lag_bin(self, lag, bin_s):
        return math.floor(lag / (Fraction(repr(bin_s)) * Fraction(self.tick_hz)))

    def seconds(self, ticks):
        return Fraction(int(ticks)) / Fraction(self.tick_hz)


@st.composite
def cases(draw, n_units=3):
    tick_hz = draw(st.sampled_from(CLOCKS_HZ))
    second = int(tick_hz)
    edges = [draw(st.integers(0, second))]
    for _ in range(draw(st.sampled_from([1, 1, 3, 5]))):
        edges.append(edges[-1] + draw(st.integers(1, second)))
    pieces = list(zip(edges[0::2], edges[1::2], strict=False))
    step = st.sampled_from([0, 0, 1, 2, 30, 45, second // 100, second // 50]) | st.integers(0, second // 4)
    units = []
    for _ in range(n_units):
        start = draw(st.integers(max(0, edges[0] - 100), edges[-1]))
        units.append((start + np.cumsum(draw(st.lists(step, max_size=30)), dtype=np.int64)).tolist())
    return Case(units, pieces, tick_hz)


HARD = Case([[], [100], [100, 100, 130, 130]], [(0, 30000)], 30000.0)
GAPS = Case([[0, 299, 300, 9000, 9100, 9400], [5] * 5, [8999, 9399]], [(0, 300), (9000, 9400)], 30000.0)


def over_cases(test):
    return example(GAPS)(example(HARD)(given(cases())(test)))


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def intervals(unit):
    return np.concatenate([np.diff(ticks) for ticks in unit])


@over_cases
def test_rates(case):
    length = case.seconds(sum(b - a for a, b in case.pieces))
    close(firing_rate_hz(case.trains()), [float(sum(map(len, unit)) / length) for unit in case.cut()])


@over_cases
def test_coefficients_of_variation(case):
    gaps = [intervals(unit) for unit in case.cut()]
    close(isi_cv(case.trains()), [g.std() / g.mean() if g.size > 1 and g.any() else np.nan for g in gaps])


@over_cases
def test_interval_histograms(case):
    edges_s = [0.0, 0.0001, 0.0015, 0.01, 0.02, 0.25]
    ours = isi_log_histogram(case.trains(), edges_s)
    for row, unit in zip(ours, case.cut(), strict=True):
        gaps = [case.seconds(g) for g in intervals(unit)]
        counts = [sum(Fraction(repr(a)) <= g < Fraction(repr(b)) for g in gaps) for a, b in pairwise(edges_s)]
        close(row, np.array(counts) / len(gaps) if gaps else np.full(5, np.nan))


@over_cases
def test_local_variation(case):
    for a, b, unit in zip(cv2(case.trains()), local_variation(case.trains()), case.cut(), strict=True):
        gaps = [np.diff(ticks).astype(float) for ticks in unit]
        first, second = (np.concatenate([g[s] for g in gaps]) for s in (slice(None, -1), slice(1, None)))
        contrast = (first - second)[first + second > 0] / (first + second)[first + second > 0]
        close(a, 2 * np.abs(contrast).mean() if contrast.size else np.nan)
        close(b, 3 * (contrast**2).mean() if contrast.size else np.nan)


@over_cases
def test_fano_factors(case):
    widths = [0.01, 0.1, 1 / 30]
    for k, bin_s in enumerate(widths):
        ours = fano_factor(case.trains(), widths)[:, k]
        for value, rows in zip(ours, case.counts(bin_s), strict=True):
            c = np.concatenate(rows)
            close(value, c.var(ddof=1) / c.mean() if c.size > 1 and c.any() else np.nan)


@pytest.mark.parametrize("n_lags", [1, 5, 7, 10])
@over_cases
def test_autocorrelations(n_lags, case):
    for row, rows in zip(autocorrelation(case.trains(), 0.01, n_lags), case.counts(0.01), strict=True):
        c = np.concatenate(rows)
        if c.size == 0 or np.ptp(c) == 0:
            assert np.isnan(row).all()
            continue
        d = [r - c.mean() for r in rows]
        power = sum((x**2).sum() for x in d)
        close(
            row, [sum((x[lag:] * x[: max(x.size - lag, 0)]).sum() for x in d) / power for lag in range(1, n_lags + 1)]
        )


@over_cases
def test_presence_ratios(case):
    for value, rows in zip(presence_ratio(case.trains(), 0.1), case.counts(0.1), strict=True):
        c = np.concatenate(rows)
        close(value, (c > 0).mean() if c.size else np.nan)


@over_cases
def test_autocorrelograms_and_pairs(case):
    ours = autocorrelogram(case.trains(), 0.005, 0.03)
    reach = math.ceil(6 * Fraction("0.005") * Fraction(case.tick_hz))
    for row, n_pairs, unit in zip(ours, pairs_between(case.trains(), 3, reach), case.cut(), strict=True):
        lags = [int(b - a) for ticks in unit for i, a in enumerate(ticks) for b in ticks[i + 1 :]]
        bins = [case.lag_bin(lag, 0.005) for lag in lags]
        assert row.tolist() == [bins.count(k) for k in range(6)]
        assert n_pairs == sum(3 <= lag < reach for lag in lags)


@over_cases
def test_crosscorrelograms(case):
    pairs = [(0, 1), (1, 0), (2, 1)]
    for (a, b), row in zip(pairs, crosscorrelogram(case.trains(), pairs, 0.005, 0.03), strict=True):
        unit = case.cut()
        bins = [
            case.lag_bin(int(y - x), 0.005) for p in range(len(case.pieces)) for x in unit[a][p] for y in unit[b][p]
        ]
        assert row.tolist() == [bins.count(k) for k in range(-6, 6)]


@over_cases
def test_refractory_violations_and_contamination(case):
    trains = case.trains()
    length_s = trains.duration_s
    refractory_s, censored_s = 0.0015, 0.0002
    hill = contamination_hill(trains, refractory_s, censored_s)
    llobet = contamination_llobet(trains, refractory_s, censored_s)
    reach = round(refractory_s * case.tick_hz)
    for u, unit in enumerate(case.cut()):
        n = sum(map(len, unit))
        short = sum(case.seconds(g) < Fraction("0.0015") for g in intervals(unit))
        assert refractory_violations(trains, refractory_s)[u] == short
        within = sum(int(b - a) <= reach for ticks in unit for i, a in enumerate(ticks) for b in ticks[i + 1 :])
        if n == 0:
            assert np.isnan([hill[u], llobet[u]]).all()
            continue
        # SpikeInterface, metrics/quality/misc_metrics.py: isi_violations, _compute_rp_contamination_one_unit
        violation_time = 2 * n * (refractory_s - censored_s)
        close(hill[u], (short / violation_time) / (n / length_s))
        d = 1 - within * (length_s - 2 * n * censored_s) / (n**2 * (refractory_s - censored_s))
        close(llobet[u], 1 - math.sqrt(d) if d >= 0 else 1.0)


@over_cases
def test_sliding_refractory_period(case):
    # slidingRP 1.1, metrics.py: computeMatrix, computeViol, confidence_contamin at 10 % contamination
    for value, unit in zip(max_confidence(case.trains()), case.cut(), strict=True):
        n = sum(map(len, unit))
        lags = [case.seconds(b - a) for ticks in unit for i, a in enumerate(ticks) for b in ticks[i + 1 :]]
        rate_hz = min(30000, case.tick_hz)  # ours: no bin is finer than the clock
        n_bins = int(0.01 * rate_hz + 1e-9)
        bins = [math.floor(lag * Fraction(rate_hz)) for lag in lags]
        acg = np.bincount([k for k in bins if k < n_bins], minlength=n_bins)
        edges = np.arange(n_bins) / rate_hz
        refractory = edges + 0.5 / rate_hz
        rate = sum(1 <= lag < 2 for lag in lags) / max(n, 1)
        expected = rate * 0.1 * (refractory + 0.5 / rate_hz) * 2 * n
        matrix = 100 * (1 - poisson.cdf(np.cumsum(acg), expected))
        close(value, matrix[refractory > 0.0005].max() if n else np.nan)


@over_cases
def test_burst_indices(case):
    for value, unit in zip(burst_index(case.trains(), 0.01), case.cut(), strict=True):
        n = inside = 0
        for ticks in unit:
            near = [case.seconds(g) < Fraction("0.01") for g in np.diff(ticks)]
            n += len(ticks)
            inside += sum(a or b for a, b in zip([False, *near], [*near, False], strict=True)) if len(ticks) else 0
        close(value, inside / n if n else np.nan)


@over_cases
def test_peri_event_counts(case):
    lo, hi = case.pieces[0][0], case.pieces[-1][1]
    events = [lo, (lo + hi) // 2, hi, lo + 7]
    width = Fraction("0.01") * Fraction(case.tick_hz)
    shape = {"pre_s": 0.02, "post_s": 0.03, "bin_s": 0.01}
    ours = event_counts(case.trains(), events, **shape)
    left, right = math.ceil(-2 * width), math.ceil(3 * width)
    kept = [e for e in events if any(a <= e + left and e + right <= b for a, b in case.pieces)]
    expected = np.zeros((3, len(kept), 5), int)
    for u, unit in enumerate(case.cut()):
        for i, event in enumerate(kept):
            for t in np.concatenate(unit):
                k = math.floor((int(t) - event) / width) + 2
                if 0 <= k < 5:
                    expected[u, i, k] += 1
    np.testing.assert_array_equal(ours, expected)
    rates = psth(case.trains(), events, **shape)
    close(rates, expected.mean(axis=1) / 0.01 if kept else np.full((3, 5), np.nan))


@over_cases
def test_population_coupling(case):
    counts = np.array([np.concatenate(rows) for rows in case.counts(0.02)])
    for u, value in enumerate(population_coupling(case.trains(), 0.02)):
        others = counts.sum(axis=0) - counts[u]
        if counts.shape[1] == 0 or np.ptp(counts[u]) == 0 or np.ptp(others) == 0:
            assert np.isnan(value)
        else:
            close(value, np.corrcoef(counts[u], others)[0, 1])
