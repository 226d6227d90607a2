"""The page of a store, of a session and of a unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nhdata.report.draw_session import session_figures
from nhdata.report.draw_store import store_figures
from nhdata.report.draw_unit import unit_figures
from nhdata.report.page import number, shown
from nhdata.report.parts import Page, Panel, Table
from nhdata.report.session_panels import SessionPanels, session_panels
from nhdata.report.store_panels import StorePanels, store_panels
from nhdata.report.unit_panels import UnitPanels, unit_panels
from nhdata.store.session import Session
from nhdata.store.store import Store

TOTALS = {
    "sessions": "n_sessions",
    "subjects": "n_subjects",
    "units": "n_units",
    "spikes": "n_spikes",
    "hours": "hours",
}


def store_page(store: Store) -> Page:
    """The report of a store: sessions, units by region, quality, rates, and what was left out and why."""
    p = store_panels(store)
    facts = [(name, number(p.totals[key])) for name, key in TOTALS.items()]
    if not p.totals["n_sessions"]:
        return Page(f"Store {Path(p.name).name}", facts, ["The store is empty: fill it with 'nhdata ingest'."], [])
    panels = [_sources(p), *store_figures(p), _left_out(p), _all_sessions(p)]
    return Page(f"Store {Path(p.name).name}", facts, [], panels)


def _sources(p: StorePanels) -> Panel:
    rows = [
        (
            *(row[key] for key in ("source", "n_sessions", "n_subjects", "n_units", "n_spikes", "hours")),
            "; ".join(p.rules.get(row["source"], [])),
        )
        for row in p.sources
    ]
    head = ("source", "sessions", "subjects", "units", "spikes", "hours", "good unit")
    return Panel("Sources", table=Table(head, rows, "lrrrrrw"))


def _left_out(p: StorePanels) -> Panel:
    n_sessions = p.totals["n_sessions"]
    some = f"Of {p.n_told:,} of {n_sessions:,} sessions; the others cannot be read, or are too many to open."
    return Panel(
        "Left out at ingest",
        " ".join([*([] if p.dropped else ["No unit was left out."]), *([] if p.n_told == n_sessions else [some])]),
        table=Table(("source", "reason", "units"), p.dropped, "lwr") if p.dropped else None,
    )


def _all_sessions(p: StorePanels) -> Panel:
    rows = [
        (
            *(row[key] or "" for key in ("session_id", "source", "subject", "date")),
            row["duration_s"] / 60,
            *(row[key] for key in ("n_units", "n_spikes", "n_trials", "rate_hz")),
        )
        for row in p.sessions
    ]
    n_sessions = p.totals["n_sessions"]
    some = f"The first {len(rows):,} of {n_sessions:,}; 'nhdata ls' lists all."
    head = ("session", "source", "subject", "date", "length (min)", "units", "spikes", "trials", "mean rate (Hz)")
    return Panel("All sessions", "" if len(rows) == n_sessions else some, table=Table(head, rows, "llwlrrrrr"))


def session_page(session: Session) -> Page:
    """The report of one session: spikes, rates, intervals, places, movement, drift and features.

    Raises
    ------
    UserError
        If the session is damaged.
    """
    p = session_panels(session)
    return Page(
        f"Session {session.session_id}",
        _session_facts(p),
        [_left_out_of(p)],
        [*session_figures(p), *_besides_spikes(p)],
    )


def _session_facts(p: SessionPanels) -> list[tuple[str, str]]:
    a = p.attrs
    facts = [(name, str(a[name])) for name in ("source", "subject", "lab", "date") if a.get(name)]
    facts += [
        ("length", f"{a['duration_s'] / 60:.1f} min"),
        ("units", f"{a['n_units']:,}"),
        ("spikes", f"{a['n_spikes']:,}"),
        ("mean rate", f"{np.mean(p.rate_hz) if p.rate_hz.size else 0:.2f} Hz"),
        ("clock", f"{number(a['tick_hz'])} ticks/s from {number(a['t_start_s'])} s"),
    ]
    return facts


def _besides_spikes(p: SessionPanels) -> list[Panel]:
    """Tables of what else the session holds."""
    panels = []
    if p.intervals:
        spans = [(one.name, one.n, one.start_s, one.stop_s, one.length_s) for one in p.intervals]
        head = ("name", "spans", "first starts (s)", "last stops (s)", "median length (s)")
        panels.append(Panel("Intervals", table=Table(head, spans, "lrrrr")))
    if p.signals:
        signals = [
            (one.name, one.unit, " × ".join(f"{n:,}" for n in one.shape), one.start_s, one.stop_s, one.rate_hz)
            for one in p.signals
        ]
        columns = ("name", "unit", "samples", "first (s)", "last (s)", "median rate (Hz)")
        panels.append(Panel("Signals", table=Table(columns, signals, "llrrrr")))
    return panels


def _left_out_of(p: SessionPanels) -> str:
    """The rule for a good unit, what it left out, and what else the source had to say."""
    provenance = p.attrs["provenance"]
    dropped = ", ".join(f"{n:,} units ({reason})" for reason, n in provenance["dropped"].items())
    left_out = f"Left out: {dropped}." if dropped else "No unit was left out."
    return " ".join([f"Good unit: {provenance['rule']}.", left_out, *(f"{note}." for note in provenance["notes"])])


def unit_page(session: Session, index: int, unit_id: str) -> Page:
    """All that is known of one unit of a session.

    Raises
    ------
    UserError
        If the session is damaged.
    """
    p = unit_panels(session, index)
    facts = [("row", str(p.index)), *((name, shown(value)) for name, value in p.columns.items())]
    return Page(unit_id, facts, [], [*unit_figures(p), _features(p)])


def _features(p: UnitPanels) -> Panel:
    facts = [(name, number(value)) for name, value in p.features.items()]
    return Panel(
        "Reference features",
        "Stored at ingest, over the first 60 s of good recording; a dash where undefined.",
        facts=facts,
    )
