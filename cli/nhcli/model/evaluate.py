"""``nhmodel evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from nhcli import options
from nhcli.base import Command
from nhcli.model.threads import set_threads
from nhcli.pages import check_out
from nhcli.scores import evaluation_bar, show_scores


@click.command("evaluate", cls=Command)
@click.option(
    "--run",
    "runs",
    required=True,
    multiple=True,
    metavar="FOLDER",
    help="Folder of the run; repeated for runs that differ by their seed.",
)
@options.store
@options.split
@click.option(
    "--horizon-s",
    "horizons_s",
    multiple=True,
    type=float,
    metavar="SECONDS",
    help="Score the first seconds of the horizon by themselves, too; may be repeated.",
)
@click.option("--select", metavar="SQL", help="Units of sessions the run never saw; by default its own selection.")
@options.reference
@click.option(
    "--regime",
    "regimes",
    multiple=True,
    metavar="NAME",
    help="Only these ways to know units never seen: zero-shot, adapted, hybrid, learned; may be repeated. "
    "seen-hybrid: sessions of training on top of the best baseline, too.",
)
@options.baseline
@options.html
@click.option("--card", is_flag=True, help="Keep each run's own scores with it, and show them in its model card.")
@options.as_json
@options.progress
def command(
    runs: tuple[str, ...],
    store: str,
    split: str,
    horizons_s: tuple[float, ...],
    select: str | None,
    reference_s: float,
    regimes: tuple[str, ...],
    baselines: tuple[str, ...],
    html: str | None,
    card: bool,
    as_json: bool,
    progress: bool,
) -> None:
    """Score a run beside the null and every baseline, by default on windows that nothing was fitted to.

    fp-bps: bits per spike gained over each unit's mean rate. Sessions the run never saw are scored from their first
    reference seconds on: zero-shot (units known by their features), adapted (and by embeddings fitted to the
    reference), hybrid (on top of the best baseline), learned (embeddings without features). Baselines are
    fitted to the same reference. Of several runs, the score is that of any one of them on average.
    """
    from nhmodel.evaluation import evaluate
    from nhmodel.evaluation.identity import REGIMES
    from nhmodel.run import RunInfo

    if html is not None:
        check_out(html)
    set_threads(RunInfo.read(Path(runs[0])).config.train.threads)
    with evaluation_bar(progress) as told:
        result = evaluate(
            runs,
            store,
            split=split,
            horizons_s=horizons_s,
            select=select,
            reference_s=reference_s,
            baselines=baselines or None,
            regimes=regimes or REGIMES,
            **told,
        )
    value = result.to_json(", ".join(runs))
    show_scores(result, value, as_json)
    if card:
        from nhmodel.card import add_scores

        for k, run in enumerate(runs):
            own = result.of_run(k)
            add_scores(Path(run), own.to_json(run) | own.pictures())
    if html is not None:
        from nhdata.report.page import to_html, write_page
        from nhmodel.report.kept import KeptRun
        from nhmodel.report.pages import run_page

        write_page(to_html(run_page(KeptRun.read(runs[0]), value | result.pictures())), html)
