"""From a source's spike times to sorted integer ticks."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.recording import Columns, Recording, Spikes
from nhdata.store.layout import NO_TICK, NO_UNIT, tick_rate_hz

LATE_START_S = 60.0
BLOCK = 1 << 18
"""Spikes that are put in order together: few enough to stay in a processor's cache."""
READERS_FAULT = "this is a fault of the source's reader; please report it"


@dataclass(frozen=True, slots=True)
class Clock:
    """A session's clock: tick k is at ``t_start_s + k / tick_hz`` seconds of the source's own clock.

    `duration_s` ends after the last spike.
    """

    t_start_s: float
    duration_s: float
    tick_hz: float


def session_clock(spikes: Spikes, stop_s: float) -> Clock:
    """Choose a clock: the source's samples where it counts them, else the finest that fits.

    The session starts at the source's zero, or, where nothing happens in the first minute (a clock that
    counts from 1970, a piece cut from a longer recording), at the whole second before the first spike.

    Raises
    ------
    UserError
        If the session is too long for uint32 ticks at 30 kHz.
    """
    stop_s = float(stop_s)  # a NumPy number would write itself differently into the content hash
    rate_hz = None if spikes.sample_rate_hz is None else float(spikes.sample_rate_hz)
    if spikes.time.size == 0:
        return Clock(0.0, max(stop_s, 0.0), rate_hz or tick_rate_hz(stop_s))
    first_s, last_s = (float(t) / (rate_hz or 1.0) for t in (spikes.time.min(), spikes.time.max()))
    t_start_s = float(math.floor(first_s)) if first_s > LATE_START_S else 0.0
    if rate_hz is None:
        tick_hz = tick_rate_hz(max(last_s, stop_s) - t_start_s)
    else:
        tick_hz = rate_hz
        t_start_s = math.floor(t_start_s * rate_hz) / rate_hz
        if (last_s - t_start_s) * rate_hz >= NO_TICK - 1:
            raise UserError(f"{last_s / 3600:.1f} hours of samples do not fit 2^32", "split the session")
    last_tick = round((last_s - t_start_s) * tick_hz)
    return Clock(t_start_s, max(stop_s - t_start_s, (last_tick + 1) / tick_hz), tick_hz)


def sorted_ticks(spikes: Spikes, clock: Clock) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Spikes as ticks since the session's start, sorted by time and, within a tick, by unit.

    Returns
    -------
    tick : (n_spikes,) uint32
    unit : (n_spikes,) uint16
    """
    n = spikes.time.size
    tick, unit = np.empty(n, np.uint32), np.empty(n, np.uint16)
    held, done, last = np.empty(0, np.uint64), 0, np.uint64(0)
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        key = np.concatenate([held, _keys(spikes, clock, block)])
        if not bool(np.all(key[1:] >= key[:-1])):
            key.sort(kind="stable")  # spikes of one tick are rarely in the order of their units
        if key[0] < last:
            return _merged_ticks(spikes, clock)
        last = key[-1] & ~np.uint64(0xFFFF)
        ready = key.size if block.stop == n else int(np.searchsorted(key, last))
        held = key[ready:]  # the next block may have spikes of the same tick
        _split(key[:ready], tick[done : done + ready], unit[done : done + ready])
        done += ready
    return tick, unit


def _merged_ticks(spikes: Spikes, clock: Clock) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """As `sorted_ticks`, where order is found only in the whole: spikes come by unit or by probe."""
    n = spikes.time.size
    key = np.empty(n, np.uint64)
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        key[block] = _keys(spikes, clock, block)
    key.sort(kind="stable")  # merges runs
    tick, unit = np.empty(n, np.uint32), np.empty(n, np.uint16)
    _split(key, tick, unit)
    return tick, unit


def _keys(spikes: Spikes, clock: Clock, block: slice) -> NDArray[np.uint64]:
    """Tick and unit of each spike of a block as one number that sorts by both."""
    time = spikes.time[block]
    if spikes.sample_rate_hz is None:
        ticks: NDArray[Any] = np.rint((time - clock.t_start_s) * clock.tick_hz)
    else:
        ticks = time - time.dtype.type(round(clock.t_start_s * clock.tick_hz))
    key = ticks.astype(np.uint64)
    key <<= np.uint64(16)
    key |= spikes.unit[block].astype(np.uint64)
    return key


def _split(key: NDArray[np.uint64], tick: NDArray[np.uint32], unit: NDArray[np.uint16]) -> None:
    np.copyto(unit, key, casting="unsafe")  # the low 16 bits
    key >>= np.uint64(16)
    np.copyto(tick, key, casting="unsafe")


def check_recording(recording: Recording) -> None:
    """Hold a source to its word before anything is written.

    Raises
    ------
    UserError
        If a table lacks a column it must have, the columns of a table or series differ in length, two units have the
        same probe and number, a spike names a unit that is not there, a time is not a number or negative, or there
        are more than 65,534 units.
    """
    who, remedy = f"{recording.source} session {recording.session_id}", READERS_FAULT
    _check_table(who, "units", recording.units, "cluster_id", "probe")
    n_units = recording.n_units
    names = Counter(zip(recording.units["probe"].tolist(), recording.units["cluster_id"].tolist(), strict=True))
    if twice := [name for name, n in names.items() if n > 1]:
        probe, number = twice[0]
        raise UserError(
            f"{who}: two units are both number {number} of probe {probe}", "number them apart at the source"
        )
    for name, columns in recording.intervals.items():
        _check_table(who, name, columns, "start_s", "stop_s")
    for name, series in recording.series.items():
        if series.time_s.shape != series.value.shape[:1]:
            raise UserError(f"{who}: {name} has {series.time_s.size} times, {len(series.value)} values", remedy)
    if n_units >= NO_UNIT:
        raise UserError(f"{who}: {n_units} units", f"a session holds at most {NO_UNIT - 1}")
    spikes = recording.spikes
    if spikes.time.shape != spikes.unit.shape:
        raise UserError(f"{who}: {spikes.time.size} spike times, {spikes.unit.size} spike units", remedy)
    if spikes.unit.size and (int(spikes.unit.min()) < 0 or int(spikes.unit.max()) >= n_units):
        raise UserError(f"{who}: a spike names unit {int(spikes.unit.max())} of {n_units}", remedy)
    if spikes.time.size and not (np.isfinite(spikes.time).all() and spikes.time.min() >= 0):
        raise UserError(f"{who}: a spike time is negative or not a number", remedy)


def _check_table(who: str, table: str, columns: Columns, *needed: str) -> None:
    if missing := [name for name in needed if name not in columns]:
        raise UserError(f"{who}: {table} has no column {missing[0]}", READERS_FAULT)
    n_rows = columns[needed[0]].size
    for name, column in columns.items():
        if column.shape != (n_rows,):
            raise UserError(f"{who}: {table} column {name} has shape {column.shape}, not ({n_rows},)", READERS_FAULT)
