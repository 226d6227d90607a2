"""Splits, windows and batches as pure functions of a seed and an epoch."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhcatalog.errors import UserError
from nhdata.features.bins import covering_bins, whole_bins
from nhdata.features.correlogram import autocorrelogram
from nhdata.features.trains import spike_trains
from nhdata.loading import plan as plan_module
from nhdata.loading.batches import BySize
from nhdata.loading.mix import Mix
from nhdata.loading.plan import EpochPlan, Weights, plan_epoch
from nhdata.loading.session_plan import SessionPlan, WindowShape
from nhdata.loading.splits import split_span

Facts = tuple[list[tuple[int, int]], list[WindowShape], list[int]]


def epoch_of(spans: list[tuple[int, int]], shapes: list[WindowShape], n_units: list[int], **options: Any) -> EpochPlan:
    """The plan of an epoch over one stretch of each session."""
    sessions = [SessionPlan(np.array([span]), shape, n) for span, shape, n in zip(spans, shapes, n_units, strict=True)]
    return plan_epoch(sessions, batches=BySize(options.pop("batch_size")), **options)


SPLITS = ("train", "valid", "test")
TICKS = st.integers(0, 2**32 - 2)


@pytest.mark.parametrize(
    ("span_s", "bin_s", "n_bins"), [(0.5, 0.02, 25), (0.3, 0.1, 3), (1, 1, 1), (0.7, 0.007, 100), (1e-3, 1e-6, 1000)]
)
def test_whole_bins_counts_decimals_as_typed(span_s: float, bin_s: float, n_bins: int) -> None:
    assert whole_bins("horizon_s", span_s, bin_s) == n_bins


@pytest.mark.parametrize(
    ("span_s", "bin_s", "remedy"),
    [
        (0.25, 0.02, "use 0.24 or 0.26"),
        (0.01, 0.02, "use 0.02"),
        (1.0, 0.3, "use 0.9 or 1.2"),
        (0.0, 0.02, "both must be positive"),
        (0.5, -0.02, "both must be positive"),
        (float("nan"), 0.02, "both must be positive"),
        (float("inf"), 0.02, "both must be positive"),
        (0.5, float("inf"), "both must be positive"),
    ],
)
def test_whole_bins_names_what_is_possible(span_s: float, bin_s: float, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy) as error:
        whole_bins("horizon_s", span_s, bin_s)
    assert f"horizon_s={span_s}" in error.value.problem


@pytest.mark.parametrize(("span_s", "bin_s", "n_bins"), [(0.7, 0.1, 7), (0.1, 1 / 30, 3), (0.01, 1 / 30000, 300)])
def test_correlograms_and_windows_agree_on_what_a_whole_number_of_bins_is(
    span_s: float, bin_s: float, n_bins: int
) -> None:
    trains = spike_trains(
        np.array([0, 1], np.uint32), np.zeros(2, np.uint16), n_units=1, tick_hz=30000.0, pieces=[(0, 60000)]
    )
    assert whole_bins("window_s", span_s, bin_s) == n_bins
    assert autocorrelogram(trains, bin_s, span_s).shape == (1, n_bins)
    with pytest.raises(UserError, match=r"window_s=0\.25 is 12\.5 bins of 0\.02 s"):
        autocorrelogram(trains, 0.02, 0.25)


@pytest.mark.parametrize(("span_s", "n_bins"), [(0.14, 7), (0.28, 14), (0.56, 28), (1.12, 56), (0.141, 8), (0.001, 1)])
def test_bins_that_cover_a_span_are_counted_without_rounding(span_s: float, n_bins: int) -> None:
    assert covering_bins(span_s, 0.02) == n_bins


@pytest.mark.parametrize("weights", ["uniform", "spikes"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_plan_looks_at_each_session_a_fixed_number_of_times(
    weights: Weights, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[SessionPlan] = []
    group = plan_module._group
    monkeypatch.setattr(plan_module, "_group", lambda session: (looks.append(session), group(session))[1])
    per_session = []
    for n in (20, 80):
        facts = [
            SessionPlan(np.array([[0, 40]]), WindowShape(10, 10), 1 + k, n_spikes=Weight(5), n_ticks=40)
            for k in range(n)
        ]
        looks.clear()
        Weight.sums = 0
        plan_epoch(
            facts, seed=0, epoch=0, shuffle=shuffle, batches=BySize(4), mix=Mix(1, 2.0),
            weights=weights if shuffle else "uniform",
        )  # fmt: skip
        per_session.append((len(looks) / n, round(Weight.sums / n)))
    assert per_session[0] == per_session[1]


class Weight(int):
    """A number of spikes that counts how often it is added to a sum."""

    sums = 0

    def __radd__(self, other: int) -> int:
        Weight.sums += 1
        return int(other) + int(self)

    def __mul__(self, other: int) -> "Weight":
        return Weight(int(self) * int(other))


@given(n_ticks=TICKS, gap=st.integers(0, 2**31))
def test_splits_keep_their_distance(n_ticks: int, gap: int) -> None:
    spans = [split_span(name, n_ticks, gap) for name in SPLITS]
    assert split_span("all", n_ticks, gap) == (0, n_ticks)
    assert spans[0][0] == 0
    assert spans[2][1] == n_ticks
    for start, stop in spans:
        assert 0 <= start <= stop <= n_ticks
    for before, after in pairwise(spans):
        assert after[0] - before[1] >= gap or after[0] == after[1]


@given(n_ticks=TICKS, gap=st.integers(0, 2**31), reference=TICKS)
def test_the_rest_begins_a_gap_after_the_reference(n_ticks: int, gap: int, reference: int) -> None:
    known, rest = (split_span(name, n_ticks, gap, reference) for name in ("reference", "rest"))
    assert known == (0, min(reference, n_ticks))
    assert rest == (min(reference + gap, n_ticks), n_ticks)


def test_splits_that_are_none() -> None:
    with pytest.raises(UserError, match="unknown split 'validation': choose one of train, valid, test, all"):
        split_span("validation", 100, 1)
    with pytest.raises(UserError, match="split 'rest' needs the length of the reference: give reference_s"):
        split_span("rest", 100, 1)


@st.composite
def sessions(draw: st.DrawFn) -> Facts:
    spans, shapes, n_units = [], [], []
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, 500))
        spans.append((start, start + draw(st.integers(0, 400))))
        shapes.append(WindowShape(draw(st.integers(1, 40)), draw(st.integers(1, 40))))
        n_units.append(draw(st.integers(1, 300)))
    return spans, shapes, n_units


def by_session(plan: EpochPlan, number: int) -> list[int]:
    return sorted(plan.windows[plan.windows[:, 0] == number, 1].tolist())


@given(sessions(), st.integers(1, 9), st.integers(-(2**70), 2**70), st.integers(0, 99), st.booleans())
def test_every_window_lies_in_its_span(
    given_sessions: Facts,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
) -> None:
    spans, shapes, n_units = given_sessions
    options = {"batch_size": batch_size, "seed": seed, "shuffle": shuffle}
    plan = epoch_of(spans, shapes, n_units, epoch=epoch, **options)
    for number, ((start, stop), shape) in enumerate(zip(spans, shapes, strict=True)):
        marks = by_session(plan, number)
        assert all(b - a == shape.horizon for a, b in pairwise(marks)), "horizons lie side by side, none twice"
        room = stop - start - shape.history - shape.horizon
        if marks:
            assert marks[0] - shape.history >= start
            assert marks[-1] + shape.horizon <= stop
            assert room - (marks[-1] - marks[0]) < shape.horizon * (2 if shuffle else 1), "no window more would fit"
        else:
            assert room < (2 * shape.horizon - 1 if shuffle else 0)
    sizes = np.diff(plan.edges)
    assert sizes.sum() == len(plan.windows)
    assert np.all((sizes >= 1) & (sizes <= batch_size))
    again = epoch_of(spans, shapes, n_units, epoch=epoch + 1, **options)
    assert len(again.windows) == len(plan.windows)
    assert len(again.edges) == len(plan.edges)
    for k in range(len(sizes)):
        units = [n_units[s] for s in plan.batch(k, 0, 1)[:, 0]]
        if shuffle:
            assert max(units) < 2 * min(units), "a batch holds sessions of similar size only"
        else:
            assert len(set(plan.batch(k, 0, 1)[:, 0])) == 1


SPANS, SHAPES, N_UNITS = [(0, 1000), (100, 700), (0, 90)], [WindowShape(40, 50), WindowShape(50, 100)] * 2, [9, 8, 30]


def plan(seed: int = 0, epoch: int = 0, shuffle: bool = True) -> EpochPlan:
    return epoch_of(SPANS, SHAPES[:3], N_UNITS, batch_size=4, seed=seed, epoch=epoch, shuffle=shuffle)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first = plan(3, 5)
    assert np.array_equal(first.windows, plan(3, 5).windows)
    assert np.array_equal(first.edges, plan(3, 5).edges)
    for other in (plan(3, 6), plan(4, 5), plan(5, 3)):
        assert not np.array_equal(first.windows, other.windows)
    assert len({by_session(plan(0, epoch), 0)[0] for epoch in range(30)}) > 10, "offsets differ between epochs"
    assert np.array_equal(plan(0, 0, shuffle=False).windows, plan(9, 9, shuffle=False).windows)


def test_seeds_that_no_uint64_holds_are_seeds_too() -> None:
    orders = {plan(seed).windows.tobytes() for seed in (-1, -2, -3, 2**63, 2**63 + 1)}
    assert len(orders) == 5


def test_windows_of_one_small_case() -> None:
    """Written down once: a change of order would break every resumed run and every published split."""
    one = epoch_of([(0, 60), (0, 50)], [WindowShape(10, 10)] * 2, [3, 2], batch_size=2, seed=7, epoch=1, shuffle=True)
    assert [one.batch(step, 1, 2).tolist() for step in range(one.n_steps(2, False))] == [[[0, 27], [1, 28]], [[1, 38]]]
    assert [one.batch(step, 0, 2).tolist() for step in range(one.n_steps(2, False))] == [
        [[1, 18], [0, 17]],
        [[0, 47], [0, 37]],
    ]
    plain = epoch_of(
        [(0, 60), (5, 40)], [WindowShape(10, 10)] * 2, [3, 2], batch_size=3, seed=7, epoch=1, shuffle=False
    )
    assert plain.windows.tolist() == [[0, 10], [0, 20], [0, 30], [0, 40], [0, 50], [1, 15], [1, 25]]
    assert plain.edges.tolist() == [0, 3, 5, 7]


def test_sessions_are_mixed_within_a_batch() -> None:
    one = epoch_of([(0, 10_000)] * 4, [WindowShape(10, 10)] * 4, [5] * 4, batch_size=16, seed=0, epoch=0, shuffle=True)
    kinds = [len(set(one.batch(k, 0, 1)[:, 0])) for k in range(len(one.edges) - 1)]
    assert np.mean(kinds) > 3.5


@given(st.integers(0, 40), st.integers(1, 7), st.booleans(), st.integers(0, 45))
def test_ranks_get_equal_numbers(n_batches: int, world_size: int, drop_last: bool, done: int) -> None:
    one = EpochPlan(
        np.column_stack([np.zeros(n_batches), np.arange(n_batches)]).astype(np.int64), np.arange(n_batches + 1)
    )
    n_steps = one.n_steps(world_size, drop_last, done)
    seen = [one.batch(s, r, world_size, done)[:, 1].tolist() for s in range(n_steps) for r in range(world_size)]
    flat = [mark for marks in seen for mark in marks]
    left = list(range(done, n_batches))
    assert flat == left[: len(flat)]
    assert len(left) - len(flat) < (world_size if drop_last else 1)
    assert drop_last <= all(seen), "no rank gets an empty batch"
