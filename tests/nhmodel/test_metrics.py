"""Scores against independent implementations, and the identities a score has to keep."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, poisson
from sklearn.metrics import d2_tweedie_score, mean_poisson_deviance, r2_score

import nhmodel.metrics as metrics
from nhcatalog.errors import UserError
from nhmodel.calibration import Calibration
from nhmodel.likelihood import EXPECTED_FLOOR, poisson_nll
from nhmodel.metrics import ScoreSums, scores
from nhmodel.psth import PSTH_BINS

W, T, N = 40, 6, 5


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def simulated(rng, shape=(W, T, N)):
    """Rates that change from bin to bin, and counts drawn from them."""
    rate = rng.gamma(0.5, 2.0, shape) * rng.uniform(0.2, 2, shape[2]) + 1e-3
    return rng.poisson(rate).astype(np.uint8), rate


def summed(counts, expected, null, t_s=None, session_id="a") -> ScoreSums:
    """A trial begins with every second window."""
    t_s = np.arange(len(counts), dtype=float) if t_s is None else t_s
    since_onset = (np.floor(t_s).astype(int) % 2)[:, None] * counts.shape[1] + np.arange(counts.shape[1])
    sums = ScoreSums()
    sums.add(session_id, t_s, counts, expected, null, since_onset)
    return sums


def test_likelihood_is_scipys(rng):
    counts, rate = simulated(rng)
    np.testing.assert_allclose(poisson_nll(counts, rate, log_factorial=True), -poisson.logpmf(counts, rate))


def test_pooled_scores_are_sklearns(rng):
    counts, rate = simulated(rng)
    null = np.full(N, counts.mean())
    got = scores(summed(counts, rate, null))
    y, f = counts.ravel().astype(float), rate.ravel()
    deviances = [mean_poisson_deviance(y, g) for g in (np.full_like(f, y.mean()), f)]
    assert got["fp_bps"] == pytest.approx((deviances[0] - deviances[1]) / 2 * y.size / y.sum() / np.log(2))
    assert got["poisson_d2"] == pytest.approx(d2_tweedie_score(y, f, power=1))
    assert got["n_spikes"] == counts.sum()
    assert got["n_windows"] == W


def test_unit_bin_and_within_unit_scores_one_by_one(rng):
    counts, rate = simulated(rng)
    counts[..., 2] = 0
    null = counts.mean((0, 1)) + 0.1
    got = scores(summed(counts, rate, null))

    def bps(at):
        y, f, g = counts[at], rate[at], np.broadcast_to(null, counts.shape)[at]
        return (poisson.logpmf(y, f) - poisson.logpmf(y, g)).sum() / y.sum() / np.log(2)

    fired = [0, 1, 3, 4]
    assert got["unit_bps"] == pytest.approx(np.mean([bps(np.s_[..., n]) for n in fired]))
    assert got["bin_fp_bps"] == pytest.approx([bps(np.s_[:, t]) for t in range(T)])
    flat = [(counts[..., n].ravel().astype(float), rate[..., n].ravel()) for n in fired]
    assert got["within_unit_r"] == pytest.approx(np.mean([pearsonr(y, f)[0] for y, f in flat]))
    assert got["within_unit_r2"] == pytest.approx(np.mean([r2_score(y, f) for y, f in flat]))


@pytest.mark.parametrize("n_units", [1, 3, 64, 121])
def test_the_null_scores_exactly_zero(rng, n_units):
    counts, rate = simulated(rng, (W, T, n_units))
    null = rate.mean((0, 1)).astype(np.float32)
    got = scores(summed(counts, np.tile(null, (W, T, 1)), null))
    assert got["fp_bps"] == got["unit_bps"] == got["poisson_d2"] == got["within_unit_r"] == 0
    assert got["bin_fp_bps"] == [0] * T
    assert got["within_unit_r2"] <= 0


def test_a_flat_forecast_has_no_within_unit_correlation(rng):
    counts, _ = simulated(rng)
    flat = np.broadcast_to(counts.mean((0, 1)) + 0.01, counts.shape)
    got = scores(summed(counts, flat, np.full(N, 0.3)))
    assert got["within_unit_r"] == 0
    assert got["within_unit_r2"] == pytest.approx(0, abs=1e-3)


def test_true_rate_beats_mean_beats_worse(rng):
    counts, rate = simulated(rng, (300, T, N))
    mean = rate.mean((0, 1))
    true, flat, shuffled = (
        scores(summed(counts, f, mean))["fp_bps"]
        for f in (rate, np.broadcast_to(mean, rate.shape), rng.permutation(rate, axis=0))
    )
    assert true > 0.1 > 0.01 > flat > -0.01 > shuffled


def test_the_saturated_forecast_has_d2_of_one(rng):
    counts, _ = simulated(rng)
    assert scores(summed(counts, counts.astype(float), np.full(N, 1.0)))["poisson_d2"] == pytest.approx(1, abs=1e-4)


def test_the_null_does_not_follow_the_scored_data(rng):
    counts, rate = simulated(rng)
    null = np.full(N, 0.7)
    busier = np.minimum(counts + 3, 200)
    for scored in (counts, busier):
        part = summed(scored, rate, null).sessions["a"]
        np.testing.assert_array_equal(part.null_expected, null)
        log_factorial = (poisson_nll(scored, null, log_factorial=True) - poisson_nll(scored, null)).sum()
        assert part.window_null.sum() + log_factorial == pytest.approx(-poisson.logpmf(scored, 0.7).sum())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 20), max_size=4), st.booleans())
def test_merged_shards_are_one_pass(seed, cuts, by_session):
    rng = np.random.default_rng(seed)
    counts, rate = simulated(rng, (20, 3, 4))
    t_s, null = np.cumsum(rng.uniform(0.1, 1, 20)), rng.uniform(0.1, 2, 4)
    one = summed(counts, rate, null, t_s)
    parts = [summed(counts[a:b], rate[a:b], null, t_s[a:b]) for a, b in itertools.pairwise([0, *sorted(cuts), 20])]
    rng.shuffle(parts)
    if by_session:
        parts.append(other := summed(counts, rate[::-1], null, session_id="b"))
        one = one + other
    merged = sum(parts, ScoreSums())
    got, want = merged.sessions["a"], one.sessions["a"]
    for name in ("t_s", "window_spikes", "bin_spikes", "unit_spikes", "window_nll", "window_null"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    for name in ("bin_nll", "bin_null", "unit_nll", "unit_null", "unit_saturated", "unit_moments", "psth"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(scores(merged).values(), scores(one).values(), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-10)


def test_chunks_inside_add_change_nothing(rng, monkeypatch):
    counts, rate = simulated(rng)
    whole = scores(summed(counts, rate, np.ones(N)))
    monkeypatch.setattr(metrics, "CHUNK_VALUES", 7 * T * N)
    chunked = scores(summed(counts, rate, np.ones(N)))
    assert chunked == {k: pytest.approx(v, rel=1e-12) for k, v in whole.items()}


def test_memory_layout_and_dtype_of_a_forecast_do_not_matter(rng):
    counts, rate = simulated(rng)
    rate = rate.astype(np.float32)
    want = scores(summed(counts, rate, np.ones(N)))
    got = scores(summed(np.asfortranarray(counts).astype(np.uint16), np.asfortranarray(rate), np.ones(N)))
    assert got == want


def test_a_window_is_never_counted_twice(rng):
    counts, rate = simulated(rng)
    sums = summed(counts, rate, np.ones(N))
    with pytest.raises(ValueError, match="scored twice"):
        sums + summed(counts[:1], rate[:1], np.ones(N))
    with pytest.raises(ValueError, match="different nulls"):
        sums + summed(counts, rate, np.full(N, 2.0), np.arange(W) + 100.0)
    with pytest.raises(ValueError, match="do not fit"):
        sums.add("b", np.zeros(3), counts, rate, np.ones(N))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-9])
def test_a_forecast_must_be_a_count(rng, bad):
    counts, rate = simulated(rng)
    rate[1, 2, 3] = bad
    with pytest.raises(UserError, match="1 of 1200"):
        summed(counts, rate, np.ones(N))


def test_the_floor_is_the_same_for_every_model():
    counts = np.array([[[1, 0]]], np.uint8)
    zero, floor = (summed(counts, np.full((1, 1, 2), f), np.ones(2)) for f in (0.0, EXPECTED_FLOOR))
    assert scores(zero) == scores(floor)
    assert np.isfinite(scores(zero)["fp_bps"])


def test_scores_with_nothing_to_divide_by_are_none():
    silent = scores(summed(np.zeros((3, 2, 2), np.uint8), np.ones((3, 2, 2)), np.full(2, EXPECTED_FLOOR)))
    for name in ("fp_bps", "unit_bps", "within_unit_r", "within_unit_r2"):
        assert silent[name] is None
    assert silent["bin_fp_bps"] == [None, None]
    assert scores(ScoreSums())["fp_bps"] is None
    assert scores(ScoreSums())["bin_fp_bps"] == []


class TestNamesOfTheFirstNeuroHorizon:
    """Arguments (log_rates, target_counts, unit_mask), numpy or torch, with nulls that are not oracles."""

    @pytest.fixture
    def data(self, rng):
        counts, rate = simulated(rng)
        return torch.from_numpy(np.log(rate)), torch.from_numpy(counts), rate, counts

    def test_log_likelihood(self, data):
        log_rates, target, *_ = data
        got = metrics.poisson_log_likelihood(log_rates, target)
        nll = torch.nn.functional.poisson_nll_loss(log_rates, target.double(), log_input=True)
        assert got == pytest.approx(-float(nll))

    def test_agree_with_the_streamed_scores(self, data):
        log_rates, target, rate, counts = data
        null = np.full(N, 0.8)
        want = scores(summed(counts, rate, null))
        assert metrics.bits_per_spike(log_rates, target, null_expected=null) == pytest.approx(want["fp_bps"])
        assert metrics.firing_rate_correlation(log_rates, target) == pytest.approx(want["within_unit_r"])
        assert metrics.r2_binned_counts(log_rates, target) == pytest.approx(want["within_unit_r2"])

    def test_padding_changes_nothing(self, data):
        log_rates, target, *_ = data
        mask = np.ones((W, N + 2), bool)
        mask[:, N:] = False
        mask[:10, 0] = False
        junk = [np.concatenate([a, np.full((W, T, 2), v)], 2) for a, v in ((log_rates, np.nan), (target, 9))]
        for score in (metrics.firing_rate_correlation, metrics.r2_binned_counts, metrics.poisson_log_likelihood):
            assert score(*junk, mask) == pytest.approx(score(log_rates, target, mask[:, :N]), rel=1e-12)
        alone = metrics.firing_rate_correlation(log_rates[10:, :, :1], target[10:, :, :1])
        masked = metrics.firing_rate_correlation(log_rates[:, :, :1], target[:, :, :1], mask[:, :1])
        assert masked == pytest.approx(alone)
        null = np.append(np.full(N, 0.8), [np.nan, np.nan])
        assert metrics.bits_per_spike(*junk, mask, null_expected=null) == pytest.approx(
            metrics.bits_per_spike(log_rates, target, mask[:, :N], null_expected=null[:N])
        )

    def test_a_flat_forecast_says_nothing(self, data):
        _, target, _, counts = data
        flat = np.broadcast_to(np.log(counts.mean((0, 1))), counts.shape)
        assert metrics.firing_rate_correlation(flat, target) == 0
        assert metrics.r2_binned_counts(flat, target) == pytest.approx(0, abs=1e-12)

    def test_the_oracle_null_cannot_be_asked_for_by_accident(self, data):
        log_rates, target, *_ = data
        with pytest.raises(TypeError, match="null_expected"):
            metrics.bits_per_spike(log_rates, target)


def test_psth_r2_is_sklearns_of_the_trial_averages(rng):
    counts, rate = simulated(rng)
    counts[..., 3] = 1  # no PSTH to explain
    since = np.tile(np.arange(2 * T).reshape(2, T), (W // 2, 1))
    since[:2] = -1  # before the first trial
    since[2] = PSTH_BINS  # long after one
    sums = ScoreSums()
    for rows in (slice(0, 7), slice(7, W)):
        sums.add("a", np.arange(W, dtype=float)[rows], counts[rows], rate[rows], np.ones(N), since[rows])
    y, f = (np.array([x[since == k].mean(axis=0) for k in range(2 * T)]) for x in (counts, rate))
    want = np.mean([r2_score(y[:, n], f[:, n]) for n in range(N) if n != 3])
    assert scores(sums)["psth_r2"] == pytest.approx(want)


def test_there_is_no_psth_without_trials(rng):
    counts, rate = simulated(rng)
    sums = ScoreSums()
    sums.add("a", np.arange(W, dtype=float), counts, rate, np.ones(N))
    assert scores(sums)["psth_r2"] is None


def test_calibration_of_the_true_rate_is_the_diagonal(rng):
    rate = rng.gamma(2.0, 0.2, (4000, 5, 4))
    counts = rng.poisson(rate)
    parts = [Calibration.of(counts[rows], rate[rows], 0.02) for rows in (slice(0, 999), slice(999, None))]
    found = parts[0] + parts[1]
    assert found.n_bins.sum() == counts.size
    assert found.counts.sum() == counts.sum()
    predicted, observed = found.curve_hz(0.02, at_least=2000)
    assert len(predicted) > 5
    np.testing.assert_allclose(observed, predicted, rtol=0.15)


def test_bits_per_spike_are_nlb_tools(rng):
    """Its null is each unit's mean over the scored data: the same, given as a null."""
    bits_per_spike = pytest.importorskip("nlb_tools.evaluation").bits_per_spike
    counts, rate = simulated(rng)
    want = bits_per_spike(rate, counts.astype(float))
    assert scores(summed(counts, rate, counts.mean((0, 1))))["fp_bps"] == pytest.approx(want, abs=1e-6)


def test_bits_and_d2_are_brain_wide_benchs(rng):
    """Its null is the mean of the scored data too; its D² is averaged over units."""
    bwb = pytest.importorskip("ibl_bwb_eval.metrics")
    counts, rate = simulated(rng)
    y, log_rate = (
        torch.from_numpy(counts.reshape(-1, N).astype(np.float64)),
        torch.from_numpy(np.log(rate)).reshape(-1, N),
    )
    found = {}
    for name, metric in (("bps", bwb.BPS(num_outputs=N)), ("d2", bwb.PoissonD2Score(num_outputs=N))):
        metric.set_dtype(torch.float64)
        metric.update(log_rate, y)
        found[name] = float(metric.compute())
    null = counts.mean((0, 1))
    assert scores(summed(counts, rate, null))["fp_bps"] == pytest.approx(found["bps"], abs=1e-6)
    units = [scores(summed(counts[..., [n]], rate[..., [n]], null[[n]]))["poisson_d2"] for n in range(N)]
    assert np.mean(units) == pytest.approx(found["d2"], abs=1e-6)
