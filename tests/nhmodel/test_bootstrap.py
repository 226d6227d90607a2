"""Bootstrap intervals: paired, by block, reproducible, about as wide as they should be."""

import numpy as np
import pytest
from scipy import stats

from nhmodel.bootstrap import block_length_s, bootstrap_delta, bootstrap_fp_bps
from nhmodel.metrics import ScoreSums, scores


def session(seed, n_windows=200, drift=0.0, step_s=0.5):
    """Counts, the true rate and window times of a session whose rate changes slowly if `drift`."""
    rng = np.random.default_rng(seed)
    slow = np.repeat(rng.normal(0, drift, -(-n_windows // 20)), 20)[:n_windows]
    rate = np.exp(rng.normal(-1, 0.7, (n_windows, 4, 3)) + slow[:, None, None])
    return rng.poisson(rate).astype(np.uint8), rate, 1e4 + np.arange(n_windows) * step_s


def sums_of(sessions, forecast=lambda rate: rate, null=0.5):
    sums = ScoreSums()
    for name, (counts, rate, t_s) in sessions.items():
        sums.add(name, t_s, counts, forecast(rate), np.full(3, null))
    return sums


@pytest.mark.parametrize("n_sessions", [1, 4, 6])
def test_contains_the_score_and_repeats(n_sessions):
    sums = sums_of({f"s{i}": session(i) for i in range(n_sessions)})
    low, high = bootstrap_fp_bps(sums)
    assert low < scores(sums)["fp_bps"] < high
    assert bootstrap_fp_bps(sums) == (low, high)
    assert bootstrap_fp_bps(sums, seed=1) != (low, high)
    wider = bootstrap_fp_bps(sums, level=0.99)
    assert wider[0] < low < high < wider[1]


def test_equals_a_loop_over_drawn_blocks():
    counts, rate, t_s = session(0, n_windows=90)
    sums = sums_of({"a": (counts, rate, t_s)})
    part = sums.sessions["a"]
    blocks = [np.flatnonzero((t_s - t_s[0]) // 5 == b) for b in range(9)]
    rng = np.random.default_rng(7)
    loop = []
    for _ in range(8000):
        rows = np.concatenate([blocks[b] for b in rng.integers(0, 9, 9)])
        gained = (part.window_null - part.window_nll)[rows].sum()
        loop.append(gained / part.window_spikes[rows].sum() / np.log(2))
    tail = stats.norm.cdf(stats.t.ppf(0.025, 8) * np.sqrt(9 / 8))
    found = bootstrap_fp_bps(sums, block_s=5, n_resamples=8000)
    assert found == pytest.approx(np.quantile(loop, [tail, 1 - tail]), abs=0.02)


def test_blocks_widen_the_interval_of_slow_changes():
    sums = sums_of({"a": session(1, drift=1.0)})
    widths = [high - low for low, high in (bootstrap_fp_bps(sums, block_s=b) for b in (0.5, 10.0))]
    assert widths[1] > 1.5 * widths[0]


def test_covers_the_long_run_score():
    truth = scores(sums_of({"a": session(99, n_windows=50_000)}))["fp_bps"]
    intervals = [bootstrap_fp_bps(sums_of({"a": session(i)}), block_s=5, n_resamples=1000) for i in range(100)]
    assert np.mean([low < truth < high for low, high in intervals]) > 0.9


def test_covers_from_few_blocks_too():
    """Nine blocks whose rates drift: the plain percentile interval holds the truth in about 84 of 100."""
    parts = {i: sums_of({"a": session(i, n_windows=180, drift=0.5)}) for i in range(120)}
    truth = scores(sums_of({"a": session(99, n_windows=50_000, drift=0.5)}))["fp_bps"]
    intervals = [bootstrap_fp_bps(sums, block_s=10, n_resamples=1000) for sums in parts.values()]
    assert np.mean([low < truth < high for low, high in intervals]) > 0.88


def test_short_recordings_have_shorter_blocks():
    for n_windows, block_s in ((1000, 10.0), (200, 6.25), (46, 2.0)):
        assert block_length_s(sums_of({"a": session(0, n_windows)})) == block_s
    assert bootstrap_fp_bps(sums_of({"a": session(0, n_windows=32)})) != (None, None)
    assert bootstrap_fp_bps(sums_of({"a": session(0, n_windows=28)})) == (None, None)


def test_sessions_are_drawn_from_five_on():
    """Sessions that differ a lot: the interval of five must know, the interval of four may not."""
    offsets = [0.2, 0.6, 1.0, 3.0, 5.0]
    sessions = {f"s{i}": session(i) for i in range(5)}
    sums = ScoreSums()
    for (name, (counts, rate, t_s)), factor in zip(sessions.items(), offsets, strict=True):
        sums.add(name, t_s, counts, rate * factor, np.full(3, 0.5))
    four = ScoreSums({name: sums.sessions[name] for name in list(sessions)[1:]})
    widths = [high - low for low, high in (bootstrap_fp_bps(sums), bootstrap_fp_bps(four))]
    assert widths[0] > 3 * widths[1]


def test_delta_is_paired():
    sessions = {"a": session(3, drift=1.0)}
    better, worse = sums_of(sessions), sums_of(sessions, lambda rate: rate**0.9)
    low, high = bootstrap_delta(better, worse)
    assert low < scores(better)["fp_bps"] - scores(worse)["fp_bps"] < high
    alone = bootstrap_fp_bps(better)
    assert high - low < (alone[1] - alone[0]) / 2
    assert bootstrap_delta(worse, better) == pytest.approx((-high, -low))
    assert bootstrap_delta(better, better) == (0, 0)


def test_delta_against_the_null_is_the_score():
    sessions = {"a": session(4)}
    model, null = sums_of(sessions), sums_of(sessions, lambda rate: np.full_like(rate, 0.5))
    assert bootstrap_delta(model, null) == pytest.approx(bootstrap_fp_bps(model))


def test_delta_refuses_other_windows():
    counts, rate, t_s = session(5)
    mine = sums_of({"a": (counts, rate, t_s)})
    for other in (
        sums_of({"b": (counts, rate, t_s)}),
        sums_of({"a": (counts[1:], rate[1:], t_s[1:])}),
        sums_of({"a": (counts[::-1], rate, t_s)}),
        sums_of({"a": (counts, rate, t_s)}, null=0.6),
    ):
        with pytest.raises(ValueError, match="different"):
            bootstrap_delta(mine, other)


def test_nothing_to_say_of_one_block_or_of_silence():
    assert bootstrap_fp_bps(sums_of({"a": session(0, n_windows=10)})) == (None, None)
    counts, rate, t_s = session(0)
    assert bootstrap_fp_bps(sums_of({"a": (counts * 0, rate, t_s)})) == (None, None)
    assert bootstrap_fp_bps(ScoreSums()) == (None, None)
