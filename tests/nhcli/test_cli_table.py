"""Tables fit the terminal they are read in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhcli.table import LEAST, cell, cut, draw, fit

IDS = ["005c02ac-7d11-5249-a301-23993523d6be", "16d6d04c-2673-561f-b3c0-255abc24c3d9"]
NAMES = ["session_id", "source", "subject", "n_units", "n_spikes"]
IS_NUMBER = [False, False, False, True, True]
ROWS = [(IDS[0], "nwb", "a subject of many words", 94, 18573), (IDS[1], "nwb", None, 105, 123456789)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_longer_than_the_terminal_and_no_number_is_cut(width) -> None:
    text, left_out = draw(NAMES, IS_NUMBER, ROWS, width)
    lines = text.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert list(left_out) == NAMES[len(NAMES) - len(left_out) :]
    for name, number in (("n_units", "105"), ("n_spikes", "123456789")):
        assert (number in text) == (name not in left_out)
    assert text.count("nwb") == (0 if "source" in left_out else 2)


def test_without_a_terminal_nothing_is_cut() -> None:
    text, left_out = draw(NAMES, IS_NUMBER, ROWS, None)
    assert all(str(value) in text for row in ROWS for value in row if value is not None)
    assert not left_out
    assert draw(["n"], [True], [], 80)[0].split() == ["n", "─"]


def test_a_cut_text_keeps_its_start_and_its_end() -> None:
    assert cut(IDS[0], 12) == "005c0…23d6be"
    assert cut("short", 12) == "short"


def test_a_cell_is_one_line_and_moves_no_cursor() -> None:
    assert cell("two\nlines\x1b[2J") == "two lines [2J"
    assert cell(0.123456789) == "0.12346"


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=8), st.integers(LEAST, 120))
def test_a_fit_is_the_widest_there_is(columns, width) -> None:
    widths, is_number = [w for w, _ in columns], [n for _, n in columns]
    found = fit(widths, is_number, width)

    def total(n_columns, n_chars):
        cells = [w if n else min(w, n_chars) for w, n in columns[:n_columns]]
        return sum(cells) + 2 * (n_columns - 1)

    assert found.n_columns == 1 or total(found.n_columns, found.n_chars) <= width
    if found.n_columns < len(columns):
        assert total(found.n_columns + 1, LEAST) > width
