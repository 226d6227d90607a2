"""What a session's report shows besides spikes: interval tables and series, reduced to what a page can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.report.position import Position, position

N_SERIES = 3
SERIES_FIRST = ("wheel_velocity", "running", "speed", "velocity", "wheel", "position")

Series = dict[str, tuple[NDArray[np.float64], NDArray[Any], str]]
"""Time (n,), values (n, …) and unit of signals by name."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Smallest and largest value of a signal in equal parts of the session, NaN where it has none; both (C,)."""

    name: str
    unit: str
    n_samples: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spans:
    """A table of intervals: how many, from where to where, and their median length."""

    name: str
    n: int
    start_s: float
    stop_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Signal:
    """A series: its shape, from where to where, and its median rate."""

    name: str
    unit: str
    shape: tuple[int, ...]
    start_s: float
    stop_s: float
    rate_hz: float


def envelope(
    time_s: NDArray[np.float64], value: NDArray[Any], edges_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest finite value in each half-open part, NaN where there is none."""
    known = np.isfinite(value) & np.isfinite(time_s)
    time_s, value = time_s[known], np.asarray(value[known], float)
    part = np.searchsorted(edges_s, time_s, side="right") - 1
    inside = (part >= 0) & (part < edges_s.size - 1)
    low, high = np.full(edges_s.size - 1, np.inf), np.full(edges_s.size - 1, -np.inf)
    np.minimum.at(low, part[inside], value[inside])
    np.maximum.at(high, part[inside], value[inside])
    none = high < low
    low[none], high[none] = np.nan, np.nan
    return low, high


def envelopes(series: Series, edges_s: NDArray[np.float64]) -> list[Envelope]:
    """Envelopes of up to `N_SERIES` signals of one value a sample, movement first; clocks are none."""
    signals = {name: s for name, s in series.items() if s[1].ndim == 1 and s[1].size and s[2] not in ("s", "seconds")}

    def place(name: str) -> tuple[int, str]:
        return next((k for k, word in enumerate(SERIES_FIRST) if word in name), len(SERIES_FIRST)), name

    return [
        Envelope(name, unit, value.size, *envelope(time_s, value, edges_s))
        for name in sorted(signals, key=place)[:N_SERIES]
        for time_s, value, unit in [signals[name]]
    ]


def first_position(series: Series) -> Position | None:
    """Of the signals of two or three values a sample, the one whose name says that it is a position, else the first."""
    found = [name for name, (_, value, _) in series.items() if value.ndim == 2 and value.shape[1] in (2, 3)]
    for name in sorted(found, key=lambda name: ("position" not in name, name)):
        time_s, value, unit = series[name]
        made = position(name, unit, time_s, value)
        if made is not None:
            return made
    return None


def spans(name: str, start_s: NDArray[Any], stop_s: NDArray[Any]) -> Spans:
    """A table of intervals in a line; rows without a start or an end are counted, and no more."""
    known = np.isfinite(start_s) & np.isfinite(stop_s)
    if not known.any():
        return Spans(name, start_s.size, math.nan, math.nan, math.nan)
    start_s, stop_s = start_s[known], stop_s[known]
    length_s = float(np.median(stop_s - start_s))
    return Spans(name, known.size, float(start_s.min()), float(stop_s.max()), length_s)


def signal(name: str, time_s: NDArray[np.float64], value: NDArray[Any], unit: str) -> Signal:
    """A series in a line."""
    known = time_s[np.isfinite(time_s)]
    if known.size < 2:
        return Signal(name, unit, value.shape, math.nan, math.nan, math.nan)
    step_s = float(np.median(np.diff(known)))
    rate_hz = 1 / step_s if step_s > 0 else math.nan
    return Signal(name, unit, value.shape, float(known[0]), float(known[-1]), rate_hz)
