"""Windows cut out of spikes, against plain Python on exact fractions."""

from collections.abc import Callable
from fractions import Fraction
from math import ceil, exp, floor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nhcatalog.errors import UserError
from nhdata.loading import WindowBatch, WindowDataset
from nhdata.loading.collate import ema_decay

TICK_RATES_HZ = (30000.0, 24414.0625, 1e6, 30000.3)
TAU_S = (0.01, 0.2, 3.2)
Make = Callable[..., WindowDataset]
fixtures_are_functions = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def one_window(windows: WindowDataset, mark: int, session: int = 0) -> WindowBatch:
    return windows.collate(np.array([[session, mark]], np.int64))


def reference(train: Any, windows: WindowDataset, mark: int) -> tuple[list[tuple[float, int]], Any, Any, Any]:
    """Tokens, history, counts and ema by the definition, spike by spike."""
    width = Fraction(str(windows.bin_s)) * Fraction(str(train.tick_hz))
    n_past = min(floor(mark / width), round(20 / windows.bin_s))
    history = np.zeros((windows.n_history, len(train.rows)), np.int16)
    counts = np.zeros((windows.n_horizon, len(train.rows)), np.int16)
    ema = np.zeros((len(windows.ema_tau_s), len(train.rows)))
    norm = [sum(exp(-k * windows.bin_s / tau) for k in range(n_past)) * windows.bin_s for tau in windows.ema_tau_s]
    tokens = []
    for tick, unit in sorted(zip(train.tick, train.unit, strict=True), key=lambda spike: spike[0]):
        if unit not in train.rows:
            continue
        column = list(train.rows).index(unit)
        k = floor((tick - mark) / width)
        if -windows.n_history <= k < 0:
            tokens.append((np.float32((tick - mark) / train.tick_hz), column))
            history[k, column] += 1
        if 0 <= k < windows.n_horizon:
            counts[k, column] += 1
        if -n_past <= k < 0:
            for m, tau in enumerate(windows.ema_tau_s):
                ema[m, column] += exp((k + 1) * windows.bin_s / tau) / norm[m]
    return tokens, history, counts, ema


@st.composite
def cases(draw: st.DrawFn, train: Any) -> tuple[Any, dict[str, Any], int]:
    """Spikes thick about a mark and thickest on the edges of its bins."""
    tick_hz, bin_s = draw(st.sampled_from(TICK_RATES_HZ)), draw(st.sampled_from([0.02, 0.003, 0.1]))
    n_history, n_horizon = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    width = Fraction(str(bin_s)) * Fraction(str(tick_hz))
    mark = draw(st.integers(ceil(n_history * width), ceil(3 * tick_hz)))
    edges = st.integers(-n_history - 1, n_horizon + 1).map(lambda k: mark + ceil(k * width))
    near = st.integers(mark - ceil(6 * width), mark + ceil(6 * width))
    tick = st.one_of(edges, edges.map(lambda t: t - 1), near, st.integers(0, mark)).map(lambda t: max(t, 0))
    n_units = draw(st.integers(1, 6))
    spikes = draw(st.lists(st.tuples(tick, st.integers(0, n_units - 1)), max_size=60))
    rows = draw(st.lists(st.integers(0, n_units - 1), min_size=1, unique=True).map(sorted))
    made = train([t for t, _ in spikes], [u for _, u in spikes], rows, tick_hz, ceil(4 * tick_hz))
    digits = {"history_s": round(n_history * bin_s, 6), "horizon_s": round(n_horizon * bin_s, 6), "bin_s": bin_s}
    return made, digits, mark


@given(data=st.data())
@fixtures_are_functions
def test_a_window_is_what_its_definition_says(data: st.DataObject, train: Any, windows_over: Make) -> None:
    spikes, spans, mark = data.draw(cases(train))
    windows = windows_over(spikes, ema_tau_s=TAU_S, **spans)
    batch = one_window(windows, mark)
    tokens, history, counts, ema = reference(spikes, windows, mark)
    assert sorted(zip(batch.token_time_s.tolist(), batch.token_unit.tolist(), strict=True)) == sorted(tokens)
    assert batch.cu_seqlens.tolist() == [0, len(tokens)]
    assert torch.all(batch.token_time_s[1:] >= batch.token_time_s[:-1])
    assert torch.all(batch.token_time_s < 0)
    np.testing.assert_array_equal(batch.history[0], history)
    np.testing.assert_array_equal(batch.counts[0], counts)
    np.testing.assert_allclose(batch.ema_hz[0], ema, rtol=2e-5, atol=1e-6)
    assert batch.history.sum() == len(tokens), "every token is counted in the history, and nothing else is"
    for averages in (TAU_S, ()):
        bare = one_window(windows_over(spikes, ema_tau_s=averages, count_history=False, **spans), mark)
        assert bare.history.shape == (1, 0, len(spikes.rows))
        for name in ("token_time_s", "token_unit", "cu_seqlens", "counts", *(["ema_hz"] if averages else [])):
            assert torch.equal(getattr(bare, name), getattr(batch, name)), name


@given(data=st.data())
@fixtures_are_functions
def test_nothing_at_or_after_the_mark_is_seen(data: st.DataObject, train: Any, windows_over: Make) -> None:
    spikes, spans, mark = data.draw(cases(train))
    before = [(t, u) for t, u in zip(spikes.tick, spikes.unit, strict=True) if t < mark]
    later = st.tuples(st.integers(mark, spikes.n_ticks - 1) | st.just(mark), st.sampled_from(spikes.rows))
    changed = before + data.draw(st.lists(later, max_size=20))
    other = train([t for t, _ in changed], [u for _, u in changed], spikes.rows, spikes.tick_hz, spikes.n_ticks)
    one, two = (one_window(windows_over(s, ema_tau_s=TAU_S, **spans), mark) for s in (spikes, other))
    for name in ("token_time_s", "token_unit", "cu_seqlens", "history", "ema_hz"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("tick_hz", TICK_RATES_HZ)
def test_edges_are_half_open(tick_hz: float, train: Any, windows_over: Make) -> None:
    """The first and last ticks inside and outside of a history of 0.1 s and a horizon of 0.3 s."""
    mark = int(tick_hz)
    history, horizon = (floor(Fraction(str(tick_hz)) * k / 10) for k in (1, 3))
    whole = Fraction(str(tick_hz)) * 3 % 10 == 0
    first_after = mark + horizon + (0 if whole else 1)
    ticks = [mark - history - 1, mark - history, mark - 1, mark, first_after - 1, first_after]
    windows = windows_over(
        train(ticks, range(6), range(6), tick_hz, int(2 * tick_hz)), history_s=0.1, horizon_s=0.3, bin_s=0.1
    )
    batch = one_window(windows, mark)
    assert batch.token_unit.tolist() == [1, 2]
    assert batch.history.sum(1).tolist() == [[0, 1, 1, 0, 0, 0]]
    assert batch.counts[0].tolist() == [[0, 0, 0, 1, 0, 0], [0] * 6, [0, 0, 0, 0, 1, 0]]


@pytest.mark.parametrize("tick_hz", TICK_RATES_HZ)
@pytest.mark.parametrize("others", [[], [2]], ids=["all units", "some units"])
def test_spikes_on_every_edge_are_counted_once(
    others: list[int], tick_hz: float, train: Any, windows_over: Make
) -> None:
    """1, 2, 3 … spikes of one unit at each k · 0.02 s from -0.5 s on, and as many of another a tick before."""
    mark, width = int(tick_hz), Fraction("0.02") * Fraction(str(tick_hz))
    edge = np.repeat([mark + ceil(k * width) for k in range(-25, 26)], range(1, 52))
    ticks = [*edge, *(edge - 1), *(mark for _ in others)]
    spikes = train(ticks, [*[0] * len(edge), *[1] * len(edge), *others], [0, 1], tick_hz, int(2 * tick_hz))
    batch = one_window(windows_over(spikes), mark)
    found = torch.cat([batch.history[0], batch.counts[0]]).tolist()
    assert found == [[k, k + 1] for k in range(1, 51)]


@given(st.lists(st.integers(0, 59_999), max_size=300), st.integers(15_000, 45_000))
@fixtures_are_functions
def test_bins_hold_every_spike_of_the_horizon_once(train: Any, windows_over: Make, ticks: list[int], mark: int) -> None:
    batch = one_window(windows_over(train(ticks, [0] * len(ticks), [0])), mark)
    assert batch.counts.sum() == sum(mark <= t < mark + 15_000 for t in ticks)
    assert batch.history.sum() == len(batch.token_unit) == sum(mark - 15_000 <= t < mark for t in ticks)


def test_a_batch_keeps_its_windows_apart(train: Any, windows_over: Make) -> None:
    """Two sessions of one and of two selected units, one of them with a clock of its own, and an empty window."""
    a = train([29_000, 29_500, 31_000], [4, 1, 4], [4])
    b = train([900_000, 1_000_000, 1_000_001, 1_100_000], [0, 2, 5, 5], [2, 5], 1e6, 2_000_000, 100.0)
    windows = windows_over(a, b, bin_s=0.25, ema_tau_s=(1.0,))
    batch = windows.collate(np.array([[1, 1_000_000], [0, 30_000], [0, 50_000], [1, 1_000_001]], np.int64))
    assert len(batch) == 4
    assert batch.session_id.tolist() == [1, 0, 0, 1]
    assert batch.t_s.tolist() == [101.0, 1.0, 50_000 / 30_000, 101.000001]
    assert batch.unit_id.tolist() == [[1, 2], [0, -1], [0, -1], [1, 2]]
    assert torch.equal(batch.unit_mask, batch.unit_id >= 0)
    assert [windows.unit_ids[k] for k in batch.unit_id[0]] == ["s1/2", "s1/5"]
    assert batch.cu_seqlens.tolist() == [0, 0, 1, 1, 2], "the spike of unit 0 at 0.9 s is of no selected unit"
    assert batch.token_unit.tolist() == [0, 0]
    assert batch.token_time_s.tolist() == [np.float32(-1000 / 30_000), np.float32(-1e-6)]
    assert batch.counts.tolist() == [[[1, 2], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 2], [0, 0]]]
    assert torch.all(batch.ema_hz[1:3, :, 1] == 0), "padding stays empty"


def test_a_batch_of_none(train: Any, windows_over: Make) -> None:
    batch = windows_over(train([], [], [0])).collate(np.empty((0, 2), np.int64))
    assert len(batch) == 0
    assert batch.counts.shape == (0, 25, 0)
    assert batch.cu_seqlens.tolist() == [0]


@pytest.mark.parametrize("place", ["history", "counts"])
def test_counts_never_wrap(place: str, train: Any, windows_over: Make) -> None:
    tick = 29_999 if place == "history" else 30_000
    full = one_window(windows_over(train([tick] * 32_767, [0] * 32_767, [0])), 30_000)
    assert getattr(full, place).max() == 32_767
    with pytest.raises(UserError, match=r"a bin of 0.02 s in session s0 holds more than 32,767 spikes of one unit: "):
        one_window(windows_over(train([tick] * 32_768, [0] * 32_768, [0])), 30_000)


@pytest.mark.parametrize("mark_s", [0.52, 1.0, 7.5, 29.9])
def test_ema_of_a_constant_rate_is_the_rate(mark_s: float, train: Any, windows_over: Make) -> None:
    """Also half a second after the recording began, where most of the time constant lies before it."""
    ticks = np.arange(0, 900_000, 150)  # 200 Hz: 4 in each bin
    windows = windows_over(train(ticks, np.zeros(6000, int), [0], n_ticks=900_000), ema_tau_s=(0.05, 0.8, 12.8))
    np.testing.assert_allclose(one_window(windows, round(mark_s * 30_000)).ema_hz, 200.0, rtol=1e-4)


def test_ema_looks_back_twenty_seconds(train: Any, windows_over: Make) -> None:
    mark = 900_000
    for age, heard in ((600_000, True), (600_001, False)):
        windows = windows_over(train([mark - age], [0], [0], n_ticks=1_000_000), ema_tau_s=(12.8,))
        assert bool(one_window(windows, mark).ema_hz.max() > 0) is heard


@given(
    st.lists(st.floats(1e-3, 100), min_size=1, max_size=4).map(tuple),
    st.floats(1e-3, 0.1),
    st.integers(1, 1000),
)
def test_ema_weights_fall_and_sum_to_their_norm(tau_s: tuple[float, ...], bin_s: float, n_bins: int) -> None:
    decay, norm = ema_decay(tau_s, bin_s, n_bins)
    assert decay.shape == (n_bins, len(tau_s))
    assert norm.shape == (n_bins + 1, len(tau_s))
    assert np.all(np.diff(decay, axis=0) <= 0)
    for n in (1, n_bins):
        np.testing.assert_allclose(decay[:n].sum(0, dtype=np.float64) * bin_s, norm[n], rtol=1e-5)
