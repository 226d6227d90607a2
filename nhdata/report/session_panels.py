"""What a session's report shows, as arrays. Reads the session, draws nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bins import count_spikes
from nhdata.features.correlogram import autocorrelogram, pairs_between
from nhdata.features.isi import histogram_of, isi_sums
from nhdata.features.trains import Trains, spike_trains, whole_ticks
from nhdata.report.position import Position
from nhdata.report.signals import Envelope, Signal, Spans, envelopes, first_position, signal, spans
from nhdata.store.rows import unit_names
from nhdata.store.session import Session

N_COLUMNS = 600
MAX_ROWS = 400
RASTER_S = 30.0
RASTER_SPIKES = 30_000
N_DRIFT = 20
GRID_UNITS = 24
GRID_MIN_SPIKES = 100
ISI_EDGES_S = np.logspace(-3, 1, 41)
LAG_BIN_S = 0.001
N_LAGS = 100
MAX_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True)
class RateMap:
    """Rate of every unit, or of neighbours averaged, over equal parts of the session.

    Attributes
    ----------
    edges_s : (C + 1,) float64
        Where the parts begin and end, seconds on the session's clock.
    relative : (R, C) float32
        Rate over the row's own mean; NaN for a silent row.
    units_per_row : int
        Units averaged in a row, at most.
    population_hz : (C,) float64
        Mean rate of a unit.
    """

    edges_s: NDArray[np.float64]
    relative: NDArray[np.float32]
    units_per_row: int
    population_hz: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Raster:
    """Every spike of the half-open window ``[start_s, stop_s)``: `time_s` and `row`, both (n,)."""

    start_s: float
    stop_s: float
    time_s: NDArray[np.float32]
    row: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class UnitGrid:
    """Interval histograms and autocorrelograms of some units.

    Attributes
    ----------
    unit : (G,) int64
        Rows of the units, from rare to frequent.
    isi : (G, 40) float64
        Fraction of the intervals in each bin of `ISI_EDGES_S`.
    lag_hz : (G, 100) float64
        Rate at positive lags in bins of 1 ms, Hz; NaN where a tick is longer than that.
    """

    unit: NDArray[np.int64]
    isi: NDArray[np.float64]
    lag_hz: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """How rates change over the session.

    Attributes
    ----------
    edges_s : (21,) float64
    quantile : (3, 20) float64
        Quartiles over units of log2(rate in the part / mean rate); units that fire in each part only.
    n_steady : int
        Number of these units.
    first_hz, last_hz : (n_units,) float64
        Rates in the first and the last fifth.
    """

    edges_s: NDArray[np.float64]
    quantile: NDArray[np.float64]
    n_steady: int
    first_hz: NDArray[np.float64]
    last_hz: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SessionPanels:
    """All that a session's report shows; `order` (n_units,) sorts units by probe and depth."""

    attrs: dict[str, Any]
    unit_ids: list[str]
    units: dict[str, NDArray[Any]]
    rate_hz: NDArray[np.float64]
    order: NDArray[np.int64]
    rates: RateMap
    raster: Raster
    trials: dict[str, NDArray[Any]] | None
    intervals: list[Spans]
    signals: list[Signal]
    series: list[Envelope]
    position: Position | None
    grid: UnitGrid
    drift: Drift
    features: NDArray[np.float64]


@contextmanager
def reading(session: Session) -> Iterator[None]:
    """What a damaged array raises, as one line that names the session."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        problem = f"session {session.session_id} cannot be read ({said[:200]})"
        raise UserError(problem, "'nhdata validate --deep' says what is damaged; ingest it again") from error


def session_panels(session: Session) -> SessionPanels:
    """Read a session once and reduce it to what a page can show.

    Raises
    ------
    UserError
        If it is damaged.
    """
    with reading(session):
        return _session_panels(session)


def _session_panels(session: Session) -> SessionPanels:
    units = session.units()
    tick, unit = session.read(0, session.n_spikes)
    order = by_place(units, session.n_units)
    n_ticks = max(1, math.ceil(round(session.duration_s * session.tick_hz, 3)))
    trains = spike_trains(tick, unit, n_units=session.n_units, tick_hz=session.tick_hz, pieces=[(0, n_ticks)])
    intervals, series = session.intervals(), session.series()
    trials = intervals.get("trials")
    fine = grid_counts(tick, unit, session.n_units, n_ticks, N_COLUMNS)
    coarse = fine.reshape(session.n_units, N_DRIFT, -1).sum(axis=2)
    return SessionPanels(
        attrs=session.attrs,
        unit_ids=unit_names(session.session_id, units),
        units=units,
        rate_hz=trains.n_spikes / session.duration_s,
        order=order,
        rates=rate_map(fine[order], session.t_start_s, session.duration_s),
        raster=raster(session, trials, order),
        trials=trials,
        intervals=[spans(name, table["start_s"], table["stop_s"]) for name, table in intervals.items()],
        signals=[signal(name, *one) for name, one in series.items()],
        series=envelopes(series, np.linspace(session.t_start_s, session.t_stop_s, N_COLUMNS + 1)),
        position=first_position(series),
        grid=unit_grid(trains, frequent(trains)),
        drift=drift(coarse, session.t_start_s, session.duration_s),
        features=session.features().values[order],
    )


def by_place(units: dict[str, NDArray[Any]], n_units: int) -> NDArray[np.int64]:
    """Order of units by probe, then from deep to shallow; by region where no depth is known."""
    depth = np.asarray(units.get("depth_um", np.full(n_units, np.nan)), float)
    region = np.asarray(units.get("region", np.full(n_units, "")), str)
    probe = np.asarray(units["probe"], str)
    return np.lexsort((np.arange(n_units), region, np.nan_to_num(depth, nan=np.inf), probe))


def grid_counts(
    tick: NDArray[np.uint32], unit: NDArray[np.uint16], n_units: int, n_ticks: int, n_parts: int
) -> NDArray[np.int64]:
    """Spikes of every unit in equal parts of the session, (n_units, n_parts).

    Part k of C holds the ticks t with ``t * C // n_ticks == k``.
    """
    out = np.zeros((n_parts, n_units), np.int64)
    count_spikes(tick, unit, 0, n_ticks, n_parts, out, 2**63 - 1)
    return np.ascontiguousarray(out.T)


def rate_map(counts: NDArray[np.int64], t_start_s: float, duration_s: float) -> RateMap:
    """Rates relative to each row's mean; more than `MAX_ROWS` units are averaged with their neighbours.

    Parameters
    ----------
    counts : (n_units, C) int64
        Spikes of every unit, in the order of the rows, in C equal parts of the session.
    t_start_s, duration_s : float
    """
    n_units, n_parts = counts.shape
    per_row = max(1, math.ceil(n_units / MAX_ROWS))
    mean = counts.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        relative = (counts / mean).astype(np.float32)
    starts = np.arange(0, n_units, per_row)
    if per_row > 1:
        known = ~np.isnan(relative)
        n_known = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
        with np.errstate(invalid="ignore"):
            relative = (np.add.reduceat(np.where(known, relative, 0), starts, axis=0) / n_known).astype(np.float32)
    return RateMap(
        edges_s=t_start_s + np.arange(n_parts + 1) * (duration_s / n_parts),
        relative=relative,
        units_per_row=per_row,
        population_hz=counts.sum(axis=0) / max(n_units, 1) / (duration_s / n_parts),
    )


def raster(session: Session, trials: dict[str, NDArray[Any]] | None, order: NDArray[np.int64]) -> Raster:
    """Every spike of a window from the middle of the session, so short that at most `RASTER_SPIKES` are in it.

    The window begins a second before the first trial of the second half; without trials, at the middle.
    """
    middle_s = session.t_start_s + session.duration_s / 2
    start_s = middle_s
    if trials is not None:
        later = trials["start_s"][trials["start_s"] >= middle_s]
        start_s = float(later.min()) - 1.0 if later.size else middle_s
    start_s = max(session.t_start_s, min(start_s, session.t_stop_s - min(RASTER_S, session.duration_s)))
    stop_s = min(session.t_stop_s, start_s + RASTER_S)
    time_s, unit = session.spikes(start_s, stop_s)
    if time_s.size > RASTER_SPIKES:
        stop_s = float(time_s[RASTER_SPIKES])
        inside = time_s < stop_s
        time_s, unit = time_s[inside], unit[inside]
    row = np.empty(order.size, np.uint16)
    row[order] = np.arange(order.size)
    return Raster(start_s, stop_s, time_s.astype(np.float32), row[unit])


def frequent(trains: Trains) -> NDArray[np.int64]:
    """Up to `GRID_UNITS` units, evenly spaced from rare to frequent among those of `GRID_MIN_SPIKES` spikes or more."""
    ranked = np.argsort(trains.n_spikes, kind="stable")
    ranked = ranked[trains.n_spikes[ranked] >= GRID_MIN_SPIKES]
    places = np.linspace(0, ranked.size - 1, min(GRID_UNITS, ranked.size)).round().astype(np.int64)
    return ranked[places]


def unit_grid(trains: Trains, chosen: NDArray[np.int64]) -> UnitGrid:
    """Interval histograms and autocorrelograms of `chosen` units; `trains` are of one piece."""
    some = trains.units(chosen)
    first = first_spikes(some, MAX_PAIRS)
    lags = np.full((chosen.size, N_LAGS), np.nan)  # as they stay on a clock too slow for such bins
    if trains.tick_hz >= 1 / LAG_BIN_S:
        lags[:] = autocorrelogram(first, LAG_BIN_S, N_LAGS * LAG_BIN_S)
    with np.errstate(invalid="ignore"):
        return UnitGrid(
            unit=chosen,
            isi=histogram_of(*isi_sums(some, ISI_EDGES_S)),
            lag_hz=lags / first.n_spikes[:, None] / LAG_BIN_S,
        )


def first_spikes(trains: Trains, max_pairs: int) -> Trains:
    """Of units with more than about `max_pairs` pairs within the lags shown, as many first spikes as have so many."""
    pairs = pairs_between(trains, 0, whole_ticks(N_LAGS * LAG_BIN_S, trains.tick_hz, "lag"))
    share = max_pairs / np.maximum(pairs, max_pairs)
    n = np.ceil((trains.stop - trains.first) * share[:, None]).astype(np.int64)
    return replace(trains, stop=trains.first + n)


def drift(counts: NDArray[np.int64], t_start_s: float, duration_s: float) -> Drift:
    """Change of rates from counts (n_units, P) in P equal parts of the session."""
    n_parts = counts.shape[1]
    fifth = n_parts // 5
    steady = np.all(counts > 0, axis=1)
    quantile = np.full((3, n_parts), np.nan)
    if steady.any():
        change = np.log2(counts[steady] / counts[steady].mean(axis=1, keepdims=True))
        quantile = np.quantile(change, (0.25, 0.5, 0.75), axis=0)
    part_s = duration_s / n_parts
    return Drift(
        edges_s=t_start_s + np.arange(n_parts + 1) * part_s,
        quantile=quantile,
        n_steady=int(steady.sum()),
        first_hz=counts[:, :fifth].sum(axis=1) / (fifth * part_s),
        last_hz=counts[:, -fifth:].sum(axis=1) / (fifth * part_s),
    )
