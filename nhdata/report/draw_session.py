"""Figures of a session."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import gridplot
from bokeh.models import ColumnDataSource, FixedTicker, LinearColorMapper, Range1d
from bokeh.models.annotations import ColorBar
from numpy.typing import NDArray

from nhdata.features.reference import FEATURE_NAMES
from nhdata.report.draw import (
    ACCENT,
    BORDER_LEFT,
    DIVERGING,
    FAINT,
    GREY,
    INK,
    PALE_TO_DARK,
    WARM,
    WIDTH,
    log_ticks,
    plain_ticks,
    plot,
    short,
    stacked,
)
from nhdata.report.draw_places import names_of, places_panels
from nhdata.report.draw_position import position_panel
from nhdata.report.parts import Panel
from nhdata.report.session_panels import (
    ISI_EDGES_S,
    LAG_BIN_S,
    MAX_PAIRS,
    MAX_ROWS,
    N_LAGS,
    SessionPanels,
    UnitGrid,
)

GRID_COLUMNS = 6


def session_figures(p: SessionPanels) -> list[Panel]:
    """All figures of a session, from the whole to single units."""
    panels = [_overview(p), _raster(p)]
    if p.position is not None:
        panels.append(position_panel(p.position, float(p.rates.edges_s[0]), float(p.rates.edges_s[-1])))
    panels += places_panels(p)
    if p.grid.unit.size:
        panels += [_isi_grid(p), _lag_grid(p)]
    return [*panels, _drift(p), _features(p)]


def _overview(p: SessionPanels) -> Panel:
    """Rates of all units, the mean rate, and movement, over the whole session on one time axis."""
    r = p.rates
    x = Range1d(start=float(r.edges_s[0]), end=float(r.edges_s[-1]), bounds="auto")
    n_rows = r.relative.shape[0]
    mapper = LinearColorMapper(palette=PALE_TO_DARK, low=0, high=3, nan_color="#ffffff")
    # a byte a pixel: 256 steps of colour are all that is seen, and all that is sent
    level = np.where(np.isnan(r.relative), 0, np.clip(r.relative / 3 * 255, 0, 255)).astype(np.uint8)
    bytes_mapper = LinearColorMapper(palette=PALE_TO_DARK, low=0, high=255)
    top = plot(
        height=380, x_range=x, y_range=(0, p.order.size), y_axis_label=order_label(p), title="rate over the unit's mean"
    )
    top.image(
        image=[level],
        x=r.edges_s[0],
        y=0,
        dw=r.edges_s[-1] - r.edges_s[0],
        dh=n_rows * r.units_per_row,
        color_mapper=bytes_mapper,
    )
    bar = ColorBar(color_mapper=mapper, width=10, padding=4, ticker=FixedTicker(ticks=[0, 1, 2, 3]))
    top.add_layout(bar, "right")
    parts = [top]
    mean = plot(height=140, x_range=x, y_axis_label="Hz", title="mean rate of a unit")
    mean.step(r.edges_s, np.append(r.population_hz, r.population_hz[-1]), mode="after", color=ACCENT)
    mean.y_range.start = 0
    parts.append(mean)
    for one in p.series:
        below = plot(height=140, x_range=x, y_axis_label=short(one.unit, 14), title=short(one.name))
        middle_s = (r.edges_s[:-1] + r.edges_s[1:]) / 2
        flat = one.low == one.high  # a lone sample would be an area of no height
        margin = 0.004 * (np.nanmax(one.high) - np.nanmin(one.low) or 1.0) if np.isfinite(one.low).any() else 0.0
        below.varea(x=middle_s, y1=one.low - margin * flat, y2=one.high + margin * flat, color=GREY)
        parts.append(below)
    for part in parts:
        part.min_border_left, part.min_border_right = BORDER_LEFT, 92
        part.xgrid.grid_line_color = None
    parts[-1].xaxis.axis_label = "time (s)"
    for part in parts:
        plain_ticks(part.xaxis)
    rows = f", {r.units_per_row} neighbouring units averaged in a row" if r.units_per_row > 1 else ""
    moved = "; grey bands span the smallest to the largest value of each part" if p.series else ""
    caption = (
        f"{r.edges_s.size - 1} equal parts of {r.edges_s[1] - r.edges_s[0]:.3g} s{rows}. Colour: rate in the part over "
        f"the unit's own mean, cut at 3{moved}."
    )
    return Panel("Rates over the whole session", caption, stacked(parts))


def _raster(p: SessionPanels) -> Panel:
    made = _raster_figure(p)
    r = p.raster
    spans = ", trials shaded" if p.trials is not None else ""
    return Panel(
        "Spikes",
        f"Every spike of {r.stop_s - r.start_s:.3g} s from the middle of the session, {r.time_s.size:,} in all{spans}. "
        "The window is shortened where there would be more than 30,000. Rows as above.",
        made,
    )


def _raster_figure(p: SessionPanels) -> Any:
    """Spikes as short lines, trials as bands."""
    r, trials, n_units, height = p.raster, p.trials, p.order.size, 400
    made = plot(
        height=height,
        x_range=Range1d(start=r.start_s, end=r.stop_s, bounds="auto"),
        y_range=(0, n_units),
        x_axis_label="time (s)",
        y_axis_label=order_label(p),
    )
    made.min_border_left, made.min_border_right = BORDER_LEFT, 92
    if trials is not None:
        seen = (trials["start_s"] < r.stop_s) & (trials["stop_s"] > r.start_s)
        made.quad(left=trials["start_s"][seen], right=trials["stop_s"][seen], bottom=0, top=n_units, color="#dfe9f3")
    source = ColumnDataSource({"x": r.time_s, "y": r.row.astype(np.float32) + 0.5})
    thick = max(1.0, min(8.0, 0.8 * height / max(n_units, 1)))
    made.scatter("x", "y", source=source, marker="dash", angle=np.pi / 2, size=thick, color=INK, line_alpha=0.8)
    plain_ticks(made.xaxis)
    return made


def order_label(p: SessionPanels) -> str:
    """What the rows of units are sorted by, as far as the source tells it."""
    if np.isfinite(np.asarray(p.units.get("depth_um", np.nan), float)).any():
        return "unit, by probe and depth"
    known = [name for name in ("probe", "region") if np.unique(names_of(p, name, "")).size > 1]
    return f"unit, by {' and '.join(known)}" if known else "unit"


def _small(title: str, x_range: Any, **options: Any) -> Any:
    made = plot(width=WIDTH // GRID_COLUMNS, height=118, x_range=x_range, tools="", toolbar_location=None, **options)
    made.title.text = title
    made.title.standoff = 2
    made.min_border_left = made.min_border_right = 8
    made.min_border_bottom = made.min_border_top = 4
    made.ygrid.grid_line_color = None
    made.yaxis.visible = False
    return made


def unit_label(p: SessionPanels, u: int) -> str:
    """A unit's number, region and rate, short enough for a small figure."""
    region = str(p.units["region"][u]) if "region" in p.units else ""
    known = "" if region == "unknown" else short(region, 8)
    return " · ".join(part for part in (f"#{u}", known, f"{p.rate_hz[u]:.3g} Hz") if part)


def _isi_grid(p: SessionPanels) -> Panel:
    x = Range1d(start=float(ISI_EDGES_S[0]), end=float(ISI_EDGES_S[-1]))
    figures = [isi_figure(p.grid, k, _small(unit_label(p, int(u)), x, x_axis_type="log")) for k, u in _cells(p)]
    return Panel(
        "Inter-spike intervals (s)",
        f"Time to the unit's next spike (s, logarithmic), as a fraction of all its intervals; {len(figures)} units, "
        "evenly spaced from the rarest to the most frequent of 100 spikes or more. Each has a scale of its own.",
        gridplot(figures, ncols=GRID_COLUMNS, toolbar_location=None),
    )


def isi_figure(grid: UnitGrid, k: int, made: Any) -> Any:
    """Draw one interval histogram into a figure with a logarithmic x axis."""
    made.quad(left=ISI_EDGES_S[:-1], right=ISI_EDGES_S[1:], bottom=0, top=grid.isi[k], color=ACCENT)
    made.y_range.start = 0
    plain_ticks(made.xaxis, [0.01, 0.1, 1])
    return made


def _lag_grid(p: SessionPanels) -> Panel:
    x = Range1d(start=-N_LAGS * LAG_BIN_S * 1000, end=N_LAGS * LAG_BIN_S * 1000)
    figures = [lag_figure(p.grid, k, _small(unit_label(p, int(u)), x)) for k, u in _cells(p)]
    return Panel(
        "Autocorrelograms (lag, ms)",
        f"Rate at a time from each of the unit's own spikes (ms, bins of 1 ms), of the same {len(figures)} units. "
        f"Units of more than {MAX_PAIRS:,} pairs of spikes are counted from their first ones. Each has its own scale.",
        gridplot(figures, ncols=GRID_COLUMNS, toolbar_location=None),
    )


def lag_figure(grid: UnitGrid, k: int, made: Any) -> Any:
    """Draw one autocorrelogram, both sides, over lags in ms."""
    edges_ms = np.arange(-N_LAGS, N_LAGS + 1) * LAG_BIN_S * 1000
    both = np.concatenate([grid.lag_hz[k][::-1], grid.lag_hz[k]])
    made.quad(left=edges_ms[:-1], right=edges_ms[1:], bottom=0, top=both, color=ACCENT)
    made.y_range.start = 0
    plain_ticks(made.xaxis, [-50, 0, 50])
    return made


def _cells(p: SessionPanels) -> list[tuple[int, int]]:
    return [(k, int(u)) for k, u in enumerate(p.grid.unit)]


def _drift(p: SessionPanels) -> Panel:
    d = p.drift
    middle_s = (d.edges_s[:-1] + d.edges_s[1:]) / 2
    over_time = plot(height=300, width=WIDTH // 2, x_axis_label="time (s)", y_axis_label="log2 of rate / mean rate")
    over_time.varea(x=middle_s, y1=d.quantile[0], y2=d.quantile[2], color=FAINT)
    over_time.line(middle_s, d.quantile[1], color=ACCENT, line_width=2)
    over_time.line([d.edges_s[0], d.edges_s[-1]], [0, 0], color=GREY, line_dash="dashed")
    over_time.x_range.range_padding = 0
    plain_ticks(over_time.xaxis)
    both = (d.first_hz > 0) & (d.last_hz > 0)
    moved = both & (np.abs(np.log2(np.where(both, d.last_hz, 1) / np.where(both, d.first_hz, 1))) > 1)
    pair = plot(
        height=300,
        width=WIDTH // 2,
        x_axis_type="log",
        y_axis_type="log",
        x_axis_label="rate in the first fifth (Hz)",
        y_axis_label="rate in the last fifth (Hz)",
    )
    if both.any():
        ends = [min(d.first_hz[both].min(), d.last_hz[both].min()), max(d.first_hz.max(), d.last_hz.max())]
        pair.line(ends, ends, color=GREY, line_dash="dashed")
        pair.scatter(d.first_hz[both & ~moved], d.last_hz[both & ~moved], color=ACCENT, size=5, alpha=0.7)
        pair.scatter(d.first_hz[moved], d.last_hz[moved], color=WARM, size=5, alpha=0.8)
    if both.any():
        for axis in (pair.xaxis, pair.yaxis):
            plain_ticks(axis, log_ticks(*ends))
    gone = int(np.sum((d.first_hz > 0) != (d.last_hz > 0)))
    return Panel(
        "Drift of rates",
        f"Left: median and quartiles of the {d.n_steady} units that fire in each of 20 parts. Right: a point is a "
        f"unit; orange where the rate more than doubled or halved ({int(moved.sum())}). Units that fire in one of the "
        f"two only: {gone}.",
        gridplot([[over_time, pair]], toolbar_location=None),
    )


def _features(p: SessionPanels) -> Panel:
    """Robust z scores: distance from the median over units, in quartile ranges."""
    z = robust_z(p.features)
    step = max(1, -(-z.shape[0] // MAX_ROWS))
    shown = z[::step]
    level = np.clip((np.nan_to_num(shown) + 2) / 4 * 126, 0, 126).astype(np.uint8)
    level[np.isnan(shown)] = 127
    palette = [*DIVERGING[:127], "#d5d9de"]
    made = plot(
        height=420,
        x_range=(0, len(FEATURE_NAMES)),
        y_range=(0, p.order.size),
        y_axis_label=order_label(p),
        tools="save",
    )
    made.min_border_left = BORDER_LEFT
    made.image(
        image=[level],
        x=0,
        y=0,
        dw=len(FEATURE_NAMES),
        dh=shown.shape[0] * step,
        color_mapper=LinearColorMapper(palette=palette, low=0, high=127),
    )
    made.xaxis.ticker = FixedTicker(ticks=[k + 0.5 for k in range(len(FEATURE_NAMES))])
    made.xaxis.major_label_overrides = {k + 0.5: name for k, name in enumerate(FEATURE_NAMES)}
    made.xaxis.major_label_orientation = "vertical"
    mapper = LinearColorMapper(palette=DIVERGING, low=-2, high=2)
    bar = ColorBar(color_mapper=mapper, width=10, padding=4, ticker=FixedTicker(ticks=[-2, -1, 0, 1, 2]))
    made.add_layout(bar, "right")
    which = f"every {step}th unit" if step > 1 else "every unit"
    return Panel(
        "Reference features",
        f"The 33 features stored at ingest, {which}: distance from the median over units in quartile ranges, cut at 2; "
        "grey where a feature is undefined.",
        made,
    )


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(value - median) / (third - first quartile) of each column (n_units, K); NaN stays, no spread gives 0."""
    out = np.full(values.shape, np.nan)
    for k in range(values.shape[1]):
        known = np.isfinite(values[:, k])
        if known.any():
            low, middle, high = np.quantile(values[known, k], (0.25, 0.5, 0.75))
            out[known, k] = (values[known, k] - middle) / (high - low) if high > low else 0.0
    return out
