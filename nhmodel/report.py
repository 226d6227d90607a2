"""An evaluation as one HTML file that needs no network."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, Div, Whisker
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from bokeh.resources import INLINE

from nhmodel.evaluation.evaluate import MODEL, ORACLES, Evaluation, Example

WIDTH = 900
COLORS = ("#1f77b4", "#b0b0b0")


def write_report(evaluation: Evaluation, value: dict[str, Any], path: str | Path) -> None:
    """Write the report of an evaluation, replacing the file at `path` by one rename.

    Parameters
    ----------
    evaluation : Evaluation
    value : dict
        ``evaluation.to_json(run)``.
    path : path
    """
    parts: list[Any] = [_heading(value)]
    for regime, delta in zip(evaluation.regimes, value["deltas_by_regime"], strict=True):
        rows = [row for row in value["scores"] if row["regime"] == regime]
        parts += [_verdict(regime, delta), _bars(regime, rows), _curves(regime, rows, evaluation), _table(rows)]
    parts += [_trace(example) for example in evaluation.examples]
    page = file_html(column(*parts), INLINE, title=f"NeuroHorizon: {value['run']}")
    temporary = Path(f"{path}.{os.getpid()}.part")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(page)
    os.replace(temporary, path)


def _heading(value: dict[str, Any]) -> Div:
    return Div(
        text=f"<h1>{html.escape(value['run'])}</h1><p>{value['n_windows']} windows, split <b>{value['split']}</b>: "
        f"{value['horizon_s']} s ahead in bins of {value['bin_s']} s. Scores are bits per spike gained over the "
        "null, each unit's mean rate in its training split or reference. <i>flat</i> is an oracle: the best "
        "forecast that never changes, fitted to the scored windows themselves.</p>",
        width=WIDTH,
    )


def _verdict(regime: str, delta: dict[str, Any]) -> Div:
    lo, hi = delta["ci95"]
    if lo is None:
        text = "Too few windows to say how the model compares with the baselines."
    else:
        verdict = "above" if lo > 0 else "below" if hi < 0 else "not distinguishable from"
        text = (
            f"The model is <b>{verdict}</b> the best baseline, {delta['baseline']}: "
            f"{delta['fp_bps']:+.3f} bits per spike, 95 % interval [{lo:+.3f}, {hi:+.3f}]."
        )
    return Div(text=f"<h2>Sessions: {regime}</h2><p>{text}</p>", width=WIDTH)


def _bars(regime: str, rows: list[dict[str, Any]]) -> Any:
    rows = sorted((r for r in rows if r["fp_bps"] is not None), key=lambda r: r["fp_bps"])
    source = ColumnDataSource(
        {
            "model": [r["model"] for r in rows],
            "fp_bps": [r["fp_bps"] for r in rows],
            "lo": [r["fp_bps"] if r["fp_bps_ci95"][0] is None else r["fp_bps_ci95"][0] for r in rows],
            "hi": [r["fp_bps"] if r["fp_bps_ci95"][1] is None else r["fp_bps_ci95"][1] for r in rows],
            "color": [COLORS[0] if r["model"] == MODEL else COLORS[1] for r in rows],
        }
    )
    ends = [0.0, *source.data["lo"], *source.data["hi"]]
    margin = 0.04 * (max(ends) - min(ends))
    plot = figure(
        y_range=source.data["model"],
        x_range=(min(ends) - margin, max(ends) + margin),
        width=WIDTH,
        height=80 + 28 * len(rows),
        title=f"fp-bps with 95 % intervals ({regime})",
        x_axis_label="bits per spike",
        tooltips=[("model", "@model"), ("fp-bps", "@fp_bps{0.000}"), ("interval", "@lo{0.000} … @hi{0.000}")],
    )
    plot.hbar(y="model", right="fp_bps", height=0.7, color="color", source=source)
    plot.add_layout(Whisker(base="model", lower="lo", upper="hi", dimension="width", source=source))
    return plot


def _curves(regime: str, rows: list[dict[str, Any]], evaluation: Evaluation) -> Any:
    plot = figure(
        width=WIDTH,
        height=320,
        title=f"How far ahead ({regime})",
        x_axis_label="time ahead (s)",
        y_axis_label="bits per spike in the bin",
    )
    shown = [r for r in rows if r["model"] not in ORACLES]
    for row, color in zip(shown, Category10_10 * 3, strict=False):
        curve = [float("nan") if v is None else v for v in row["bin_fp_bps"]]
        ahead_s = [(k + 0.5) * evaluation.bin_s for k in range(len(curve))]
        width = 3 if row["model"] == MODEL else 1.2
        plot.line(ahead_s, curve, color=color, line_width=width, legend_label=row["model"])
    plot.legend.click_policy = "hide"
    plot.add_layout(plot.legend[0], "right")
    return plot


def _table(rows: list[dict[str, Any]]) -> Div:
    keys = (
        ("fp_bps", "fp-bps"),
        ("unit_bps", "mean of units"),
        ("poisson_d2", "Poisson D²"),
        ("within_unit_r", "within-unit r"),
        ("within_unit_r2", "within-unit R²"),
    )
    head = "".join(f"<th style='text-align:right;padding:2px 12px'>{label}</th>" for _, label in keys)
    body = ""
    for row in sorted(rows, key=lambda r: -(r["fp_bps"] or 0.0)):
        cells = "".join(
            f"<td style='text-align:right;padding:2px 12px'>{'–' if row[k] is None else format(row[k], '.3f')}</td>"
            for k, _ in keys
        )
        body += f"<tr><td>{html.escape(row['model'])}</td>{cells}</tr>"
    return Div(text=f"<table><tr><th></th>{head}</tr>{body}</table>", width=WIDTH)


def _trace(example: Example) -> Any:
    plot = figure(
        width=WIDTH,
        height=220,
        title=f"Unit {example.unit_id}: spikes per horizon",
        x_axis_label="end of history (s)",
        y_axis_label="spikes",
        tools="xpan,xwheel_zoom,box_zoom,reset,save",
    )
    plot.step(example.t_s, example.counts, color="#999999", mode="after", legend_label="observed")
    plot.line(example.t_s, example.expected, color=COLORS[0], line_width=2, legend_label="forecast")
    plot.add_layout(plot.legend[0], "right")
    return plot
