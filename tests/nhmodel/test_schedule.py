"""How far training is, and how fast it learns there."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhmodel.threads import usable_threads
from nhmodel.training.schedule import one_cycle, progress

WARMUPS = st.floats(0, 0.99)


@pytest.mark.parametrize(
    ("step", "minutes", "max_minutes", "done"),
    [
        (0, 0.0, None, 0.0),
        (25, 1e9, None, 0.25),
        (25, 1.0, 10.0, 0.25),
        (25, 5.0, 10.0, 0.5),
        (100, 0.0, 10.0, 1.0),
        (5, 99.0, 10.0, 1.0),
    ],
)
def test_progress_is_by_steps_or_by_the_clock(
    step: int, minutes: float, max_minutes: float | None, done: float
) -> None:
    assert progress(step, minutes, 100, max_minutes) == done


@given(warmup=WARMUPS)
def test_the_rate_rises_to_its_peak_at_the_end_of_warmup_and_falls_to_a_hundredth(warmup: float) -> None:
    assert one_cycle(0.0, warmup) == pytest.approx(0.04 if warmup else 1.0)
    assert one_cycle(warmup, warmup) == pytest.approx(1.0)
    assert one_cycle(1.0, warmup) == pytest.approx(0.01)


@given(warmup=WARMUPS, pair=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_rate_has_one_peak(warmup: float, pair: tuple[float, float]) -> None:
    early, late = (one_cycle(done, warmup) for done in sorted(pair))
    assert 0.01 - 1e-12 <= early <= 1 + 1e-12
    if max(pair) <= warmup:
        assert early <= late + 1e-12
    if min(pair) >= warmup:
        assert early >= late - 1e-12


def test_threads_are_the_processors_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(5), raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (50.0, 0.0, 0.0))
    assert usable_threads() == 5
