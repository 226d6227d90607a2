"""Figure of a position: along time, as a path, and how long where."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import LinearColorMapper, Range1d
from bokeh.models.annotations import ColorBar

from nhdata.report.draw import (
    ACCENT,
    GREY,
    PALE_TO_DARK,
    WARM,
    WIDTH,
    legend_right,
    plain_ticks,
    plot,
    short,
)
from nhdata.report.parts import Panel
from nhdata.report.position import Position


def position_panel(p: Position, start_s: float, stop_s: float) -> Panel:
    """x and y over the session; below, the path and the occupancy, at one scale."""
    unit = short(p.unit, 14)
    over_time = plot(
        height=220,
        x_range=Range1d(start=start_s, end=stop_s, bounds="auto"),
        x_axis_label="time (s)",
        y_axis_label=f"position ({unit})",
    )
    for values, name, color in ((p.x, "x", ACCENT), (p.y, "y", WARM)):
        over_time.line(p.time_s, values, color=color, line_width=1.2, legend_label=name)
    legend_right(over_time)
    plain_ticks(over_time.xaxis)
    path = _map(p, unit, "path")
    path.line(p.x, p.y, color=GREY, line_width=0.7)
    where = _map(p, unit, "seconds spent")
    level = np.where(p.occupancy_s > 0, p.occupancy_s, np.nan)
    mapper = LinearColorMapper(palette=PALE_TO_DARK[24:], low=0, high=_most(p), nan_color="#ffffff")
    where.image(
        image=[level.astype(np.float32)],
        x=p.x_edges[0],
        y=p.y_edges[0],
        dw=np.ptp(p.x_edges),
        dh=np.ptp(p.y_edges),
        color_mapper=mapper,
    )
    bar = ColorBar(color_mapper=mapper, width=10, padding=4)
    where.add_layout(bar, "right")
    parts = column(over_time, row(path, where), sizing_mode="stretch_width")
    cell = p.x_edges[1] - p.x_edges[0]
    unknown = f" {1 - p.known:.1%} of the samples have no place." if p.known < 1 else ""
    return Panel(
        "Position" if p.name == "position" else f"Position: {short(p.name)}",
        f"Above: over the session. Left: the path. Right: seconds spent in cells of {cell:.3g} {unit}, "
        f"dark from the 98th percentile on.{unknown}",
        parts,
    )


def _map(p: Position, unit: str, title: str) -> Any:
    """An empty map with one scale for both axes."""
    wide, tall = float(np.ptp(p.x_edges)), float(np.ptp(p.y_edges))
    made = plot(
        width=WIDTH // 2,
        height=int(np.clip(400 * tall / wide + 70, 220, 460)),
        match_aspect=True,
        title=title,
        x_axis_label=f"x ({unit})",
        y_axis_label=f"y ({unit})",
    )
    made.x_range.range_padding = made.y_range.range_padding = 0.02
    made.ygrid.grid_line_color = None
    return made


def _most(p: Position) -> float:
    spent = p.occupancy_s[p.occupancy_s > 0]
    return float(np.quantile(spent, 0.98))
