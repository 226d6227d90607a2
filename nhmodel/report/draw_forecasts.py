"""Panels of forecasts beside what came: of all bins that were forecast alike, and of single units over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import Range1d
from bokeh.models.annotations import Slope

from nhdata.report.draw import ACCENT, COLORS, GREY, legend_right, plain_ticks, plot, short
from nhdata.report.parts import Panel

Row = dict[str, Any]


def forecast_panels(value: Row) -> list[Panel]:
    """Predicted against observed rates, and forecasts of single units, as far as `value` has them."""
    return [*_calibration(value), *_traces(value)]


def _calibration(value: Row) -> list[Panel]:
    """Of all bins that were forecast to hold so much: how much did they hold?"""
    found = [one for one in value.get("calibration", []) if len(one["predicted_hz"])]
    if not found:
        return []
    made = plot(
        height=380,
        x_axis_label="predicted rate (Hz)",
        y_axis_label="observed rate (Hz)",
        x_axis_type="log",
        y_axis_type="log",
    )
    made.add_layout(Slope(gradient=1, y_intercept=0, line_color=GREY, line_dash="dashed"))
    for one, color in zip(found, COLORS, strict=False):
        points = np.array([one["predicted_hz"], one["observed_hz"]], float)
        predicted, observed = points[:, (points > 0).all(axis=0)]
        made.line(predicted, observed, color=color, line_width=2, legend_label=one["regime"])
        made.scatter(predicted, observed, color=color, size=6, legend_label=one["regime"])
    plain_ticks(made.xaxis)
    plain_ticks(made.yaxis)
    legend_right(made)
    caption = (
        "A point holds all bins, of whatever window and unit, that were forecast alike: 200 or more. On the dashed "
        "line the model means what it says; below it, it promises too much."
    )
    return [Panel("Predicted against observed rate", caption, made)]


def _traces(value: Row) -> list[Panel]:
    """What single units did, and what was forecast of them."""
    figures = list(_trace_figures(value))
    if not figures:
        return []
    caption = (
        f"Spikes in each horizon of {value['horizon_s']:g} s, as forecast at its start and as they came; the two "
        "units of a session with the most spikes."
    )
    return [Panel("Forecasts of single units", caption, column(*figures, sizing_mode="stretch_width"))]


def _trace_figures(value: Row) -> Iterator[Any]:
    for one in value.get("examples", []):
        t_s = np.asarray(one["t_s"], float)
        made = plot(
            height=190,
            title=short(one["unit_id"], 80),
            x_axis_label="start of the horizon (s)",
            y_axis_label="spikes",
            x_range=Range1d(start=float(t_s.min()), end=float(t_s.max() + value["horizon_s"]), bounds="auto"),
        )
        made.step(t_s, one["counts"], color=GREY, mode="after", legend_label="observed")
        made.step(t_s, one["expected"], color=ACCENT, line_width=2, mode="after", legend_label="forecast")
        made.min_border_left = 64
        made.y_range.start = 0
        plain_ticks(made.xaxis)
        legend_right(made, width=96)
        yield made
