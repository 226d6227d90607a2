"""The spike trains of a session's units over one window, or over the pieces of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.features.bins import bin_ticks
from nhdata.features.group import by_unit
from nhdata.features.threads import equal_parts, run_parts


@dataclass(frozen=True, slots=True)
class Trains:
    """Spike trains that every kernel takes, made by `spike_trains` or ``Session.trains``.

    Time is one or more *pieces*, half-open and apart from one another. Nothing is ever measured across the gap between
    two pieces: no interval, no pair of spikes, no bin. Sums run over all pieces; means are taken at the end.

    Attributes
    ----------
    tick : (n_spikes,) uint32
        Ticks unit by unit, each unit's sorted in time.
    first, stop : (n_units, n_pieces) int64
        The spikes of unit u in piece p are ``tick[first[u, p]:stop[u, p]]``.
    pieces : (n_pieces, 2) int64
        Start and stop of each piece in ticks.
    tick_hz : float
        Ticks per second.
    """

    tick: NDArray[np.uint32]
    first: NDArray[np.int64]
    stop: NDArray[np.int64]
    pieces: NDArray[np.int64]
    tick_hz: float

    @property
    def n_units(self) -> int:
        """Number of units."""
        return int(self.first.shape[0])

    @property
    def start_tick(self) -> NDArray[np.int64]:
        """(n_pieces,) start of each piece, where its bins are counted from."""
        return np.ascontiguousarray(self.pieces[:, 0])

    @property
    def n_spikes(self) -> NDArray[np.int64]:
        """(n_units,) spikes of each unit in all pieces."""
        return np.asarray((self.stop - self.first).sum(axis=1))

    @property
    def duration_s(self) -> float:
        """Length of all pieces together."""
        return int((self.pieces[:, 1] - self.pieces[:, 0]).sum()) / self.tick_hz

    def units(self, rows: Sequence[int] | NDArray[Any]) -> Trains:
        """The trains of some units only, in the order given.

        Raises
        ------
        UserError
            If a row is not one of a unit.
        """
        rows = np.asarray(rows, np.int64).reshape(-1)
        if bad := [int(r) for r in rows if not 0 <= r < self.n_units]:
            raise UserError(f"there is no unit {bad[0]}", f"rows of units run from 0 to {self.n_units - 1}")
        return Trains(self.tick, self.first[rows], self.stop[rows], self.pieces, self.tick_hz)

    def n_bins(self, bin_s: float) -> NDArray[np.int64]:
        """(n_pieces,) whole bins of each piece, counted from its start."""
        numerator, denominator = bin_ticks(bin_s, self.tick_hz)
        return (self.pieces[:, 1] - self.pieces[:, 0]) * denominator // numerator


def spike_trains(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    *,
    n_units: int,
    tick_hz: float,
    pieces: Sequence[tuple[int, int]] | NDArray[np.int64],
) -> Trains:
    """Sort a session's spikes into trains.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Time-sorted spikes; those outside the pieces are passed over.
    n_units : int
    tick_hz : float
        Ticks per second.
    pieces : sequence of (start, stop)
        Half-open spans in ticks, in any order. Those that overlap or touch become one.

    Raises
    ------
    UserError
        If there is no piece, or one that does not end after it starts; if spikes are not sorted, or of no unit.

    Examples
    --------
    >>> tick, unit = np.array([10, 20, 30, 40], np.uint32), np.array([0, 1, 0, 1], np.uint16)
    >>> trains = spike_trains(tick, unit, n_units=3, tick_hz=1000.0, pieces=[(0, 35)])
    >>> trains.n_spikes.tolist(), trains.duration_s
    ([2, 1, 0], 0.035)
    """
    spans = united(pieces)
    edges = np.clip(spans.ravel(), 0, 2**32 - 1).astype(np.uint32)
    lo, hi = np.searchsorted(tick, edges[[0, -1]])
    train, start = by_unit(tick[lo:hi], unit[lo:hi], n_units)
    if len(spans) == 1:
        return Trains(train, start[:-1, None], start[1:, None], spans, tick_hz)
    first, stop = np.empty((2, n_units, len(spans)), np.int64)
    for u in range(n_units):
        places = start[u] + np.searchsorted(train[start[u] : start[u + 1]], edges)
        first[u], stop[u] = places[0::2], places[1::2]
    return Trains(train, first, stop, spans, tick_hz)


def united(pieces: Sequence[tuple[int, int]] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted spans that do not touch and cover the same time.

    Examples
    --------
    >>> united([(5, 9), (0, 2), (8, 12)]).tolist()
    [[0, 2], [5, 12]]
    """
    spans: list[list[int]] = []
    for start, stop in sorted((int(a), int(b)) for a, b in pieces):
        if stop <= start:
            raise UserError(f"the window [{start}, {stop}) ticks is empty", "give a stop after the start")
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], stop)
        else:
            spans.append([start, stop])
    if not spans:
        raise UserError("no window at all", "give at least one span of time")
    return np.array(spans, np.int64)


def over_units(kernel: Callable[..., None], trains: Trains, args: tuple[Any, ...], *outs: NDArray[Any]) -> None:
    """Fill ``outs`` (each with a row per unit) by ``kernel(tick, first, stop, *args, *outs)``, on several threads."""
    run_parts(
        kernel,
        [
            (trains.tick, trains.first[rows], trains.stop[rows], *args, *(out[rows] for out in outs))
            for rows in equal_parts(trains.n_spikes)
        ],
    )


def whole_ticks(time_s: float, tick_hz: float, name: str) -> int:
    """The fewest ticks that last `time_s` or longer: an interval is shorter than `time_s` if it has fewer.

    Raises
    ------
    UserError
        If `time_s` is not a number of seconds, or negative; `name` is what the message calls it.

    Examples
    --------
    >>> whole_ticks(0.0015, 30000.0, "refractory_s"), whole_ticks(0.0001, 24414.0625, "refractory_s")
    (45, 3)
    """
    if not np.isfinite(time_s) or time_s < 0:
        raise UserError(f"{name}={time_s} is not a time", "give a number of seconds from 0 up, e.g. 0.002")
    return -int(-(Fraction(repr(float(time_s))) * Fraction(repr(float(tick_hz)))) // 1)
