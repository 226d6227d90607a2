"""An evaluation as one HTML file that needs no network."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.models import ColumnDataSource
from bokeh.models.annotations import Slope, Whisker
from bokeh.models.widgets import Div
from bokeh.palettes import Category20_20
from bokeh.resources import INLINE

from nhdata.report.draw import ACCENT, WIDTH, plot
from nhmodel.evaluation.result import HEADLINES, MODEL, ORACLES, Evaluation, Example, tables

COLORS = (ACCENT, "#b0b0b0")

Rows = dict[str, dict[str, Any]]
"""Scores by the name that is shown."""


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
    for title, rows in tables(value).items():
        regimes = dict.fromkeys(row["regime"] for row in rows.values() if row["model"] == MODEL)
        parts.append(Div(text=f"<h2>{title.capitalize()}</h2>", width=WIDTH))
        parts += [_verdict(delta) for delta in value["deltas_by_regime"] if delta["regime"] in regimes]
        parts += [_bars(title, rows), _table(rows), _curves(title, rows, evaluation)]
        parts += [_calibration(evaluation, list(regimes))] if regimes else []
        parts += _regions(title, [row for row in value["regions"] if row["regime"] in _chosen(rows)])
    parts += [_trace(example) for example in evaluation.examples]
    page = file_html(column(*parts), INLINE, title=f"NeuroHorizon: {value['run'] or 'baselines'}")
    temporary = Path(f"{path}.{os.getpid()}.part")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(page)
    os.replace(temporary, path)


def _heading(value: dict[str, Any]) -> Div:
    return Div(
        text=f"<h1>{html.escape(value['run'] or 'baselines')}</h1><p>{value['n_windows']} windows, split "
        f"<b>{value['split']}</b>: {value['horizon_s']} s ahead in bins of {value['bin_s']} s. Scores are bits per "
        "spike gained over the null, each unit's mean rate in its training split or reference. <i>flat</i> is an "
        "oracle: the best forecast that never changes, fitted to the scored windows themselves; so is "
        "<i>true_rate</i>, in simulations.</p>",
        width=WIDTH,
    )


def _verdict(delta: dict[str, Any]) -> Div:
    lo, hi = delta["ci95"]
    if lo is None:
        text = "Too few windows to say how the model compares with the baselines."
    else:
        verdict = "above" if lo > 0 else "below" if hi < 0 else "not distinguishable from"
        text = (
            f"{delta['regime'].capitalize()}: the model is <b>{verdict}</b> the best baseline, {delta['baseline']}: "
            f"{delta['fp_bps']:+.3f} bits per spike, 95 % interval [{lo:+.3f}, {hi:+.3f}]."
        )
    return Div(text=f"<p>{text}</p>", width=WIDTH)


def _bars(title: str, rows: Rows) -> Any:
    shown = {name: r for name, r in reversed(rows.items()) if r["fp_bps"] is not None}
    source = ColumnDataSource(
        {
            "model": list(shown),
            "fp_bps": [r["fp_bps"] for r in shown.values()],
            "lo": [r["fp_bps"] if r["fp_bps_ci95"][0] is None else r["fp_bps_ci95"][0] for r in shown.values()],
            "hi": [r["fp_bps"] if r["fp_bps_ci95"][1] is None else r["fp_bps_ci95"][1] for r in shown.values()],
            "color": [COLORS[0] if r["model"] == MODEL else COLORS[1] for r in shown.values()],
        }
    )
    ends = [0.0, *source.data["lo"], *source.data["hi"]]
    margin = 0.04 * (max(ends) - min(ends))
    made = plot(
        y_range=source.data["model"],
        x_range=(min(ends) - margin, max(ends) + margin),
        height=80 + 24 * len(shown),
        title=f"fp-bps with 95 % intervals, {title}",
        x_axis_label="bits per spike",
        tooltips=[("model", "@model"), ("fp-bps", "@fp_bps{0.000}"), ("interval", "@lo{0.000} … @hi{0.000}")],
    )
    made.hbar(y="model", right="fp_bps", height=0.7, color="color", source=source)
    made.add_layout(Whisker(base="model", lower="lo", upper="hi", dimension="width", source=source))
    return made


def _curves(title: str, rows: Rows, evaluation: Evaluation) -> Any:
    made = plot(
        height=340,
        title=f"How far ahead, {title}",
        x_axis_label="time ahead (s)",
        y_axis_label="bits per spike in the bin",
    )
    shown = {name: row for name, row in rows.items() if row["model"] not in ORACLES}
    for (name, row), color in zip(shown.items(), Category20_20 * 2, strict=False):
        curve = [float("nan") if v is None else v for v in row["bin_fp_bps"]]
        ahead_s = [(k + 0.5) * evaluation.bin_s for k in range(len(curve))]
        width = 3 if row["model"] == MODEL else 1.2
        made.line(ahead_s, curve, color=color, line_width=width, legend_label=name)
    made.legend.click_policy = "hide"
    made.add_layout(made.legend[0], "right")
    return made


def _calibration(evaluation: Evaluation, regimes: list[str]) -> Any:
    made = plot(
        height=340,
        title="Predicted against observed rate, over bins of similar forecast",
        x_axis_label="predicted rate (Hz)",
        y_axis_label="observed rate (Hz)",
        x_axis_type="log",
        y_axis_type="log",
    )
    for regime, color in zip(regimes, Category20_20[::2], strict=False):
        predicted, observed = evaluation.calibration[regime].curve_hz(evaluation.bin_s)
        some = observed > 0
        made.line(predicted[some], observed[some], color=color, legend_label=regime)
        made.scatter(predicted[some], observed[some], color=color, size=5)
    made.add_layout(Slope(gradient=1, y_intercept=0, line_color="#999999", line_dash="dashed"))
    if made.legend:
        made.add_layout(made.legend[0], "right")
    return made


def _chosen(rows: Rows) -> list[str]:
    """The regime whose regions are shown: the first that the table's headline would take."""
    regimes = [row["regime"] for row in rows.values()]
    return sorted(regimes, key=HEADLINES.index)[:1]


def _regions(title: str, regions: list[dict[str, Any]]) -> list[Div]:
    if not regions:
        return []
    models = [model for model in regions[0]["fp_bps"] if model not in ORACLES and model != "mean"]
    models.sort(key=lambda model: model != MODEL)
    heading = f"<h3>By region, {title}{'' if title.startswith('seen') else ' (' + regions[0]['regime'] + ')'}</h3>"
    body = [
        (html.escape(r["region"]), str(r["n_units"]), str(r["n_spikes"]), *(_cell(r["fp_bps"][m]) for m in models))
        for r in sorted(regions, key=lambda r: -r["n_spikes"])
    ]
    return [Div(text=heading + _html_table(["region", "units", "spikes", *models], body), width=WIDTH)]


def _table(rows: Rows) -> Div:
    keys = {
        "fp_bps": "fp-bps",
        "unit_bps": "mean of units",
        "poisson_d2": "Poisson D²",
        "within_unit_r": "within-unit r",
        "within_unit_r2": "within-unit R²",
        "psth_r2": "PSTH R²",
    }
    body = [(html.escape(name), *(_cell(row[key]) for key in keys)) for name, row in rows.items()]
    return Div(text=_html_table(["", *keys.values()], body), width=WIDTH)


def _html_table(head: list[str], body: list[tuple[str, ...]]) -> str:
    style = "style='text-align:right;padding:2px 10px'"
    lines = ["".join(f"<th {style}>{label}</th>" for label in head)]
    lines += [f"<td>{row[0]}</td>" + "".join(f"<td {style}>{cell}</td>" for cell in row[1:]) for row in body]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _trace(example: Example) -> Any:
    made = plot(
        height=220,
        title=f"Unit {example.unit_id}: spikes per horizon",
        x_axis_label="end of history (s)",
        y_axis_label="spikes",
    )
    made.step(example.t_s, example.counts, color="#999999", mode="after", legend_label="observed")
    made.line(example.t_s, example.expected, color=COLORS[0], line_width=2, legend_label="forecast")
    made.add_layout(made.legend[0], "right")
    return made
