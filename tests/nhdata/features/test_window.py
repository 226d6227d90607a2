"""The first good minute of a recording."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhdata.features.window import good_window


def first_minute(invalid, stop_s=300.0, start_s=0.0):
    a, b = np.array(invalid, float).reshape(-1, 2).T
    return good_window(start_s, stop_s, 60.0, a, b)


@pytest.mark.parametrize(
    ("invalid", "window"),
    [
        ([], (0, 60)),
        ([(60, 70)], (0, 60)),
        ([(59, 70)], (70, 130)),
        ([(-5, 2)], (2, 62)),
        ([(70, 80), (20, 30), (25, 75)], (80, 140)),
        ([(40, 250)], (250, 300)),  # 40 s, then 50 s: the longest
        ([(50, 250)], (0, 50)),  # the earliest of equals
        ([(0, 300)], (0, 60)),  # nothing is valid: as if nothing were stated
        ([(100, np.nan)], (0, 60)),
        ([(10, np.nan)], (0, 10)),
        ([(np.nan, 10)], (10, 70)),
        ([(30, 20)], (0, 60)),  # ends before it starts: says nothing
        ([(20, 20)], (0, 60)),
        ([(400, 500)], (0, 60)),
    ],
)
def test_cases(invalid, window):
    assert first_minute(invalid) == window


def test_a_short_session_is_its_own_window():
    assert first_minute([], stop_s=12.5) == (0, 12.5)
    assert first_minute([], stop_s=0.25) == (0, 0.25)
    assert first_minute([(3, 4)], stop_s=12.5, start_s=2.0) == (4, 12.5)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 90)), max_size=6))
def test_equals_a_search_second_by_second(spans):
    invalid = [(a, a + n) for a, n in spans]
    good = np.ones(200, bool)
    for a, b in invalid:
        good[a:b] = False
    start, stop = good_window(0.0, 200.0, 60.0, *np.array(invalid, float).reshape(-1, 2).T)
    runs = [next((n for n in range(61) if n == 60 or k + n >= 200 or not good[k + n]), 0) for k in range(200)]
    assert stop - start == (max(runs) or 60)
    assert start == (int(np.argmax(runs)) if max(runs) else 0)
