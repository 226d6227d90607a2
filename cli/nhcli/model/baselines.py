"""``nhmodel baselines``."""

from __future__ import annotations

import click

from nhcli import options
from nhcli.base import Command
from nhcli.model.threads import set_threads
from nhcli.pages import check_out
from nhcli.scores import evaluation_bar, show_scores


@click.command("baselines", cls=Command)
@options.store
@options.split
@click.option("--select", metavar="SQL", help="Units to forecast: a SELECT with a column unit_id.")
@click.option("--reference-s", type=float, help="Fit to the first seconds of each session only, and score the rest.")
@options.baseline
@options.settings
@options.html
@options.as_json
@options.progress
def command(
    store: str,
    split: str,
    select: str | None,
    reference_s: float | None,
    baselines: tuple[str, ...],
    settings: tuple[str, ...],
    html: str | None,
    as_json: bool,
    progress: bool,
) -> None:
    """Score the simple forecasters alone, on the windows that a run would be scored on; no run is needed.

    Each is fitted to the training split of each session and tuned on its validation split. The shape of a window
    is a setting, e.g. --set data.horizon_s=1.
    """
    from nhmodel.config import load_config
    from nhmodel.evaluation import evaluate_baselines

    if html is not None:
        check_out(html)
    config = load_config("tiny", settings, select=select)
    set_threads(config.train.threads)
    with evaluation_bar(progress, "baselines") as told:
        result = evaluate_baselines(
            store, config, split=split, reference_s=reference_s, baselines=baselines or None, **told
        )
    value = result.to_json(None)
    show_scores(result, value, as_json)
    if html is not None:
        from nhdata.report.page import to_html, write_page
        from nhmodel.report.pages import scores_page

        write_page(to_html(scores_page(value | result.pictures())), html)
