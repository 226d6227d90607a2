"""Figures of a store."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource

from nhdata.report.draw import ACCENT, COLORS, GREY, distinct, legend_right, plain_ticks, plot, short
from nhdata.report.parts import Panel
from nhdata.report.store_panels import N_REGIONS, StorePanels


def store_figures(p: StorePanels) -> list[Panel]:
    """All figures of a store that has units."""
    if not p.totals["n_units"]:
        return []
    return [_regions(p), _quality(p), _rates(p), _sessions(p)]


def _regions(p: StorePanels) -> Panel:
    labels = distinct([short(row["region"]) for row in p.regions])
    source = ColumnDataSource(
        {
            "region": labels,
            "n_units": [row["n_units"] for row in p.regions],
            "n_sessions": [row["n_sessions"] for row in p.regions],
            "rate_hz": [row["rate_hz"] for row in p.regions],
        }
    )
    made = plot(height=70 + 20 * len(labels), y_range=labels[::-1], x_axis_label="units", tools="save,hover")
    made.hover.tooltips = [("units", "@n_units"), ("sessions", "@n_sessions"), ("median rate (Hz)", "@rate_hz{0.00}")]
    made.hbar(y="region", right="n_units", height=0.7, color=ACCENT, source=source)
    made.x_range.start = 0
    made.ygrid.grid_line_color = None
    plain_ticks(made.xaxis)
    which = f"The {N_REGIONS} largest of {p.n_regions}" if p.n_regions > N_REGIONS else f"All {p.n_regions}"
    return Panel("Units by region", f"{which} regions, by the names that the sources give them.", made)


def _quality(p: StorePanels) -> Panel:
    rows = p.quality[:40]
    labels = distinct(
        [f"{short(r['source'], 16)}: {short(r['quality'], 16)}{'' if r['good'] else ', not good'}" for r in rows]
    )
    made = plot(height=70 + 24 * len(labels), y_range=labels[::-1], x_axis_label="units", tools="save")
    made.hbar(
        y=labels,
        right=[row["n_units"] for row in rows],
        height=0.7,
        color=[ACCENT if row["good"] else GREY for row in rows],
    )
    made.x_range.start = 0
    made.ygrid.grid_line_color = None
    plain_ticks(made.xaxis)
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
    made = plot(height=300, x_axis_label="length (min)", y_axis_label="units", tools="save")
    for k, source in enumerate(dict.fromkeys(row["source"] for row in p.sessions)):
        rows = [row for row in p.sessions if row["source"] == source]
        made.scatter(
            [row["duration_s"] / 60 for row in rows],
            [row["n_units"] for row in rows],
            color=COLORS[k % len(COLORS)],
            size=8,
            alpha=0.75,
            legend_label=short(source, 20),
        )
    made.y_range.start = made.x_range.start = 0
    legend_right(made)
    plain_ticks(made.yaxis)
    return Panel("Sessions", f"A point is a session; {len(p.sessions)} of {p.totals['n_sessions']} are shown.", made)
