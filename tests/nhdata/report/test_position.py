"""Where an animal was, against a count by hand."""

import numpy as np
import pytest

from nhdata.report import position as module
from nhdata.report.position import position
from nhdata.report.session_panels import session_panels


def test_seconds_are_spent_where_the_samples_are() -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(5000) * 0.025
    place = np.cumsum(rng.normal(size=(5000, 2)), axis=0)
    place[100:140] = np.nan
    made = position("position", "cm", time_s, place)
    assert made is not None
    assert made.known == pytest.approx(4960 / 5000)
    assert made.occupancy_s.sum() == pytest.approx(4960 * 0.025)
    assert max(made.occupancy_s.shape) <= module.N_CELLS + 1
    widths = [np.diff(edges) for edges in (made.x_edges, made.y_edges)]
    np.testing.assert_allclose(np.concatenate(widths), widths[0][0])  # squares
    row, column = np.unravel_index(np.argmax(made.occupancy_s), made.occupancy_s.shape)
    inside = [
        (edges[k] <= values) & (values < edges[k + 1])
        for edges, k, values in ((made.x_edges, column, place[:, 0]), (made.y_edges, row, place[:, 1]))
    ]
    assert made.occupancy_s[row, column] == pytest.approx(np.sum(inside[0] & inside[1]) * 0.025)


def test_the_path_is_thinned_and_broken_where_samples_are_missing(monkeypatch) -> None:
    monkeypatch.setattr(module, "N_PATH", 50)
    place = np.stack([np.arange(200.0), np.zeros(200)], axis=1)
    place[77:120] = np.nan
    made = position("position", "cm", np.arange(200.0), place)
    assert made is not None
    assert np.isnan(made.x).sum() == np.isnan(made.y).sum() == np.isnan(made.time_s).sum() == 1
    (gap,) = np.flatnonzero(np.isnan(made.x))
    assert made.x[gap - 1] < 77 < 120 <= made.x[gap + 1]
    assert made.x.size <= 51


@pytest.mark.parametrize("place", [np.full((5, 2), np.nan), np.array([[1.0, np.nan]] * 4 + [[1, 1]])])
def test_no_place_is_no_position(place) -> None:
    assert position("position", "cm", np.arange(5.0), place) is None


def test_an_animal_that_stays_has_one_cell() -> None:
    made = position("position", "cm", np.arange(3.0), np.ones((3, 3)))
    assert made is not None
    assert made.occupancy_s.sum() == 3.0


def test_a_session_shows_the_position_among_its_signals(report_store) -> None:
    p = session_panels(report_store.session("evil"))
    assert p.position is not None
    assert p.position.name == "position"
    assert {one.name: one.shape for one in p.signals} == {"wheel": (2000,), "pose": (10, 2), "position": (500, 2)}
    (trials,) = p.intervals
    assert (trials.n, trials.start_s, trials.stop_s, trials.length_s) == (3, 3.0, 14.0, 2.0)
