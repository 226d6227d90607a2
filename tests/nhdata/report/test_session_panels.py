"""What a session's report shows, against NumPy on the whole spike train."""

from dataclasses import replace

import numpy as np
import pytest

from nhdata.features.trains import spike_trains
from nhdata.report import session_panels as panels
from nhdata.report.draw_places import places_panels
from nhdata.report.session_panels import (
    ISI_EDGES_S,
    N_COLUMNS,
    N_DRIFT,
    by_place,
    drift,
    first_spikes,
    grid_counts,
    raster,
    rate_map,
    session_panels,
    unit_grid,
)
from nhdata.report.signals import envelope


@pytest.fixture(scope="module")
def shown(report_store):
    return session_panels(report_store.session("sim"))


@pytest.fixture(scope="module")
def spikes(report_store):
    return report_store.session("sim").spikes()


def test_rates_over_the_session(shown, spikes) -> None:
    times_s, unit = spikes
    edges_s = np.linspace(0, 120, N_COLUMNS + 1)
    counts = np.array([np.histogram(times_s[unit == u], edges_s)[0] for u in shown.order])
    np.testing.assert_allclose(shown.rates.edges_s, edges_s)
    np.testing.assert_allclose(shown.rates.relative, counts / counts.mean(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(shown.rates.population_hz, counts.mean(axis=0) / 0.2)
    np.testing.assert_allclose(shown.rate_hz, np.bincount(unit) / 120)


def test_more_units_than_rows_are_averaged(monkeypatch) -> None:
    monkeypatch.setattr(panels, "MAX_ROWS", 2)
    counts = np.array([[1, 3], [4, 4], [0, 0], [2, 0], [0, 0]])  # means 2, 4, 0, 1, 0
    made = rate_map(counts, 5.0, 4.0)
    assert made.units_per_row == 3
    np.testing.assert_allclose(made.relative, [[0.75, 1.25], [2.0, 0.0]])  # silent units have no say
    np.testing.assert_allclose(made.edges_s, [5, 7, 9])
    np.testing.assert_allclose(made.population_hz, [0.7, 0.7])


def test_raster_holds_every_spike_of_its_window(shown, spikes) -> None:
    times_s, unit = spikes
    r = shown.raster
    inside = (times_s >= r.start_s) & (times_s < r.stop_s)
    assert r.stop_s - r.start_s == pytest.approx(30)
    np.testing.assert_allclose(r.time_s, times_s[inside], rtol=1e-6)
    np.testing.assert_array_equal(shown.order[r.row], unit[inside])


def test_a_dense_raster_is_shorter_and_still_whole(report_store, spikes, monkeypatch) -> None:
    monkeypatch.setattr(panels, "RASTER_SPIKES", 500)
    times_s, _ = spikes
    r = raster(report_store.session("sim"), None, np.arange(20))
    assert r.start_s == 60
    assert 0 < r.time_s.size <= 500
    assert r.time_s.size == np.sum((times_s >= r.start_s) & (times_s < r.stop_s))


def test_grid_shows_intervals_and_lags_of_units_from_rare_to_frequent(shown, spikes) -> None:
    times_s, unit = spikes
    assert list(np.diff(shown.rate_hz[shown.grid.unit]) >= 0) == [True] * (shown.grid.unit.size - 1)
    for k, u in enumerate(shown.grid.unit):
        ticks = np.round(times_s[unit == u] * 30000)
        interval_s = np.diff(ticks) / 30000
        np.testing.assert_allclose(
            shown.grid.isi[k], np.histogram(interval_s, ISI_EDGES_S)[0] / interval_s.size, atol=2 / interval_s.size
        )
        lag_ms = (ticks[None] - ticks[:, None])[np.triu_indices(ticks.size, 1)] / 30
        expected = np.histogram(np.floor(lag_ms + 1e-9), np.arange(101))[0]
        expected[-1] -= np.sum(np.floor(lag_ms + 1e-9) == 100)  # NumPy's last bin is closed
        np.testing.assert_allclose(shown.grid.lag_hz[k], expected / ticks.size / 0.001)


def test_a_unit_of_very_many_pairs_is_counted_from_its_first_spikes() -> None:
    tick, unit = np.arange(0, 30_000, 30, dtype=np.uint32), np.zeros(1000, np.uint16)  # 1 kHz for a second
    trains = spike_trains(tick, unit, n_units=1, tick_hz=30_000.0, pieces=[(0, 30_000)])
    n_pairs = 1000 * 99 - 99 * 100 // 2
    assert first_spikes(trains, n_pairs).n_spikes == 1000
    assert first_spikes(trains, n_pairs // 10).n_spikes == 100


def test_a_million_spikes_on_one_tick_are_shown_in_no_time() -> None:
    n = 1_000_000
    trains = spike_trains(
        np.full(n, 7, np.uint32), np.zeros(n, np.uint16), n_units=1, tick_hz=30_000.0, pieces=[(0, 30_000)]
    )
    grid = unit_grid(trains, np.array([0]))
    assert grid.isi.sum() == 0  # all intervals are shorter than the first bin
    assert grid.lag_hz[0, 0] > 0
    assert grid.lag_hz[0, 1:].sum() == 0


def test_a_clock_too_slow_for_lags_of_a_millisecond_has_none() -> None:
    trains = spike_trains(
        np.arange(200, dtype=np.uint32), np.zeros(200, np.uint16), n_units=1, tick_hz=250.0, pieces=[(0, 200)]
    )
    grid = unit_grid(trains, np.array([0]))
    assert np.isnan(grid.lag_hz).all()
    assert grid.isi.sum() == pytest.approx(1)


def test_parts_of_a_session_are_exact_at_their_edges() -> None:
    tick, unit = np.arange(1000, dtype=np.uint32), (np.arange(1000) % 2).astype(np.uint16)
    for n_parts in (1, 3, 7, 999, 1000, 2000):
        made = grid_counts(tick, unit, 3, 1000, n_parts)
        expected = np.zeros((3, n_parts), np.int64)
        np.add.at(expected, (unit, tick.astype(int) * n_parts // 1000), 1)
        np.testing.assert_array_equal(made, expected)


def test_drift(shown, spikes) -> None:
    times_s, unit = spikes
    counts = np.array([np.histogram(times_s[unit == u], np.linspace(0, 120, N_DRIFT + 1))[0] for u in range(20)])
    np.testing.assert_allclose(shown.drift.first_hz, counts[:, :4].sum(axis=1) / 24)
    np.testing.assert_allclose(shown.drift.last_hz, counts[:, 16:].sum(axis=1) / 24)
    steady = counts[(counts > 0).all(axis=1)]
    assert shown.drift.n_steady == len(steady) > 3
    change = np.log2(steady / steady.mean(axis=1)[:, None])
    np.testing.assert_allclose(shown.drift.quantile[1], np.median(change, axis=0))


def test_drift_of_nothing_is_unknown() -> None:
    made = drift(np.zeros((3, N_DRIFT), np.int64), 0.0, 10.0)
    assert made.n_steady == 0
    assert np.isnan(made.quantile).all()


def test_envelope_keeps_extremes_and_gaps() -> None:
    time_s = np.array([0.0, 0.5, 0.9, 1.0, 3.5, 4.0, -1.0, 3.6])
    value = np.array([1.0, -2.0, np.nan, 5.0, 7.0, 100.0, 100.0, 6.0])
    low, high = envelope(time_s, value, np.arange(5.0))
    np.testing.assert_array_equal(low, [-2, 5, np.nan, 6])
    np.testing.assert_array_equal(high, [1, 5, np.nan, 7])


def test_order_is_by_probe_then_depth_then_region() -> None:
    units = {"probe": np.array(["b", "a", "a", "a"]), "depth_um": np.array([1.0, np.nan, 9.0, 3.0])}
    assert list(by_place(units, 4)) == [3, 2, 1, 0]
    assert list(by_place({"probe": np.array(["a"] * 3), "region": np.array(["z", "x", "y"])}, 3)) == [1, 2, 0]


def test_movement_comes_first_and_wide_signals_not_at_all(shown) -> None:
    assert [one.name for one in shown.series] == ["wheel_velocity", "wheel_position"]


def test_a_silent_session_has_panels_too(report_store) -> None:
    shown = session_panels(report_store.session("silent"))
    assert shown.grid.unit.size == 0
    assert np.isnan(shown.rates.relative).all()
    assert shown.raster.time_s.size == 0


def test_without_depths_electrodes_are_on_a_map(shown) -> None:
    grid_um = {"x_um": np.arange(20.0) % 5 * 50, "y_um": np.arange(20.0) // 5 * 50}
    units = {name: column for name, column in shown.units.items() if name != "depth_um"}
    titles = [panel.title for panel in places_panels(replace(shown, units=units | grid_um))]
    assert titles == ["Places", "Units by region"]
    few_um = {name: column // 100 for name, column in grid_um.items()}
    assert [panel.title for panel in places_panels(replace(shown, units=units | few_um))] == ["Units by region"]
    assert [panel.title for panel in places_panels(shown)] == ["Depth by region"]
