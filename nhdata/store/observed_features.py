"""Features of units that were observed for part of a session: over the part of a window in which they were observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nhdata.features.trains import Trains, spike_trains, united
from nhdata.observed import Spans
from nhdata.store.layout import tick_at

Pieces = Sequence[tuple[int, int]] | NDArray[np.int64]


def observed_values(
    tick: NDArray[np.uint32],
    unit: NDArray[np.uint16],
    compute: Callable[[Trains], NDArray[np.float64]],
    *,
    n_units: int,
    tick_hz: float,
    t_start_s: float,
    pieces: Pieces,
    observed: Spans,
) -> NDArray[np.float64]:
    """Return features of all units, each over the part of `pieces` in which it was observed.

    Parameters
    ----------
    tick, unit : (n,) arrays
        Time-sorted spikes.
    compute : callable
        Features (n_units, n_features) of trains.
    n_units : int
    tick_hz, t_start_s : float
        The session's clock.
    pieces : sequence of (start, stop)
        Half-open intervals in ticks.
    observed : mapping of int to (K, 2) float64
        As `nhdata.observed.observed_spans` gives them.

    Returns
    -------
    (n_units, n_features) float64
        NaN for a unit that was not observed at all in `pieces`.
    """
    values = compute(spike_trains(tick, unit, n_units=n_units, tick_hz=tick_hz, pieces=pieces))
    window = united(pieces)
    groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for row, spans in observed.items():
        own = [(tick_at(a, t_start_s, tick_hz), tick_at(b, t_start_s, tick_hz)) for a, b in spans.tolist()]
        parts = [(max(a, c), min(b, d)) for a, b in own for c, d in window.tolist() if max(a, c) < min(b, d)]
        if [list(part) for part in parts] != window.tolist():
            groups.setdefault(tuple(parts), []).append(row)
    for part, rows in groups.items():
        if not part:
            values[rows] = np.nan
        else:
            trains = spike_trains(tick, unit, n_units=n_units, tick_hz=tick_hz, pieces=list(part))
            values[rows] = compute(trains.units(rows))
    return values
