"""Figures of training: how one run went, and several beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, DataRange1d
from bokeh.models.annotations import Span

from nhdata.report.draw import ACCENT, COLORS, GREY, WARM, distinct, legend_right, plain_ticks, plot, stacked
from nhdata.report.parts import Panel
from nhmodel.report.kept import Curves

N_CURVES = len(COLORS)
SCORE_AXIS = "fp-bps (bits/spike)"


def training_panel(curves: Curves) -> Panel:
    """Validation scores over the steps, the loss below."""
    if not curves.step:
        return Panel("Training", "No validation yet.")
    source = ColumnDataSource({name: getattr(curves, name) for name in Curves.__annotations__})
    x = DataRange1d(range_padding=0.02)
    tooltips = [("step", "@step"), ("minutes", "@minutes{0.0}"), ("validation", "@valid_fp_bps{0.0000}")]
    held_out = any(math.isfinite(value) for value in curves.unseen_fp_bps)
    if held_out:
        tooltips.append(("unseen", "@unseen_fp_bps{0.0000}"))
    score = plot(height=280, x_range=x, y_axis_label=SCORE_AXIS, tooltips=tooltips)
    _curve(score, source, "valid_fp_bps", ACCENT, "sessions of training, later windows")
    if held_out:
        _curve(score, source, "unseen_fp_bps", WARM, "sessions held out, zero-shot")
    loss = plot(height=180, x_range=x, y_axis_label="loss (nats)", x_axis_label="training step")
    _curve(loss, source, "loss", GREY, "training loss")
    if curves.best is not None:
        for made in (score, loss):
            made.add_layout(
                Span(location=curves.step[curves.best], dimension="height", line_color=GREY, line_dash="dotted")
            )
    for made in (score, loss):
        made.min_border_left = 72
        plain_ticks(made.xaxis)
        legend_right(made, width=232)
    kept = "" if curves.best is None else f" Dotted: step {curves.step[curves.best]:,}, whose weights were kept."
    caption = (
        "Above: bits per spike gained over each unit's training mean, on windows that were not trained on. Below: the "
        f"loss of the last step before each validation, Poisson and noisy.{kept}"
    )
    return Panel("Training", caption, stacked([score, loss]))


def runs_panel(curves: Mapping[str, Curves]) -> Panel | None:
    """Validation scores of the first `N_CURVES` runs; None where nothing was validated."""
    curves = {name: run for name, run in curves.items() if run.step}
    if not curves:
        return None
    made = plot(height=320, x_axis_label="training step", y_axis_label=f"validation {SCORE_AXIS}")
    shown: Sequence[str] = list(curves)[:N_CURVES]
    for label, name, color in zip(distinct(shown), shown, COLORS, strict=False):
        source = ColumnDataSource({"step": curves[name].step, "score": curves[name].deciding})
        _curve(made, source, "score", color, label)
    legend_right(made)
    plain_ticks(made.xaxis)
    of = f" of the newest {len(shown)} of {len(curves)} runs" if len(shown) < len(curves) else ""
    return Panel("Validation", f"Bits per spike gained over the null{of}; what chose the weights of each.", made)


def _curve(made: Any, source: ColumnDataSource, name: str, color: str, label: str) -> None:
    x = "step"
    made.line(x, name, source=source, color=color, line_width=2, legend_label=label)
    made.scatter(x, name, source=source, color=color, size=5, legend_label=label)
