"""Figures of where units are: by depth, on a map, by region or probe."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource, LogColorMapper
from bokeh.models.annotations import ColorBar
from numpy.typing import NDArray

from nhdata.report.draw import (
    BORDER_LEFT,
    COLORS,
    PALE_TO_DARK,
    WIDTH,
    bars,
    legend_right,
    log_ticks,
    plain_ticks,
    plot,
    short,
)
from nhdata.report.parts import Panel
from nhdata.report.session_panels import SessionPanels

N_NAMED_REGIONS = len(COLORS) - 1
LEAST_PLACES = 8
"""Fewer different places of electrodes are no map."""


def places_panels(p: SessionPanels) -> list[Panel]:
    """Depth against rate, coloured by region; without depths, a map of the electrodes and units by region or probe."""
    region = names_of(p, "region", "unknown")
    depth = np.asarray(p.units.get("depth_um", np.full(p.rate_hz.size, np.nan)), float)
    known = np.isfinite(depth) & (p.rate_hz > 0)
    if not known.any():
        probe = names_of(p, "probe", "unnamed")
        by, title = (region, "region") if np.unique(region).size > 1 else (probe, "probe")
        groups, placed = _groups(by), _map(p)
        if len(groups) < 2:
            return placed
        labels = [f"{k + 1}. {short(name)}" for k, (name, _) in enumerate(groups)]
        n = [int(inside.sum()) for _, inside in groups]
        return [*placed, Panel(f"Units by {title}", "The source gives no depths.", bars(labels, n, "units"))]
    groups = _groups(region)
    made = plot(height=360, x_axis_type="log", x_axis_label="mean rate (Hz)", y_axis_label="depth (µm)")
    made.min_border_left = BORDER_LEFT
    plain_ticks(made.xaxis)
    plain_ticks(made.yaxis)
    for (name, inside), color in zip(groups, COLORS, strict=False):
        shown = inside & known
        if shown.any():
            label = f"{short(name)} ({int(inside.sum())})"
            made.scatter(p.rate_hz[shown], depth[shown], color=color, size=6, alpha=0.75, legend_label=label)
    legend_right(made)
    left_out = int(np.sum(~known))
    note = f" {left_out} units without a depth or a spike are not shown." if left_out else ""
    return [Panel("Depth by region", f"A point is a unit; the legend counts units.{note}", made)]


def _map(p: SessionPanels) -> list[Panel]:
    """Units where their electrodes are, by rate; no panel where the source places too few."""
    nowhere = np.full(p.rate_hz.size, np.nan)
    x, y = (np.asarray(p.units.get(name, nowhere), float) for name in ("x_um", "y_um"))
    known = np.isfinite(x) & np.isfinite(y) & (p.rate_hz > 0)
    if len(np.unique(np.stack([x, y])[:, known], axis=1).T) < LEAST_PLACES:
        return []
    x, y, rate_hz = x[known], y[known], p.rate_hz[known]
    order = np.argsort(rate_hz, kind="stable")  # the busiest on top
    low, high = np.quantile(rate_hz, (0.02, 0.98))
    mapper = LogColorMapper(palette=PALE_TO_DARK[40:], low=low, high=max(high, 1.01 * low))
    made = plot(
        width=WIDTH // 2 + 80,
        height=int(np.clip(480 * np.ptp(y) / max(np.ptp(x), 1.0) + 80, 220, 480)),
        match_aspect=True,
        x_axis_label="x (µm)",
        y_axis_label="y (µm)",
        title="rate (Hz)",
    )
    source = ColumnDataSource({"x": x[order], "y": y[order], "rate_hz": rate_hz[order]})
    made.scatter("x", "y", source=source, size=6, color={"field": "rate_hz", "transform": mapper}, alpha=0.9)
    bar = ColorBar(color_mapper=mapper, width=10, padding=4)
    plain_ticks(bar, log_ticks(low, max(high, 1.01 * low)) or None)
    made.add_layout(bar, "right")
    plain_ticks(made.xaxis)
    plain_ticks(made.yaxis)
    left_out = int(np.sum(~known))
    note = f" {left_out} units without a place or a spike are not shown." if left_out else ""
    return [Panel("Places", f"A point is a unit, at its electrode; the busiest lie on top.{note}", made)]


def names_of(p: SessionPanels, column: str, missing: str) -> NDArray[np.str_]:
    """A column of names of the units, (n_units,)."""
    return np.array([str(v) or missing for v in p.units.get(column, np.full(p.rate_hz.size, ""))], np.str_)


def _groups(names: NDArray[np.str_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """The largest groups of units by name, and the others as one."""
    found, n = np.unique(names, return_counts=True)
    largest = [str(name) for name in found[np.argsort(-n, kind="stable")]]
    groups = [(name, names == name) for name in largest[:N_NAMED_REGIONS]]
    if others := largest[N_NAMED_REGIONS:]:
        groups.append((f"{len(others)} more", np.isin(names, others)))
    return groups
