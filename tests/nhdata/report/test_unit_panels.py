"""What is shown of a unit, against NumPy."""

import numpy as np

from nhdata.report.draw_unit import unit_figures
from nhdata.report.unit_panels import aligned, sweeps, unit_panels


def test_around_trials(report_store) -> None:
    session = report_store.session("sim")
    times_s, unit = session.spikes()
    p = unit_panels(session, 4)
    mine = times_s[unit == 4]
    assert p.n_spikes == mine.size
    np.testing.assert_allclose(p.rate_hz, np.histogram(mine, np.linspace(0, 120, 301))[0] / 0.4)
    start_s = session.intervals()["trials"]["start_s"]
    s = p.sweeps
    assert s.n_moments == start_s.size == s.start_s.size
    for row, moment in enumerate(start_s):
        inside = mine[(mine >= moment - 0.5) & (mine < moment + 2.0)] - moment
        np.testing.assert_allclose(s.offset_s[s.row == row], inside)
    assert np.isclose(s.psth_hz.sum() * 0.05 * start_s.size, s.offset_s.size)
    assert p.columns["cluster_id"] == 4
    assert p.features["rate_hz"] == float(session.features().sel(unit=4, feature="rate_hz"))
    assert len(unit_figures(p)) == 3


def test_without_trials_the_session_is_cut_into_sweeps() -> None:
    times_s = np.arange(100.0, 125.0, 0.5)
    made = sweeps(times_s, None, 100.0, 125.0)
    assert list(made.start_s) == [100, 110, 120]
    assert list(np.bincount(made.row)) == [20, 20, 10]
    assert made.around == "start of each 10 s"


def test_many_trials_are_drawn_in_part_and_counted_in_full() -> None:
    moments = np.arange(1000.0)
    made = sweeps(np.arange(0.25, 1000), {"start_s": np.append(moments, np.nan)}, 0.0, 1000.0)
    assert made.n_moments == 1000
    assert made.start_s.size == 200
    assert (made.start_s[0], made.start_s[-1]) == (0, 999)
    np.testing.assert_allclose(made.psth_hz.sum() * 0.05, 2.0, atol=0.01)


def test_a_silent_unit_and_no_moments() -> None:
    offset_s, row = aligned(np.empty(0), np.array([1.0, 2.0]), 1, 1)
    assert offset_s.size == row.size == 0
    offset_s, row = aligned(np.array([1.0]), np.empty(0), 1, 1)
    assert offset_s.size == row.size == 0
