"""Panels of an evaluation, from the object that ``nhmodel evaluate --json`` prints and its pictures."""

from __future__ import annotations

import math
from typing import Any

from bokeh.models import ColumnDataSource
from bokeh.models.annotations import Span

from nhdata.report.draw import ACCENT, COLORS, GREY, INK, WARM, distinct, legend_right, plot, short
from nhdata.report.parts import Panel, Table
from nhmodel.evaluation.result import HEADLINES, MODEL, NOT_FAIR, OF_TRAINING, ORACLES, tables
from nhmodel.report.draw_forecasts import forecast_panels

LABELS = {
    MODEL: "NeuroHorizon",
    "null": "null: training mean",
    "flat": "flat (oracle)",
    "true_rate": "true rate (oracle)",
    "mean": "mean",
    "trailing_mean": "trailing mean",
    "ewma": "EWMA, shrunk",
    "ridge_ar": "ridge autoregression",
    "rrr": "reduced-rank ridge",
    "glm": "Poisson GLM",
    "glm_coupled": "Poisson GLM, coupled",
    "psth": "PSTH",
    "gru": "GRU",
    "ridge": "ridge regression",
}
MEASURES = {
    "unit_bps": "per unit (bits/spike)",
    "poisson_d2": "Poisson D²",
    "within_unit_r": "within-unit r",
    "within_unit_r2": "within-unit R²",
    "psth_r2": "PSTH R²",
}
BASELINE, ORACLE = "#8a94a0", "#c4ccd4"
N_ROWS = 40
"""Sessions or regions that a figure shows at most; the table beside it has as many."""

Row = dict[str, Any]
Rows = dict[str, Row]
"""Scores by the name that `tables` gives them."""


def label(name: str) -> str:
    """A model as people call it: its regime stays.

    Examples
    --------
    >>> label("rrr"), label("neurohorizon, zero-shot"), label("mine")
    ('reduced-rank ridge', 'NeuroHorizon, zero-shot', 'mine')
    """
    model, comma, regime = name.partition(", ")
    return LABELS.get(model, short(model)) + comma + regime


def verdicts(value: Row) -> list[str]:
    """A sentence for each way to know the units: is the model better than the best baseline? And is the test fair?"""
    unfair = [f"Split '{value['split']}' {NOT_FAIR[value['split']]}."] if value["split"] in NOT_FAIR else []
    return [*(_verdict(delta) for delta in value["deltas_by_regime"]), *_several(value["scores"]), *unfair]


def _several(rows: list[Row]) -> list[str]:
    """That the model is several runs, and the score of each."""
    each = {row["regime"]: row["fp_bps_by_run"] for row in rows if len(row.get("fp_bps_by_run", [])) > 1}
    if not each:
        return []
    (n_runs,) = {len(runs) for runs in each.values()}
    scored = "; ".join(f"{regime} {', '.join(map(_digits, runs))}" for regime, runs in each.items())
    return [
        f"The model's scores are the mean of {n_runs} runs (each one's fp-bps: {scored}); training and settings below "
        "are those of the first."
    ]


def _verdict(delta: Row) -> str:
    lo, hi = delta["ci95"]
    regime = delta["regime"]
    where = "sessions it was trained on" if regime in OF_TRAINING else "sessions never seen"
    where += "" if regime == "seen" else f", {regime.removeprefix('seen-')}"
    if lo is None:
        return f"On {where}: too few windows to compare the model with the best baseline."
    verdict = "above" if lo > 0 else "below" if hi < 0 else "not distinguishable from"
    ceiling = delta.get("fraction_of_ceiling")
    share = "" if ceiling is None else f" It reaches {ceiling:.0%} of what the true rate scores."
    gained, interval = _signed(delta["fp_bps"]), f"[{_signed(lo)}, {_signed(hi)}]"
    return (
        f"On {where}, the model is {verdict} the best baseline, {label(delta['baseline'])}: {gained} bits per spike, "
        f"95\N{NO-BREAK SPACE}% interval {interval}.{share}"
    )


def score_panels(value: Row) -> list[Panel]:
    """All panels of an evaluation.

    Parameters
    ----------
    value : dict
        ``Evaluation.to_json(run) | Evaluation.pictures()``.
    """
    panels = []
    for title, rows in tables(value).items():
        best = next((name for name, row in rows.items() if row["model"] not in (MODEL, *ORACLES)), None)
        regime = _headline(rows)
        panels += [_scores(title, rows, value), *_horizons(title, value), _curves(title, rows, value, best)]
        panels += _parts(f"By region, {title}", "region", value["regions"], regime, best)
        panels += _parts(f"By session, {title}", "session_id", value["sessions"], regime, best)
    panels += _covariates(value.get("covariates", []))
    panels += forecast_panels(value)
    if value["skipped"]:
        skipped = [(row["session_id"], row["reason"]) for row in value["skipped"]]
        panels.append(Panel("Not scored", table=Table(("session", "why"), skipped, "lw")))
    return panels


def _headline(rows: Rows) -> str:
    """The regime whose parts are shown: the first that the headline would take."""
    regimes: list[str] = [row["regime"] for row in rows.values()]
    return min(regimes, key=HEADLINES.index)


def _color(model: str) -> str:
    return ACCENT if model == MODEL else ORACLE if model in ORACLES else BASELINE


def _scores(title: str, rows: Rows, value: Row) -> Panel:
    """A point and an interval for each model but the mean, which is the null; below, all of them and all measures."""
    shown = {name: row for name, row in rows.items() if row["fp_bps"] is not None and row["model"] != "mean"}
    made = _forest(
        [label(name) for name in shown],
        [(row["fp_bps"], *row["fp_bps_ci95"]) for row in shown.values()],
        [_color(row["model"]) for row in shown.values()],
        "fp-bps (bits/spike gained over the null)",
        model=[row["model"] for row in shown.values()],
    )
    measures = {key: head for key, head in MEASURES.items() if any(row[key] is not None for row in rows.values())}
    body = [
        (label(name), _digits(row["fp_bps"]), _interval(row["fp_bps_ci95"]), *(_digits(row[key]) for key in measures))
        for name, row in rows.items()
    ]
    marked = frozenset(k for k, row in enumerate(rows.values()) if row["model"] == MODEL)
    head = ("", "fp-bps (bits/spike)", "95 % interval", *measures.values())
    seen = title.startswith("seen")
    n_windows = max(row["n_windows"] for row in rows.values())
    which = f"of split '{value['split']}'" if seen else "after the reference"
    caption = (
        f"{n_windows:,} windows {which}, the same for every model. fp-bps: bits per spike "
        "gained over the null, each unit's mean rate in its training split or reference; lines are 95 % bootstrap "
        "intervals over blocks of time and sessions. Oracles know the scored windows: flat is the best forecast that "
        "never changes, the true rate is that of a simulation."
    )
    return Panel(f"Scores, {title}", caption, made, Table(head, body, "l" + "r" * (len(head) - 1), marked))


def _forest(
    labels: list[str],
    scores: list[tuple[float, float | None, float | None]],
    colors: list[str],
    axis: str,
    model: list[str] | None = None,
) -> Any:
    """A point with its interval, if it has one, in each row; the first on top. `model` is told beside the label."""
    names = distinct(labels)
    lo = [middle if low is None else low for middle, low, _ in scores]
    hi = [middle if high is None else high for middle, _, high in scores]
    source = ColumnDataSource(
        {
            "label": names,
            "model": model or names,
            "score": [middle for middle, _, _ in scores],
            "lo": lo,
            "hi": hi,
            "text": [_digits(middle) for middle, _, _ in scores],
            "color": colors,
        }
    )
    least, most = min([0.0, *lo]), max([0.0, *hi])
    margin = 0.04 * (most - least) or 0.1
    made = plot(
        height=76 + 26 * len(names),
        y_range=names[::-1],
        x_range=(least - margin, most + 3 * margin),
        x_axis_label=axis,
        tooltips=[("", "@label (@model)"), ("bits/spike", "@score{0.0000}"), ("95 %", "@lo{0.000} … @hi{0.000}")],
        tools="save",
    )
    made.add_layout(Span(location=0, dimension="height", line_color=GREY, line_dash="dashed"))
    made.segment(x0="lo", x1="hi", y0="label", y1="label", source=source, color="color", line_width=3)
    made.scatter("score", "label", source=source, color="color", size=10)
    made.text(
        "hi", "label", "text", source=source, x_offset=8, text_baseline="middle", text_font_size="11px", text_color=INK
    )
    made.ygrid.grid_line_color = None
    return made


def _horizons(title: str, value: Row) -> list[Panel]:
    """Where the first seconds of the horizon were scored by themselves: the model beside the best baseline in each."""
    if not value.get("horizons"):
        return []
    parts = [*value["horizons"], value]
    deltas = [
        (part["horizon_s"], delta)
        for part in parts
        for delta in part["deltas_by_regime"]
        if (delta["regime"] in OF_TRAINING) == title.startswith("seen")
    ]
    made = _forest(
        [
            f"{horizon_s:g} s" + ("" if delta["regime"] == "seen" else f", {delta['regime'].removeprefix('seen-')}")
            for horizon_s, delta in deltas
        ],
        [(delta["fp_bps"], *delta["ci95"]) for _, delta in deltas],
        [ACCENT] * len(deltas),
        "fp-bps gained over the best baseline (bits/spike)",
        model=[f"over {label(delta['baseline'])}" for _, delta in deltas],
    )
    columns = [tables(part)[title] for part in parts]
    whole = columns[-1]
    body = [(label(name), *(_digits(rows.get(name, {}).get("fp_bps")) for rows in columns)) for name in whole]
    marked = frozenset(k for k, row in enumerate(whole.values()) if row["model"] == MODEL)
    head = ("fp-bps (bits/spike)", *(f"first {part['horizon_s']:g} s" for part in value["horizons"]), "all")
    caption = (
        f"The first seconds of each horizon of {value['horizon_s']:g} s by themselves, against the same null; lines "
        f"are paired 95 % bootstrap intervals. The best baseline is that of each part: {_baselines(deltas)}."
    )
    return [Panel(f"By horizon, {title}", caption, made, Table(head, body, "l" + "r" * len(columns), marked))]


def _baselines(deltas: list[tuple[float, Row]]) -> str:
    """Which baseline was the best in which part of the horizon."""
    best: dict[str, list[str]] = {}
    for horizon_s, delta in deltas:
        best.setdefault(label(delta["baseline"]), []).append(f"{horizon_s:g} s")
    return "; ".join(f"{name} ({', '.join(dict.fromkeys(where))})" for name, where in best.items())


def _covariates(rows: list[Row]) -> list[Panel]:
    """What is lost without each covariate: over all units as a figure, in each region too as a table."""
    if not rows:
        return []
    known = [row for row in rows if row["delta_fp_bps"] is not None]
    made = _forest(
        [short(row["covariate"]) + ("" if row["regime"] == "seen" else f", {row['regime']}") for row in known],
        [(row["delta_fp_bps"], *row["ci95"]) for row in known],
        [ACCENT] * len(known),
        "fp-bps lost without it (bits/spike)",
    )
    body = [
        (
            row["covariate"],
            row["regime"],
            part.get("region", "all units"),
            part["n_units"],
            *(_digits(part[key]) for key in ("fp_bps", "fp_bps_without", "delta_fp_bps")),
            _interval(part["ci95"]),
        )
        for row in rows
        for part in (row, *row["regions"])
    ]
    head = ("covariate", "units known as", "region", "units", "with", "without", "lost fp-bps", "95 % interval")
    caption = (
        "Bits per spike that are lost when a covariate is masked out of this run, with paired 95 % intervals, over the "
        "sessions that have it."
    )
    return [Panel("Covariates", caption, made, Table(head, body, "lllrrrrr"))]


def _curves(title: str, rows: Rows, value: Row, best: str | None) -> Panel:
    """Scores bin by bin: the model and the best baseline stand out."""
    ahead = value.get("task") != "co-smoothing"
    made = plot(
        height=360,
        x_axis_label="time ahead (s)" if ahead else "time in the window (s)",
        y_axis_label="bits/spike in the bin",
    )
    made.add_layout(Span(location=0, dimension="width", line_color=GREY, line_dash="dashed"))
    shown = [name for name, row in rows.items() if row["model"] not in (*ORACLES, "mean")]
    mine = [name for name in shown if rows[name]["model"] == MODEL]
    colors = dict(zip(mine, (ACCENT, "#4f8fc4", "#7a68a6", "#3fa0a8"), strict=False)) | {best: WARM}
    quiet = iter([color for color in COLORS if color not in colors.values()] * 2)
    for name in shown:
        curve = [math.nan if v is None else v for v in rows[name]["bin_fp_bps"]]
        time_s = [(k + 0.5) * value["bin_s"] for k in range(len(curve))]
        color, width = (colors[name], 3.0) if name in colors else (next(quiet), 1.2)
        line = made.line(time_s, curve, color=color, line_width=width, legend_label=label(name))
        line.level = "overlay" if name in colors else "glyph"
    parts = value.get("horizons", [])
    for part in parts:
        made.add_layout(Span(location=part["horizon_s"], dimension="height", line_color=GREY, line_dash="dotted"))
    made.legend.click_policy = "hide"
    legend_right(made)
    made.x_range.start = 0
    which = "How far ahead" if ahead else "Through the window"
    thick = " and ".join([*(["the model"] if mine else []), *([f"the best baseline, {label(best)}"] if best else [])])
    bin_ms = value["bin_s"] * 1000
    caption = (
        f"Bits per spike gained over the null in each bin of {bin_ms:g} ms. Thick: {thick}. A click on a name hides it."
        f"{' Dotted: the end of each part that is scored by itself.' if parts else ''}"
    )
    return Panel(f"{which}, {title}", caption, made)


def _parts(title: str, key: str, found: list[Row], regime: str, best: str | None) -> list[Panel]:
    """Scores of each region or session: the model beside the best baseline, and all models in a table."""
    found = [row for row in found if row["regime"] == regime]
    if not found:
        return []
    found = sorted(found, key=lambda row: row[key] if key == "session_id" else -row["n_spikes"])[:N_ROWS]
    names = distinct([short(str(row[key])) for row in found])
    has_model = any(MODEL in row["fp_bps"] for row in found)
    made = plot(
        height=84 + 22 * len(found),
        y_range=names[::-1],
        x_axis_label="fp-bps (bits/spike gained over the null)",
        tools="save",
    )
    made.add_layout(Span(location=0, dimension="height", line_color=GREY, line_dash="dashed"))
    pairs = [(model, color) for model, color in ((best, WARM), (MODEL if has_model else None, ACCENT)) if model]
    for model, color in pairs:
        scores = [_float(row["fp_bps"].get(model)) for row in found]
        made.scatter(scores, names, color=color, size=9, legend_label=label(model))
    if len(pairs) == 2:
        ends = [[_float(row["fp_bps"].get(model)) for row in found] for model, _ in pairs]
        joined = made.segment(x0=ends[0], x1=ends[1], y0=names, y1=names, color=ORACLE, line_width=2)
        joined.level = "underlay"
    if pairs:
        legend_right(made)
    models = [model for model in found[0]["fp_bps"] if model not in ORACLES and model != "mean"]
    models.sort(key=lambda model: (model != MODEL, model != best))
    counts = ["n_units", "n_spikes"] if key == "region" else ["n_units"]
    head = [key.removesuffix("_id"), *(name.removeprefix("n_") for name in counts), *(label(model) for model in models)]
    body = [
        (str(row[key]), *(row[name] for name in counts), *(_digits(row["fp_bps"].get(model)) for model in models))
        for row in found
    ]
    known = "" if regime == "seen" or not has_model else f" Units known by: {regime}."
    caption = f"fp-bps (bits/spike), sums over the windows of each.{known}"
    return [Panel(title, caption, made, Table(head, body, "l" + "r" * (len(head) - 1)))]


def _float(value: float | None) -> float:
    return math.nan if value is None else value


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:z.3f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _interval(ends: list[float | None]) -> str:
    lo, hi = ends
    return "–" if lo is None or hi is None else f"{_digits(lo)} … {_digits(hi)}"
