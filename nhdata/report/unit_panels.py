"""What is shown of one unit, as arrays. Reads the session, draws nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.features.trains import spike_trains
from nhdata.report.session_panels import UnitGrid, reading, unit_grid
from nhdata.store.layout import NO_TICK
from nhdata.store.session import Session

N_PARTS = 300
MAX_SWEEPS = 200
BEFORE_S, AFTER_S = 0.5, 2.0
SWEEP_S = 10.0
PSTH_BIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Sweeps:
    """A unit's spikes around moments.

    Attributes
    ----------
    around : str
        What the moments are: ``"trial start"``, or ``"start of each 10 s"`` where there are no trials.
    before_s, after_s : float
        Each sweep is ``[moment - before_s, moment + after_s)``.
    n_moments : int
        Number of all moments; `start_s` are those of them that are drawn.
    start_s : (S,) float64
    offset_s, row : (n,) arrays
        Spikes relative to their moment, and the row of the sweep.
    psth_edges_s, psth_hz : (B + 1,), (B,) float64
        Mean rate over all moments in bins of 50 ms.
    """

    around: str
    before_s: float
    after_s: float
    n_moments: int
    start_s: NDArray[np.float64]
    offset_s: NDArray[np.float64]
    row: NDArray[np.int64]
    psth_edges_s: NDArray[np.float64]
    psth_hz: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UnitPanels:
    """All that is shown of one unit; `rate_hz` (C,) in equal parts between `edges_s` (C + 1,)."""

    index: int
    n_spikes: int
    columns: dict[str, Any]
    features: dict[str, float]
    edges_s: NDArray[np.float64]
    rate_hz: NDArray[np.float64]
    grid: UnitGrid
    sweeps: Sweeps


def unit_panels(session: Session, index: int) -> UnitPanels:
    """Read one unit of a session.

    Raises
    ------
    UserError
        If the session is damaged.
    """
    with reading(session):
        return _unit_panels(session, index)


def _unit_panels(session: Session, index: int) -> UnitPanels:
    tick, unit = session.read(0, session.n_spikes)
    train = tick[unit == index]
    alone = np.zeros(train.size, np.uint16)
    trains = spike_trains(train, alone, n_units=1, tick_hz=session.tick_hz, pieces=[(0, NO_TICK)])
    times_s = session.t_start_s + train / session.tick_hz
    edges_s = np.linspace(session.t_start_s, session.t_stop_s, N_PARTS + 1)
    features = session.features()
    values = features.values[index]
    return UnitPanels(
        index=index,
        n_spikes=train.size,
        columns={name: column[index] for name, column in session.units().items()},
        features={str(name): float(value) for name, value in zip(features.feature.values, values, strict=True)},
        edges_s=edges_s,
        rate_hz=np.histogram(times_s, edges_s)[0] / (session.duration_s / N_PARTS),
        grid=unit_grid(trains, np.array([0])),
        sweeps=sweeps(times_s, session.intervals().get("trials"), session.t_start_s, session.t_stop_s),
    )


def sweeps(
    times_s: NDArray[np.float64], trials: dict[str, NDArray[Any]] | None, t_start_s: float, t_stop_s: float
) -> Sweeps:
    """Spikes around the start of trials, or in sweeps of 10 s over the whole session."""
    moments: NDArray[np.float64] = np.empty(0) if trials is None else trials["start_s"].astype(np.float64)
    moments = moments[np.isfinite(moments)]
    around, before_s, after_s = "trial start", BEFORE_S, AFTER_S
    if not moments.size:
        around, before_s, after_s = f"start of each {SWEEP_S:g} s", 0.0, SWEEP_S
        n_sweeps = max(1, math.ceil((t_stop_s - t_start_s) / SWEEP_S))
        moments = np.asarray(t_start_s + np.arange(n_sweeps) * SWEEP_S, np.float64)
    places = np.linspace(0, moments.size - 1, min(MAX_SWEEPS, moments.size)).round().astype(np.int64)
    offset_s, row = aligned(times_s, moments[places], before_s, after_s)
    every, _ = aligned(times_s, moments, before_s, after_s)
    edges_s = np.linspace(-before_s, after_s, round((before_s + after_s) / PSTH_BIN_S) + 1)
    return Sweeps(
        around=around,
        before_s=before_s,
        after_s=after_s,
        n_moments=moments.size,
        start_s=moments[places],
        offset_s=offset_s,
        row=row,
        psth_edges_s=edges_s,
        psth_hz=np.histogram(every, edges_s)[0] / moments.size / PSTH_BIN_S,
    )


def aligned(
    times_s: NDArray[np.float64], moments_s: NDArray[np.float64], before_s: float, after_s: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Spikes of ``[moment - before_s, moment + after_s)`` of each moment, relative to it.

    Returns
    -------
    offset_s : (n,) float64
    row : (n,) int64
        Number of the moment.

    Examples
    --------
    >>> import numpy as np
    >>> offset_s, row = aligned(np.array([0.9, 1.5, 3.0]), np.array([1.0, 1.5]), 0.5, 1.0)
    >>> offset_s.round(1).tolist(), row.tolist()
    ([-0.1, 0.5, 0.0], [0, 0, 1])
    """
    first = np.searchsorted(times_s, moments_s - before_s)
    stop = np.searchsorted(times_s, moments_s + after_s)
    n = stop - first
    row = np.repeat(np.arange(moments_s.size), n)
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first, n)
    return times_s[place] - moments_s[row], row
