"""Where the windows of each session may lie: the stretches of its split that were recorded, and events to align to."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.loading.batches import SpikeIndex
from nhdata.loading.selection import SelectedSession, Selection
from nhdata.loading.session_plan import SessionPlan, WindowShape
from nhdata.loading.splits import Splits, without
from nhdata.store.layout import tick_at
from nhdata.store.session import Session


def plan_sessions(
    selection: Selection,
    shapes: list[WindowShape],
    *,
    splits: Splits,
    split: str,
    gap_s: float,
    reference_s: float | None,
    align: str | None,
    align_offset_s: float,
) -> list[SessionPlan]:
    """What the plan must know of each session of a selection.

    Parameters
    ----------
    selection : Selection
    shapes : list of WindowShape
        One for each session.
    splits, split, gap_s, reference_s
        See `Splits` and `split_span`; spans in seconds.
    align : str, optional
        ``table.column`` of the sessions' intervals: times, in seconds on the session's clock, at which horizons begin.
    align_offset_s : float
        Added to these times.

    Raises
    ------
    UserError
        If no session has the column.
    """
    events: list[NDArray[np.int64] | None] = [None] * len(shapes)
    if align is not None:
        events = [*_events(selection, align, align_offset_s)]
    reference = [None if reference_s is None else round(reference_s * s.tick_hz) for s in selection.sessions]
    return [
        SessionPlan(
            stretches=without(splits.stretches(split, s.n_ticks, round(gap_s * s.tick_hz), known), invalid_ticks(s)),
            shape=shape,
            n_units=len(s.rows),
            n_spikes=s.n_spikes,
            n_ticks=max(s.n_ticks, 1),
            events=at,
        )
        for s, shape, known, at in zip(selection.sessions, shapes, reference, events, strict=True)
    ]


def look_back(selection: Selection, planned: list[SessionPlan], splits: Splits) -> list[NDArray[np.int64]]:
    """Stretches of each session that averages may look back within.

    All that was recorded, where the splits follow each other in time: a test may look back at what trained the model.
    Else only what is of the same split: training must not look back at a test.
    """
    if splits.by == "time" and splits.n_blocks > 1:
        return [session.stretches for session in planned]
    return [without(np.array([[0, s.n_ticks]]), invalid_ticks(s)) for s in selection.sessions]


def spike_indexes(selection: Selection, planned: list[SessionPlan]) -> tuple[SpikeIndex, ...]:
    """For each session, how many spikes of the selected units lie where."""
    found = []
    for s, plan in zip(selection.sessions, planned, strict=True):
        session = Session(s.path)
        n_spikes = session.units()["n_spikes"]
        share = 1.0 if len(s.rows) == s.n_units else float(n_spikes[s.rows].sum() / max(n_spikes.sum(), 1))
        found.append(SpikeIndex(session.block_offsets, s.tick_hz, plan.shape.history, share))
    return tuple(found)


def invalid_ticks(session: SelectedSession) -> NDArray[np.int64]:
    """(K, 2) half-open stretches that the source calls invalid, in ticks; half a tick of them is one too many.

    One without a start counts from the session's, one without an end to the session's.
    """
    ticks = (session.invalid_s - session.t_start_s) * session.tick_hz
    ticks = np.where(np.isnan(ticks), [0, session.n_ticks], ticks)
    edges = np.column_stack([np.floor(ticks[:, 0] + 1e-3), np.ceil(ticks[:, 1] - 1e-3)])
    return np.asarray(np.clip(edges, 0, session.n_ticks), np.int64)


def _events(selection: Selection, align: str, offset_s: float) -> list[NDArray[np.int64]]:
    """Ticks of the events of each session; none where it has no such table."""
    table, _, column = align.partition(".")
    found, known = [], set()
    for s in selection.sessions:
        tables = Session(s.path).intervals()
        known |= {f"{t}.{c}" for t, columns in tables.items() for c, v in columns.items() if v.dtype.kind == "f"}
        times_s = tables.get(table, {}).get(column, np.empty(0))
        found.append(times_s)
    if align not in known:
        raise UserError(
            f"no selected session has times {align!r}",
            f"choose one of {', '.join(sorted(known)) or 'none: drop align'}",
        )
    return [
        np.array([tick_at(t + offset_s, s.t_start_s, s.tick_hz) for t in times_s if math.isfinite(t)], np.int64)
        for s, times_s in zip(selection.sessions, found, strict=True)
    ]
