"""Figure of training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nhdata.report.draw import COLORS, Panel, legend_right, plain_ticks, plot, short

N_CURVES = len(COLORS)


def runs_figure(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> list[Panel]:
    """Validation score over training steps, of the first `N_CURVES` runs; no panel without a run.

    Parameters
    ----------
    curves : mapping of name to (steps, fp-bps)
    """
    if not curves:
        return []
    made = plot(height=320, x_axis_label="training step", y_axis_label="validation fp-bps")
    for (name, (steps, score)), color in zip(curves.items(), COLORS, strict=False):
        made.line(list(steps), list(score), color=color, line_width=2, legend_label=short(name))
        made.scatter(list(steps), list(score), color=color, size=5, legend_label=short(name))
    legend_right(made)
    plain_ticks(made.xaxis)
    shown = min(len(curves), N_CURVES)
    return [Panel("Validation", f"Bits per spike over the null, of {shown} of {len(curves)} runs, newest first.", made)]
