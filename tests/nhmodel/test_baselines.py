"""Baselines on simulated recordings whose structure is known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import xlogy
from sklearn.linear_model import PoissonRegressor, Ridge

from nhmodel.baselines import BASELINES, null_expected
from nhmodel.baselines.ewma import EwmaShrinkage
from nhmodel.baselines.glm import Glm
from nhmodel.baselines.glm_coupled import GlmCoupled
from nhmodel.baselines.gru import Gru
from nhmodel.baselines.mean import Mean, TrailingMean
from nhmodel.baselines.newton import fit_poisson
from nhmodel.baselines.protocol import poisson_loss
from nhmodel.baselines.psth import Psth
from nhmodel.baselines.ridge_ar import RidgeAutoregression
from nhmodel.baselines.rrr import ReducedRankRidge
from nhmodel.metrics import ScoreSums, scores
from nhmodel.windows import SessionWindows

BIN_S, H, T, STEP = 0.02, 25, 10, 10
TAU_S = (0.05, 0.2, 0.8, 3.2)


def windowed(series) -> tuple[SessionWindows, SessionWindows, SessionWindows]:
    """(bins, N) counts as training (first 70 %), valid (15 %) and test windows."""
    ema = np.zeros((len(series) + 1, len(TAU_S), series.shape[1]), np.float32)
    for m, tau_s in enumerate(TAU_S):
        keep = np.exp(-BIN_S / tau_s)
        weight = lfilter([1], [1, -keep], np.ones(len(series)))[:, None]
        ema[1:, m] = lfilter([1], [1, -keep], series, axis=0) / weight / BIN_S
    cuts = [0, int(0.7 * len(series)), int(0.85 * len(series)), len(series)]
    splits = []
    for start, stop in itertools.pairwise(cuts):
        ends = np.arange(start + H, stop - T + 1, STEP)
        splits.append(
            SessionWindows(
                session_id="sim",
                unit_id=np.array([f"u{n}" for n in range(series.shape[1])]),
                t_s=ends * BIN_S,
                history=np.stack([series[e - H : e] for e in ends]),
                ema_hz=ema[ends],
                counts=np.stack([series[e : e + T] for e in ends]),
                bin_s=BIN_S,
                ema_tau_s=TAU_S,
            )
        )
    return tuple(splits)


def slow(rng, n_bins, n_series, tau_s=1.0):
    """Stationary first-order autoregressions of unit variance."""
    keep = np.exp(-BIN_S / tau_s)
    noise = rng.normal(0, np.sqrt(1 - keep**2), (n_bins, n_series))
    return lfilter([1], [1, -keep], noise, axis=0)


def independent(seed, n_bins=9_000, n_units=8):
    """Each unit follows a slow rate of its own."""
    rng = np.random.default_rng(seed)
    return rng.poisson(0.1 * np.exp(slow(rng, n_bins, n_units))).astype(np.uint8)


def driven(seed, n_bins=9_000, n_followers=8):
    """Four leaders share a slow drive; followers copy it 200 ms later."""
    rng = np.random.default_rng(seed)
    drive = 1.5 * slow(rng, n_bins + 10, 1, tau_s=0.4)
    leaders = rng.poisson(0.5 * np.exp(drive[10:] + np.zeros(4)))
    followers = rng.poisson(0.02 * np.exp(1.2 * drive[:-10] * np.linspace(-1, 1, n_followers)))
    return np.concatenate([leaders, followers], axis=1).astype(np.uint8)


def fp_bps(baseline, train, scored):
    sums = ScoreSums()
    sums.add("sim", scored.t_s, scored.counts, baseline.predict(scored), null_expected(train))
    return scores(sums)["fp_bps"]


def permuted(windows, order):
    return replace(
        windows,
        unit_id=windows.unit_id[order],
        history=windows.history[..., order],
        ema_hz=windows.ema_hz[..., order],
        counts=windows.counts[..., order],
    )


@pytest.fixture(scope="module")
def own_rates():
    return windowed(independent(0))


@pytest.fixture(scope="module")
def coupled():
    return windowed(driven(1))


@pytest.fixture(scope="module")
def fitted(coupled):
    train, valid, _ = coupled
    return {name: baseline().fit(train, valid) for name, baseline in BASELINES.items()}


def test_the_null_is_the_mean_but_never_zero(own_rates):
    train = own_rates[0]
    counts = train.counts.copy()
    counts[..., 0] = 0
    null = null_expected(replace(train, counts=counts))
    mean = counts.mean((0, 1))
    assert 0 < null[0] < 1 / counts[..., 0].size
    np.testing.assert_allclose(null[1:], mean[1:], rtol=1e-3)
    assert np.all(null_expected(replace(train, counts=counts * 0)) > 0)
    with pytest.raises(ValueError, match="no windows"):
        null_expected(train[:0])


@pytest.mark.parametrize("name", BASELINES)
def test_forecasts_are_positive_counts_per_bin(fitted, coupled, name):
    expected = fitted[name].predict(coupled[2])
    assert expected.shape == coupled[2].counts.shape
    assert expected.dtype == np.float32
    assert np.all(np.isfinite(expected)) and np.all(expected > 0)  # noqa: PT018
    assert fitted[name].predict(coupled[2][:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("name", BASELINES)
def test_refitting_to_the_same_windows_changes_nothing(fitted, coupled, name):
    """All that is chosen stands, and what is learnt is learnt from the windows alone."""
    train, valid, test = coupled
    again = BASELINES[name]().fit(train, valid).refit(train).predict(test)
    np.testing.assert_allclose(again, fitted[name].predict(test), rtol=0.02 if name == "gru" else 1e-4)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "psth"])  # without trials it is the mean
def test_refitting_to_a_short_reference_uses_all_of_it(own_rates, name):
    train, _, test = own_rates
    fit, tune, whole = train[:150], train[150:200], train[:200]
    short = BASELINES[name]().fit(fit, tune)
    before = fp_bps(short, whole, test)
    after = fp_bps(short.refit(whole), whole, test)
    assert after > before - (0.05 if name == "gru" else 0.02)
    if name != "trailing_mean":
        assert (short.predict(test) != BASELINES[name]().fit(fit, tune).predict(test)).any()


@pytest.mark.parametrize("name", BASELINES)
def test_targets_cannot_change_forecasts(fitted, coupled, name):
    test = coupled[2]
    blind = replace(test, counts=np.full_like(test.counts, 9))
    np.testing.assert_array_equal(fitted[name].predict(test), fitted[name].predict(blind))


@pytest.mark.parametrize("name", BASELINES)
def test_chunks_of_windows_change_nothing(fitted, coupled, name):
    whole = fitted[name].predict(coupled[2])
    parts = [fitted[name].predict(coupled[2][rows]) for rows in (slice(0, 7), slice(7, None))]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "gru"])  # its first weights are drawn by column
def test_the_order_of_units_does_not_matter(fitted, coupled, name):
    order = np.random.default_rng(0).permutation(coupled[0].n_units)
    train, valid, test = (permuted(split, order) for split in coupled)
    again = BASELINES[name]().fit(train, valid).predict(test)
    rtol = 0.02 if name == "glm_coupled" else 1e-3
    np.testing.assert_allclose(again, fitted[name].predict(coupled[2])[..., order], rtol=rtol)


@pytest.mark.parametrize("name", BASELINES)
def test_a_silent_unit_and_an_empty_valid_split(name, monkeypatch):
    monkeypatch.setattr(Gru, "max_steps", 25)
    series = independent(3, n_bins=3000, n_units=3)
    series[:2400, 0] = 0
    series[2400:, 1] = 0
    train, valid, test = windowed(series)
    for tune in (valid, valid[:0]):
        expected = BASELINES[name]().fit(train, tune).predict(test)
        assert np.all(np.isfinite(expected)) and np.all(expected > 0)  # noqa: PT018
    silent = windowed(series * 0)
    assert np.all(BASELINES[name]().fit(*silent[:2]).predict(silent[2]) > 0)


@pytest.mark.parametrize("name", BASELINES)
def test_one_unit_and_few_windows(name):
    train, valid, test = windowed(independent(4, n_bins=1500, n_units=1))
    expected = BASELINES[name]().fit(train[:5], valid[:2]).predict(test)
    assert np.all(np.isfinite(expected)) and np.all(expected > 0)  # noqa: PT018


def test_the_mean_scores_exactly_zero(fitted, coupled):
    assert fp_bps(fitted["mean"], coupled[0], coupled[2]) == 0


def test_own_history_is_found(own_rates):
    train, valid, test = own_rates
    got = {name: fp_bps(BASELINES[name]().fit(train, valid), train, test) for name in BASELINES}
    assert got["ewma"] > 0.1
    assert got["ewma"] > got["trailing_mean"]
    assert got["rrr"] > got["ewma"] - 0.02
    assert got["ridge_ar"] > 0.3
    assert got["glm"] > got["ewma"] - 0.01
    assert got["glm_coupled"] > got["glm"] - 0.02


def test_coupling_is_found(fitted, coupled):
    train, _, test = coupled
    followers = [permuted(split, np.arange(4, 12)) for split in (train, test)]

    def score(name):
        sums = ScoreSums()
        expected = fitted[name].predict(test)[..., 4:]
        sums.add("sim", test.t_s, followers[1].counts, expected, null_expected(train)[4:])
        return scores(sums)["fp_bps"]

    assert score("rrr") > score("ewma") + 0.05
    assert score("glm_coupled") > score("glm") + 0.03
    assert score("gru") > score("ewma") + 0.03
    assert score("mean") == 0


def test_noise_is_left_alone():
    """Counts without structure: nothing to gain, and little may be lost."""
    rng = np.random.default_rng(8)
    train, valid, test = windowed(rng.poisson(0.1, (8000, 10)).astype(np.uint8))
    for name in ("ewma", "ridge_ar", "rrr", "glm", "glm_coupled", "gru"):
        assert -0.03 < fp_bps(BASELINES[name]().fit(train, valid), train, test) < 0.02


def test_the_loss_at_spikes_is_the_whole_loss(fitted, coupled):
    y, f = coupled[2].counts.astype(float), fitted["ewma"].predict(coupled[2]).astype(float)
    assert poisson_loss(coupled[2].counts, f) == pytest.approx((f - xlogy(y, f)).sum())


def test_ewma_weights_are_the_best_there_are(own_rates):
    """No other weight of a bin, nor another factor of a unit, has a lower loss in training."""
    train, valid, _ = own_rates
    ewma = EwmaShrinkage().fit(train, valid)
    mean = ewma.null.astype(float)
    deviation = train.ema_hz[:, ewma.tau, None].astype(float) * BIN_S - mean

    def loss(weight):
        return poisson_loss(train.counts, mean + weight * deviation)

    best = loss(ewma.weight)
    for n in range(train.n_units):
        for factor in (0, 0.9, 1.1):
            weight = ewma.weight.astype(float)
            weight[:, n] = np.minimum(weight[:, n] * factor, 0.98)
            assert loss(weight) > best - 0.05
    assert best < loss(0 * ewma.weight) - 50
    assert np.all(ewma.weight[0] > ewma.weight[-1])
    assert np.all((ewma.weight >= 0) & (ewma.weight <= 0.98 + 1e-6))


def test_trailing_mean_is_the_mean_of_the_history(own_rates):
    train, valid, test = own_rates
    baseline = TrailingMean().fit(train, valid)
    floor = baseline.fraction * null_expected(train)
    want = np.maximum(test.history.mean(1), floor)
    np.testing.assert_allclose(baseline.predict(test)[:, 3], want, rtol=1e-6)


@pytest.mark.parametrize("n_windows", [30, 400], ids=["more inputs than windows", "fewer"])
def test_rrr_is_the_primal_and_the_dual_form(coupled, n_windows, monkeypatch):
    monkeypatch.setattr(ReducedRankRidge, "ridges", (0.5,))
    monkeypatch.setattr(ReducedRankRidge, "ranks", (3,))
    train, valid, test = coupled[0][:n_windows], coupled[1], coupled[2]
    rrr = ReducedRankRidge().fit(train, valid)

    null = rrr.own.null.astype(float)
    x, x_test = (
        ((w.ema_hz * BIN_S - null) / np.sqrt(null)).reshape(w.n_windows, -1).astype(float) for w in (train, test)
    )
    x, x_test = x - x.mean(0), x_test - x.mean(0)
    y = ((train.counts - rrr.own.predict(train)) / np.sqrt(null)).reshape(n_windows, -1)
    ridge = 0.5 * (x**2).sum() / min(x.shape)

    primal = Ridge(ridge, fit_intercept=False, solver="cholesky").fit(x, y).coef_.T
    dual = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(n_windows), y)
    np.testing.assert_allclose(primal, dual, atol=1e-8)
    # the penalised fit is the plain fit of rows augmented by √ridge · coefficients
    augmented = np.concatenate([x @ primal, np.sqrt(ridge) * primal])
    v = np.linalg.svd(augmented, full_matrices=False)[2][:3]
    shared = (x_test @ primal @ v.T @ v).reshape(test.counts.shape)
    want = np.maximum(rrr.own.predict(test) + shared * np.sqrt(null), rrr.floor * null)
    np.testing.assert_allclose(rrr.predict(test), want, rtol=2e-3, atol=1e-5)


def test_rrr_without_an_axis_to_spare_keeps_most(coupled, monkeypatch):
    """Cutting the principal axes that the ridge leaves nothing of costs nothing."""
    train, valid, test = coupled
    whole = fp_bps(ReducedRankRidge().fit(train, valid), train, test)
    monkeypatch.setattr(ReducedRankRidge, "max_axes", 24)
    assert fp_bps(ReducedRankRidge().fit(train, valid), train, test) == pytest.approx(whole, abs=0.02)


def test_newton_is_sklearns_poisson_regression():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 200, 4))
    prior, log_base = rng.normal(0, 0.3, (3, 4)), rng.normal(0, 0.5, (3, 200))
    theta = rng.normal(0, 0.7, (3, 4))
    y = rng.poisson(np.exp(log_base + np.einsum("psk,pk->ps", x, theta)))
    got = fit_poisson(x, y, log_base, prior, ridge=2.0)
    for p in range(3):
        base = np.exp(log_base[p] + x[p] @ prior[p])
        model = PoissonRegressor(alpha=2.0 / base.sum(), fit_intercept=False, tol=1e-8, max_iter=1000)
        model.fit(x[p], y[p] / base, sample_weight=base)
        np.testing.assert_allclose(got[p], prior[p] + model.coef_, atol=1e-3)


def test_newton_survives_a_bad_start():
    x = np.stack([np.ones(50), np.linspace(0, 40, 50)], axis=1)[None]
    y = np.full((1, 50), 2.0)
    theta = fit_poisson(x, y, np.zeros((1, 1)), np.array([[5.0, 1.0]]), ridge=1e-6)
    np.testing.assert_allclose(theta[0], [np.log(2), 0], atol=1e-2)


def test_glm_units_borrow_from_each_other(own_rates, monkeypatch):
    """In a short recording, weights drawn towards the shared ones forecast better than each unit's own."""
    train, valid, test = own_rates
    got = []
    for ridge in (10.0, 1e-3):
        monkeypatch.setattr(Glm, "ridges", (ridge,))
        got.append(fp_bps(Glm().fit(train[:40], valid), train, test))
    assert got[0] > got[1] + 0.02
    assert got[0] > 0.05


def test_glm_never_extrapolates(fitted, coupled):
    """A burst a hundred times above anything in training gives a forecast no higher than training's counts."""
    train, _, test = coupled
    wild = replace(test, ema_hz=test.ema_hz * 100)
    for name in ("glm", "glm_coupled"):
        highest = np.maximum(train.counts.sum(1).max(0), 1)
        assert np.all(fitted[name].predict(wild).max((0, 1)) <= highest)


def test_glm_coupled_keeps_the_glm_where_coupling_does_not_help(own_rates, monkeypatch):
    train, valid, test = own_rates
    monkeypatch.setattr(GlmCoupled, "learning_rate", 1.0)
    monkeypatch.setattr(GlmCoupled, "max_steps", 50)
    monkeypatch.setattr(GlmCoupled, "weight_decay", 0.0)
    got = GlmCoupled().fit(train, valid).predict(test)
    np.testing.assert_allclose(got, Glm().fit(train, valid).predict(test), rtol=1e-6)


def test_ridge_autoregression_is_the_normal_equations(own_rates, monkeypatch):
    monkeypatch.setattr(RidgeAutoregression, "ridges", (1.0,))
    train, valid, test = own_rates
    baseline = RidgeAutoregression().fit(train, valid)
    null = null_expected(train)[3]

    def inputs(windows):
        past = [windows.history[..., 3], windows.ema_hz[..., 3] * BIN_S]
        return np.concatenate(past, axis=1, dtype=np.float64) - null

    x, y = inputs(train), train.counts[..., 3] - null
    weights = np.linalg.solve(x.T @ x + np.mean(x**2) * len(x) * np.eye(x.shape[1]), x.T @ y)
    want = np.maximum(null + inputs(test) @ weights, baseline.floor * null)
    np.testing.assert_allclose(baseline.predict(test)[..., 3], want, rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module")
def evoked():
    """Every second, unit 0 fires for 100 ms and unit 1 is silent for 300 ms; unit 2 does not care."""
    rng = np.random.default_rng(5)
    onset_s = np.arange(1.0, 158.0) + rng.uniform(0, 0.2, 157)
    since_s = (np.arange(8_000) + 0.5) * BIN_S
    since_s = since_s - onset_s[np.searchsorted(onset_s, since_s).clip(min=1) - 1]
    rate = np.full((8_000, 3), 0.1)
    rate[(since_s >= 0) & (since_s < 0.1), 0] = 0.9
    rate[(since_s >= 0) & (since_s < 0.3), 1] = 0.001
    splits = windowed(rng.poisson(rate).astype(np.uint8))
    return [replace(split, onset_s=onset_s) for split in splits]


def test_psth_is_the_mean_after_an_onset_that_is_known(evoked):
    train, valid, test = evoked
    psth = Psth().fit(train, valid)
    assert psth.expected[2, 0] == pytest.approx(0.9, rel=0.35)
    assert psth.expected[8, 1] < 0.03
    assert psth.expected[10:40, 2].mean() == pytest.approx(0.1, rel=0.15)
    assert fp_bps(psth, train, test) > 0.1


def test_psth_does_not_know_trials_to_come(evoked):
    train, valid, test = evoked
    psth = Psth().fit(train, valid)
    for window in range(0, test.n_windows, 9):
        one = test[window : window + 1]
        seen = replace(one, onset_s=one.onset_s[one.onset_s <= one.t_s[0]])
        np.testing.assert_array_equal(psth.predict(one), psth.predict(seen))


def test_psth_is_the_mean_without_trials_and_long_after_them(evoked):
    train, valid, test = evoked
    bare = replace(test, onset_s=np.zeros(0))
    psth = Psth().fit(train, valid)
    np.testing.assert_array_equal(psth.predict(bare), Mean().fit(train, valid).predict(bare))
    late = replace(test, onset_s=test.t_s[:1] - 1000)
    np.testing.assert_array_equal(psth.predict(late), Mean().fit(train, valid).predict(late))


def test_bins_since_an_onset_are_counted_from_bin_centres(evoked):
    test = evoked[2][:1]
    early, late = test.t_s[0] - 0.105, test.t_s[0] + 0.045
    one = replace(test, onset_s=np.array([early, late]))
    assert one.bins_since_onset(known=True)[0].tolist() == [5 + k for k in range(T)]
    assert one.bins_since_onset(known=False)[0].tolist() == [5, 6, *range(T - 2)]
    assert (replace(test, onset_s=np.array([late + 9])).bins_since_onset(known=False) == -1).all()


def test_gru_keeps_the_mean_where_it_learns_nothing(own_rates, monkeypatch):
    train, valid, test = own_rates
    monkeypatch.setattr(Gru, "learning_rate", 1.0)
    monkeypatch.setattr(Gru, "max_steps", 60)
    gru = Gru().fit(train, valid)
    mean = np.broadcast_to(null_expected(train), test.counts.shape)
    assert gru.steps == 0
    np.testing.assert_allclose(gru.predict(test), mean, rtol=1e-5)
