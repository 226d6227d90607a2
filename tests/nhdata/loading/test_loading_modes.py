"""Which windows an epoch has, and how often: weights, caps, events, tokens, dropout, series."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nhdata
from nhcatalog.errors import UserError
from nhdata.loading import WindowDataset
from nhdata.loading.plan import EpochPlan, quotas
from nhdata.loading.series import resample
from nhdata.recording import Series
from nhdata.sources import SourceOptions
from nhdata.sources.synthetic import SyntheticSource
from nhdata.store.commit import add_session
from nhdata.store.encode import encode

Make = Callable[..., WindowDataset]
SPANS = {"history_s": 0.2, "horizon_s": 0.5, "bin_s": 0.1}


def counts_of(plan: EpochPlan) -> list[list[int]]:
    """How often each window of each session comes."""
    sessions = np.unique(plan.windows[:, 0])
    return [np.unique(plan.windows[plan.windows[:, 0] == s, 1], return_counts=True)[1].tolist() for s in sessions]


@pytest.fixture(scope="module")
def uneven(train: Any, windows_over: Make) -> Make:
    def make(**options: Any) -> WindowDataset:
        long = train([0] * 100, [0] * 100, range(4), n_ticks=30 * 30_000)
        short = train([0] * 300, [0] * 300, range(5), n_ticks=10 * 30_000)
        return windows_over(long, short, history_s=0.5, horizon_s=0.5, shuffle=True, drop_last=False, **options)

    return make


@pytest.mark.parametrize("epoch", [0, 1])
def test_weights_and_caps(uneven: Make, epoch: int) -> None:
    def of(**options: Any) -> list[list[int]]:
        windows = uneven(**options)
        windows.set_epoch(epoch)
        return counts_of(windows.plan())

    assert of() == [[1] * 58, [1] * 18]
    assert [sum(n) for n in of(weights="session")] == [38, 38]
    assert set(of(weights="session")[1]) == {2, 3}, "each as often as any other, or once more"
    assert [sum(n) for n in of(weights="spikes")] == [19, 57]
    assert of(max_windows=20) == [[1] * 20, [1] * 18]
    assert [sum(n) for n in of(weights="session", max_windows=30)] == [30, 30]


def test_a_cap_is_another_choice_each_epoch_or_evenly_spaced(uneven: Make) -> None:
    windows = uneven(max_windows=10)
    seen = []
    for epoch in (0, 1):
        windows.set_epoch(epoch)
        seen.append(set(map(tuple, windows.plan().windows // 15_000)))
    assert len(seen[0] & seen[1]) < 15
    windows.shuffle = False
    windows.set_epoch(2)
    windows._planned = None
    assert set(np.diff(windows.plan().windows[:10, 1] // 15_000)) == {5, 6}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10**9)), min_size=1, max_size=9),
    st.sampled_from(["session", "spikes"]),
)
def test_quotas_share_out_all_windows(sessions: list[tuple[int, int]], weights: Any) -> None:
    n_windows, n_spikes = zip(*sessions, strict=True)
    shared = quotas(n_windows, n_spikes, weights, None)
    weight = [(k if weights == "spikes" else 1) * (n > 0) for n, k in sessions]
    assert all(w > 0 or s == 0 for w, s in zip(weight, shared, strict=True)), "an empty session gets none"
    if sum(weight):
        assert sum(shared) == sum(n_windows)
        assert all(abs(s - sum(n_windows) * w / sum(weight)) <= 1 for s, w in zip(shared, weight, strict=True))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(1, 500), st.booleans())
@settings(deadline=None)
def test_batches_by_tokens(train: Any, windows_over: Make, spikes: list[int], most: int, shuffle: bool) -> None:
    from nhdata.loading.batches import ByTokens, SpikeIndex

    tick = np.repeat(np.arange(len(spikes)) * 3000 + 7, spikes)
    windows = windows_over(
        train(tick, np.zeros(len(tick), int), [0], n_ticks=3000 * len(spikes) + 30_000),
        history_s=0.1, horizon_s=0.1, bin_s=0.1, shuffle=shuffle, drop_last=False,
    )  # fmt: skip
    block = np.concatenate([np.cumsum([0, *spikes]), np.full(10, sum(spikes))])
    windows._batches = ByTokens(most, (SpikeIndex(block, 30_000.0, 3000, 1.0),))
    windows._planned = None
    batches = [np.diff(b.cu_seqlens).tolist() for b in windows]
    assert sum(map(len, batches)) == len(windows.plan().windows)
    assert all(sum(b) <= most or len(b) == 1 for b in batches)
    if not shuffle:
        assert all(sum(a) + b[0] > most for a, b in pairwise(batches)), "no batch has room for one more"


def test_a_token_budget_of_a_store(store: Path) -> None:
    windows = WindowDataset(store, max_tokens=300, drop_last=False, **SPANS)
    tokens = [len(b.token_unit) for b in windows]
    assert max(tokens) <= 300
    assert np.mean(tokens) > 150, "batches are not half empty"
    some = WindowDataset(store, max_tokens=300, select="select unit_id from units where unit_index < 3", **SPANS)
    assert np.mean([len(b) for b in some]) > 1.5 * np.mean([len(b) for b in windows]), "fewer units, more windows"


def test_windows_at_events(store: Path) -> None:
    session = nhdata.open(store).session(nhdata.open(store).session_ids[1])
    trials = session.intervals()["trials"]
    windows = WindowDataset(store, split="all", align="trials.start_s", align_offset_s=0.25, shuffle=False, **SPANS)
    found = np.concatenate([b.t_s[b.session_id == 1] for b in windows])
    expected = trials["start_s"] + 0.25
    expected = expected[(expected - 0.2 >= 0) & (expected + 0.5 <= 60)]
    np.testing.assert_allclose(found, expected, atol=1 / 30_000)
    events: dict[str, Any] = {"align": "trials.start_s", "align_offset_s": 0.25, **SPANS}
    shuffled = WindowDataset(store, split="all", shuffle=True, drop_last=False, **events)
    assert sorted(map(tuple, shuffled.plan().windows)) == sorted(map(tuple, windows.plan().windows))
    with pytest.raises(UserError, match=r"no selected session has times 'trials.nope': choose one of .*trials.start_s"):
        WindowDataset(store, align="trials.nope", **SPANS)


def test_dropped_units_are_gone_from_their_window(store: Path) -> None:
    options: dict[str, Any] = {"drop_last": False, "ema_tau_s": (1.0,), **SPANS}
    whole, some = WindowDataset(store, **options), WindowDataset(store, unit_dropout=0.3, **options)
    dropped = []
    for full, part in zip(whole, some, strict=True):
        heard = part.unit_mask
        dropped.append((~heard & full.unit_mask).float()[full.unit_mask])
        for name in ("history", "counts", "ema_hz"):
            assert (getattr(part, name) == getattr(full, name) * heard[:, None]).all(), name
        assert (part.unit_id == full.unit_id.where(heard, part.unit_id.new_tensor(-1))).all()
        window = np.repeat(np.arange(len(full)), np.diff(full.cu_seqlens))
        kept = heard[window, full.token_unit.long()]
        assert (part.token_unit == full.token_unit[kept]).all()
        assert (part.token_time_s == full.token_time_s[kept]).all()
    assert np.concatenate(dropped).mean() == pytest.approx(0.3, abs=0.03)
    again = [b.unit_mask for b in WindowDataset(store, unit_dropout=0.3, **options)]
    some.set_epoch(1)
    assert any(a.shape != b.unit_mask.shape or (a != b.unit_mask).any() for a, b in zip(again, some, strict=True))
    with pytest.raises(UserError, match=r"unit_dropout=1.0: use a share"):
        WindowDataset(store, unit_dropout=1.0)


def resampled(time_s: list[float], value: list[float], start_s: float, n: int) -> tuple[list[float], list[bool]]:
    out, known = np.full((n, 1), 9.0, np.float32), np.empty(n, bool)
    resample(np.array(time_s, float), np.array(value, np.float32)[:, None], start_s, 0.1, 1.0, out, known)
    return out[:, 0].tolist(), known.tolist()


def test_series_in_bins() -> None:
    assert resampled([0.0, 0.05, 0.1, 0.3], [1, 3, 5, 7], 0.0, 4) == ([2, 5, pytest.approx(6.5), 7], [True] * 4)
    assert resampled([0.0, 1.2], [1, 3], 0.1, 2) == ([0, 0], [False] * 2), "too far apart for a line"
    assert resampled([], [], 0.0, 2) == ([0, 0], [False] * 2)
    assert resampled([0.35], [4], 0.0, 5)[1] == [False, False, False, True, False], "nothing is extrapolated"


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.floats(-9, 9, width=32)), max_size=40, unique_by=lambda s: s[0]),
    st.integers(0, 2500),
)
@settings(deadline=None)
def test_series_by_definition(samples: list[tuple[int, float]], start: int) -> None:
    """Sample by sample, on milliseconds."""
    samples.sort()
    values, known = resampled([t / 1000 for t, _ in samples], [v for _, v in samples], start / 1000, 5)
    for k in range(5):
        a, b = start + 100 * k, start + 100 * (k + 1)
        inside = [v for t, v in samples if a <= t < b]
        before, after = [s for s in samples if s[0] < a], [s for s in samples if s[0] >= b]
        if inside:
            assert known[k]
            assert values[k] == pytest.approx(np.mean(inside), abs=1e-4)
        elif before and after and after[0][0] - before[-1][0] <= 1000:
            assert known[k]
            (t0, v0), (t1, v1) = before[-1], after[0]
            assert values[k] == pytest.approx(np.interp((a + b) / 2, [t0, t1], [v0, v1]), abs=1e-3)
        elif after and before and after[0][0] - before[-1][0] == 1001:
            pass  # the edge itself is a matter of rounding
        else:
            assert not known[k]
            assert values[k] == 0


def test_series_of_sessions(tmp_path: Path) -> None:
    """A session with a wheel and one without; values of two columns; a sample that is not a number."""
    source = SyntheticSource(SourceOptions(n_sessions=2, n_units=3, duration_s=30.0))
    first, second = (source.load(ref) for ref in source.iter_sessions([]))
    time_s = np.arange(0, 30, 0.02)
    value = np.where(np.arange(1500) == 60, np.nan, time_s)
    position = Series(time_s, np.column_stack([time_s, -time_s]), "m")
    first = replace(first, series={"wheel_velocity": Series(time_s, value, "rad/s"), "position": position})
    for recording in (first, replace(second, series={})):
        add_session(tmp_path / "data.zarr", encode(recording))
    windows = WindowDataset(tmp_path / "data.zarr", series=("wheel_velocity", "position"), shuffle=False, **SPANS)
    for batch in windows:
        wheel, position = batch.series["wheel_velocity"], batch.series["position"]
        assert wheel.shape == (len(batch), 5)
        assert position.shape == (len(batch), 5, 2)
        has = batch.session_id == 0
        assert batch.series_mask["wheel_velocity"][has].all()
        assert not batch.series_mask["position"][~has].any()
        middle = batch.t_s[has][:, None] + 0.1 * torch.arange(5) + 0.04
        np.testing.assert_allclose(wheel[has].numpy(), middle.numpy(), atol=0.011)
        np.testing.assert_allclose(position[has, :, 1].numpy(), -middle.numpy(), atol=0.002)
    with pytest.raises(UserError, match="no selected session has a series 'whisker': choose one of position, whe"):
        WindowDataset(tmp_path / "data.zarr", series=("whisker",))
