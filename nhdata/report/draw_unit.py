"""Figures of one unit."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import gridplot
from bokeh.models import Range1d

from nhdata.report.draw import ACCENT, GREY, INK, WIDTH, plain_ticks, plot, stacked
from nhdata.report.draw_session import isi_figure, lag_figure
from nhdata.report.parts import Panel
from nhdata.report.session_panels import ISI_EDGES_S, LAG_BIN_S, N_LAGS
from nhdata.report.unit_panels import UnitPanels


def unit_figures(p: UnitPanels) -> list[Panel]:
    """All figures of a unit."""
    return [_rate(p), _sweeps(p), _shape(p)]


def _rate(p: UnitPanels) -> Panel:
    x = Range1d(start=float(p.edges_s[0]), end=float(p.edges_s[-1]), bounds="auto")
    made = plot(height=200, x_range=x, x_axis_label="time (s)", y_axis_label="rate (Hz)")
    made.step(p.edges_s, np.append(p.rate_hz, p.rate_hz[-1]), mode="after", color=ACCENT)
    made.y_range.start = 0
    plain_ticks(made.xaxis)
    return Panel("Rate over the session", f"{p.rate_hz.size} equal parts of {p.edges_s[1] - p.edges_s[0]:.3g} s.", made)


def _sweeps(p: UnitPanels) -> Panel:
    s = p.sweeps
    x = Range1d(start=-s.before_s, end=s.after_s, bounds="auto")
    n_rows = s.start_s.size
    raster: Any = plot(height=320, x_range=x, y_range=(n_rows, 0), y_axis_label="sweep, first on top")
    thick = max(1.0, min(8.0, 250 / n_rows))
    raster.scatter(s.offset_s, s.row + 0.5, marker="dash", angle=np.pi / 2, size=thick, color=INK)
    mean = plot(height=180, x_range=x, x_axis_label=f"time from {s.around} (s)", y_axis_label="mean rate (Hz)")
    mean.quad(left=s.psth_edges_s[:-1], right=s.psth_edges_s[1:], bottom=0, top=s.psth_hz, color=ACCENT)
    mean.y_range.start = 0
    for made in (raster, mean):
        made.min_border_left = 64
        if s.before_s:
            made.vspan(x=0, line_color=GREY)
    shown = f"{n_rows} of {s.n_moments} sweeps, evenly spaced" if n_rows < s.n_moments else f"All {n_rows} sweeps"
    caption = f"{shown}; every spike is drawn. Below: mean over all {s.n_moments} in bins of 50 ms."
    return Panel(f"Spikes from {s.around}", caption, stacked([raster, mean]))


def _shape(p: UnitPanels) -> Panel:
    isi = plot(
        height=260,
        width=WIDTH // 2,
        x_axis_type="log",
        x_range=Range1d(start=float(ISI_EDGES_S[0]), end=float(ISI_EDGES_S[-1])),
        x_axis_label="inter-spike interval (s)",
        y_axis_label="fraction",
    )
    reach_ms = N_LAGS * LAG_BIN_S * 1000
    lags = plot(
        height=260,
        width=WIDTH // 2,
        x_range=Range1d(start=-reach_ms, end=reach_ms),
        x_axis_label="lag (ms)",
        y_axis_label="rate (Hz)",
    )
    figures = gridplot([[isi_figure(p.grid, 0, isi), lag_figure(p.grid, 0, lags)]], toolbar_location=None)
    return Panel("Intervals and autocorrelogram", "Over the whole session; lags in bins of 1 ms.", figures)
