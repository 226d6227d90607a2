"""``nhmodel report``."""

from __future__ import annotations

from pathlib import Path

import click

from nhcli import options
from nhcli.base import Command
from nhcli.pages import check_out, give_page
from nhcli.scores import evaluation_bar


@click.command("report", cls=Command)
@click.option("--run", required=True, metavar="FOLDER", help="Folder of the run.")
@click.option("--store", metavar="STORE", help="Score the run on this store first; by default, what was kept with it.")
@options.page_out
@options.page_png
@options.as_json
@options.progress
def command(run: str, store: str | None, out: str | None, png: str | None, as_json: bool, progress: bool) -> None:
    """A page to look at, of a run, in one HTML file that needs no network.

    How training went, what the run was made from, and its scores beside the null, a flat forecast and the baselines:
    those that 'nhmodel evaluate --card' kept with it, or fresh ones with --store.

    \b
    nhmodel report --run runs/first
    nhmodel report --run runs/first --store data.zarr --out first.html --png
    """
    from nhmodel.report.kept import KeptRun
    from nhmodel.report.pages import run_page

    out = out or f"{Path(run).resolve().name}.html"
    check_out(out, png)
    kept, scores = KeptRun.read(run), None
    if store is not None:
        from nhmodel.evaluation import evaluate

        with evaluation_bar(progress) as told:
            result = evaluate(run, store, **told)
        scores = result.to_json(run) | result.pictures()
    give_page(run_page(kept, scores), {"run": run, "store": store}, out, png, as_json)
