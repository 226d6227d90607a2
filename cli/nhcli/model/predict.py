"""``nhmodel predict``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nhcli import options
from nhcli.base import Command
from nhcli.model.threads import set_threads
from nhcli.output import print_json, progress_bar

if TYPE_CHECKING:
    from nhmodel.forecasts import Forecast


@click.command("predict", cls=Command)
@click.option("--run", required=True, metavar="FOLDER", help="Folder of the run.")
@options.store
@click.option("--out", required=True, metavar="PATH", help="Where to write; must not be there.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["zarr", "brainwidebench"]),
    default="zarr",
    show_default=True,
    help="Rates for xarray, or log rates that ibl_bwb_eval scores.",
)
@click.option(
    "--split",
    type=click.Choice(["test", "valid", "train", "all"]),
    default="test",
    show_default=True,
    help="Which windows of sessions of training to forecast.",
)
@click.option("--select", metavar="SQL", help="Units of sessions the run never saw; by default its own selection.")
@options.reference
@click.option(
    "--regime",
    default="adapted",
    show_default=True,
    metavar="NAME",
    help="How units never seen are known: zero-shot, adapted, hybrid, learned.",
)
@click.option("--label", default="neurohorizon", show_default=True, help="Name of a BrainWideBench submission.")
@click.option("--seed", default=43, show_default=True, help="Seed that a BrainWideBench submission names.")
@options.as_json
@options.progress
def command(
    run: str,
    store: str,
    out: str,
    form: str,
    split: str,
    select: str | None,
    reference_s: float,
    regime: str,
    label: str,
    seed: int,
    as_json: bool,
    progress: bool,
) -> None:
    """Forecast every window of a store, and write the rates.

    xarray.open_zarr(OUT, group=SESSION_ID, consolidated=False) has rate_hz by window, bin and unit.
    """
    from nhmodel.brainwidebench import write_brainwidebench
    from nhmodel.forecasts import forecasts, write_zarr
    from nhmodel.run import RunInfo

    set_threads(RunInfo.read(Path(run)).config.train.threads)
    skipped: list[dict[str, str]] = []

    def on_skip(session_id: str, reason: str) -> None:
        skipped.append({"session_id": session_id, "reason": reason})
        click.echo(f"skipped: {session_id}: {reason}", err=True)

    with progress_bar(progress) as bar:
        task = bar.add_task("predict", total=None, note="")

        def told() -> Iterator[Forecast]:
            for forecast in forecasts(
                run, store, split=split, select=select, reference_s=reference_s, regime=regime, on_skip=on_skip
            ):
                bar.update(task, advance=1, note=forecast.session_id)
                yield forecast

        found = told()
        if form == "zarr":
            session_ids = write_zarr(found, Path(out), {"run": run, "split": split})
        else:
            history_s = RunInfo.read(Path(run)).config.data.history_s
            session_ids = write_brainwidebench(found, Path(out), label, seed, history_s)
    if as_json:
        print_json({"schema": 1, "out": out, "format": form, "session_ids": session_ids, "skipped": skipped})
    else:
        click.echo(f"{out}: {len(session_ids)} sessions")
