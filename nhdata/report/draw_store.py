"""Figures of a store."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool

from nhdata.report.draw import ACCENT, COLORS, GREY, bars, distinct, legend_right, plain_ticks, plot, short
from nhdata.report.parts import Panel
from nhdata.report.store_panels import N_REGIONS, StorePanels

MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x")


def store_figures(p: StorePanels) -> list[Panel]:
    """All figures of a store that has units."""
    if not p.totals["n_units"]:
        return []
    return [_regions(p), _quality(p), _rates(p), _sessions(p)]


def _regions(p: StorePanels) -> Panel:
    labels = distinct([short(row["region"]) for row in p.regions])
    n_sessions, rate_hz = ([row[key] for row in p.regions] for key in ("n_sessions", "rate_hz"))
    made = bars(labels, [row["n_units"] for row in p.regions], "units", n_sessions=n_sessions, rate_hz=rate_hz)
    tips = [("units", "@n"), ("sessions", "@n_sessions"), ("median rate (Hz)", "@rate_hz{0.00}")]
    made.add_tools(HoverTool(tooltips=tips))
    which = f"The {N_REGIONS} largest of {p.n_regions}" if p.n_regions > N_REGIONS else f"{p.n_regions:,}"
    regions = "region" if p.n_regions == 1 else "regions"
    return Panel("Units by region", f"{which} {regions}, by the names that the sources give them.", made)


def _quality(p: StorePanels) -> Panel:
    rows = p.quality[:40]
    labels = distinct(
        [f"{short(r['source'], 16)}: {short(r['quality'], 16)}{'' if r['good'] else ', not good'}" for r in rows]
    )
    colors = [ACCENT if row["good"] else GREY for row in rows]
    made = bars(labels, [row["n_units"] for row in rows], "units", color=colors)
    caption = "Ratings as each source gives them; grey: kept, but not good by the source's own rule."
    return Panel("Quality", caption, made)


def _rates(p: StorePanels) -> Panel:
    made = plot(height=280, x_axis_type="log", x_axis_label="mean rate (Hz)", y_axis_label="units", tools="save")
    base = np.zeros(p.rate_edges_hz.size - 1, np.int64)
    for k, (source, n) in enumerate(p.rates.items()):
        made.quad(
            left=p.rate_edges_hz[:-1],
            right=p.rate_edges_hz[1:],
            bottom=base,
            top=base + n,
            color=COLORS[k % len(COLORS)],
            line_color="white",
            legend_label=short(source, 20),
        )
        base = base + n
    seen = np.flatnonzero(base)
    if seen.size:
        made.x_range.start, made.x_range.end = p.rate_edges_hz[seen[0]], p.rate_edges_hz[seen[-1] + 1]
        legend_right(made)
    made.y_range.start = 0
    plain_ticks(made.xaxis)
    silent = f" {p.n_silent} units without a spike have no place here." if p.n_silent else ""
    return Panel("Rates", f"Spikes over the length of the session, five bins a decade, sources stacked.{silent}", made)


def _sessions(p: StorePanels) -> Panel:
    tips = [("session", "@session_id"), ("units", "@n_units"), ("minutes", "@minutes{0.0}")]
    made = plot(height=300, x_axis_label="length (min)", y_axis_label="units", tools="save", tooltips=tips)
    for k, source in enumerate(dict.fromkeys(row["source"] for row in p.sessions)):
        rows = [row for row in p.sessions if row["source"] == source]
        points: dict[str, Any] = {key: [row[key] for row in rows] for key in ("session_id", "n_units")}
        points["minutes"] = [row["duration_s"] / 60 for row in rows]
        made.scatter(
            "minutes",
            "n_units",
            source=ColumnDataSource(points),
            color=COLORS[k % len(COLORS)],
            marker=MARKERS[k % len(MARKERS)],
            fill_alpha=0.4,
            size=10,
            legend_label=short(source, 20),
        )
    made.y_range.start = made.x_range.start = 0
    legend_right(made)
    plain_ticks(made.yaxis)
    return Panel("Sessions", f"A point is a session; {len(p.sessions)} of {p.totals['n_sessions']} are shown.", made)
