"""Where an animal was: the path, and how long it stayed where. Arrays only, draws nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_PATH = 6000
N_CELLS = 48
GAP_SAMPLES = 5
"""Samples that may be missing before the path is broken."""


@dataclass(frozen=True, slots=True)
class Position:
    """The first two components of a position.

    Attributes
    ----------
    name, unit : str
    x, y : (n,) float32
        The path, thinned to about `N_PATH` points; NaN where it is broken.
    time_s : (n,) float64
    x_edges, y_edges : (W + 1,), (H + 1,) float64
        Square cells, in `unit`.
    occupancy_s : (H, W) float64
        Seconds spent in each cell, a sample counting as long as samples usually do.
    known : float
        Share of the samples that have a place.
    """

    name: str
    unit: str
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    time_s: NDArray[np.float64]
    x_edges: NDArray[np.float64]
    y_edges: NDArray[np.float64]
    occupancy_s: NDArray[np.float64]
    known: float


def position(name: str, unit: str, time_s: NDArray[np.float64], place: NDArray[np.float64]) -> Position | None:
    """Path and occupancy of samples `place` (n, 2 or more) at `time_s` (n,); None where no place is known twice.

    Examples
    --------
    >>> import numpy as np
    >>> made = position("position", "cm", np.arange(4.0), np.array([[0, 0], [0, 1], [4, 4], [np.nan, 0]]))
    >>> made.occupancy_s.sum(), made.known
    (np.float64(3.0), 0.75)
    """
    x, y = np.asarray(place[:, 0], np.float64), np.asarray(place[:, 1], np.float64)
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(time_s)
    if known.sum() < 2:
        return None
    sample_s = float(np.median(np.diff(time_s[np.isfinite(time_s)])))
    extent = max(np.ptp(x[known]), np.ptp(y[known]), np.finfo(float).tiny)
    cell = extent / N_CELLS
    x_edges, y_edges = (_edges(values[known], cell) for values in (x, y))
    n, _, _ = np.histogram2d(y[known], x[known], bins=(y_edges, x_edges))
    t, x, y = time_s[known], x[known], y[known]
    step = max(1, -(-t.size // N_PATH))
    jumps = np.flatnonzero(np.diff(t) > GAP_SAMPLES * sample_s)
    before = np.unique(jumps // step) + 1  # the first point that is kept after each of them
    return Position(
        name=name,
        unit=unit,
        x=np.insert(x[::step].astype(np.float32), before, np.nan),
        y=np.insert(y[::step].astype(np.float32), before, np.nan),
        time_s=np.insert(t[::step], before, np.nan),
        x_edges=x_edges,
        y_edges=y_edges,
        occupancy_s=n * sample_s,
        known=float(known.mean()),
    )


def _edges(values: NDArray[np.float64], cell: float) -> NDArray[np.float64]:
    n = max(1, round(np.ptp(values) / cell + 0.5))
    return np.asarray(values.min() + np.arange(n + 1) * cell, np.float64)
