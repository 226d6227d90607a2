"""The look of every figure, in one place: dark text on white, thin grey axes, one accent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bokeh.layouts import column
from bokeh.models import BasicTickFormatter, ColumnDataSource, FixedTicker
from bokeh.palettes import Blues256, interp_palette
from bokeh.plotting import figure

WIDTH, LEAST_WIDTH = 1040, 600
BORDER_LEFT = 64
INK, GREY, FAINT, ACCENT, WARM = "#1f2933", "#8a94a0", "#e4e8ec", "#2b5c8a", "#b5532a"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
COLORS = ("#2b5c8a", "#d08a2e", "#4f8f5b", "#a8493f", "#7a68a6", "#8c6d4f", "#c07aa8", "#6b7f8f", "#9aa23a", "#3fa0a8")
PALE_TO_DARK = tuple(Blues256[::-1])
DIVERGING = interp_palette((ACCENT, "#f7f7f7", WARM), 128)


def plot(height: int = 260, width: int = WIDTH, **options: Any) -> Any:
    """An empty figure in the common style; `options` go to ``bokeh.plotting.figure``.

    One as wide as the page becomes narrower with it, down to `LEAST_WIDTH`.
    """
    if width == WIDTH:
        options = {"sizing_mode": "stretch_width", "min_width": LEAST_WIDTH, "max_width": WIDTH} | options
    options.setdefault("tools", "xpan,xwheel_zoom,box_zoom,reset,save")
    options.setdefault("toolbar_location", "above")
    made: Any = figure(width=width, height=height, **options)
    made.toolbar.logo = None
    made.toolbar.autohide = True
    made.toolbar_inner = True
    made.outline_line_color = None
    made.min_border_right = 16
    for axis in made.axis:
        axis.axis_line_color = GREY
        axis.major_tick_line_color = GREY
        axis.minor_tick_line_color = None
        axis.major_label_text_color = INK
        axis.axis_label_text_color = INK
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_size = "12px"
        axis.major_label_text_font_size = "11px"
        axis.axis_label_standoff = 8
    made.title.text_color, made.title.text_font, made.title.text_font_size = INK, FONT, "11px"
    made.title.text_font_style = "normal"
    made.grid.grid_line_color = FAINT
    made.xgrid.grid_line_color = None
    return made


def legend_right(made: Any, width: int = 0) -> None:
    """Move the legend out of the figure, in the common style; of a `width`, so that figures below each other align."""
    legend = made.legend[0]
    legend.border_line_color = None
    legend.label_text_color = INK
    legend.label_text_font = FONT
    legend.label_text_font_size = "11px"
    legend.spacing = 2
    legend.margin = 0
    legend.padding = 4
    if width:
        legend.label_width = width
    made.add_layout(legend, "right")


def plain_ticks(axis: Any, ticks: list[float] | None = None) -> None:
    """Numbers as people write them; at `ticks` only, if given."""
    axis.formatter = BasicTickFormatter(use_scientific=False)
    if ticks is not None:
        axis.ticker = FixedTicker(ticks=ticks)


def short(name: str, length: int = 28) -> str:
    """A name that fits beside an axis; math delimiters are taken apart, for Bokeh would typeset them."""
    name = name.replace("$$", "$ $").replace("\\", "/")
    return name if len(name) <= length else name[: length - 1] + "…"


def stacked(parts: Sequence[Any]) -> Any:
    """Figures of one x axis below each other: its numbers stand under the last one only."""
    for made in parts[:-1]:
        made.xaxis.major_label_text_font_size = "0px"
        made.xaxis.major_label_standoff = 0
        made.min_border_bottom = 4
    return column(*parts, spacing=2, sizing_mode="stretch_width")


def log_ticks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis from `low` to `high` has numbers: every decade, or 1, 2 and 5 of each over few.

    Examples
    --------
    >>> log_ticks(0.05, 300.0)
    [0.1, 1.0, 10.0, 100.0]
    >>> log_ticks(0.4, 6.0)
    [0.5, 1.0, 2.0, 5.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if high / low > 50 else (1, 2, 5)
    ticks = [round(step * 10.0**decade, 12) for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def bars(labels: Sequence[str], n: Sequence[int], axis: str, **columns: Any) -> Any:
    """Horizontal bars with their numbers, the first on top; `columns` go to the source: ``color``, for tooltips."""
    values: dict[str, Any] = {"label": list(labels), "n": list(n), "text": [f"{one:,}" for one in n]}
    source = ColumnDataSource({**values, "color": [ACCENT] * len(n), **columns})
    made = plot(height=64 + 24 * len(n), y_range=list(labels)[::-1], x_axis_label=axis, tools="save")
    made.hbar(y="label", right="n", height=0.7, color="color", source=source)
    made.text(
        "n", "label", "text", source=source, x_offset=6, text_baseline="middle", text_font_size="11px", text_color=INK
    )
    made.x_range.start, made.x_range.end = 0, 1.08 * max(n, default=1)
    made.ygrid.grid_line_color = None
    plain_ticks(made.xaxis)
    return made


def distinct(labels: Sequence[str]) -> list[str]:
    """Labels as an axis needs them: one that was there before gets its number.

    Examples
    --------
    >>> distinct(["CA1", "DG", "CA1"])
    ['CA1', 'DG', 'CA1 (3)']
    """
    return [label if labels.index(label) == k else f"{label} ({k + 1})" for k, label in enumerate(labels)]
