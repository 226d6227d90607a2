"""``nhmodel train``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from nhcli import options
from nhcli.base import EXIT_INTERRUPTED, Command
from nhcli.model.threads import set_threads
from nhcli.output import print_json, progress_bar

if TYPE_CHECKING:
    from nhmodel.cosmoother import Model
    from nhmodel.training.standing import Standing


@click.command("train", cls=Command)
@options.store
@click.option(
    "--preset", default="tiny", show_default=True, help="A preset (tiny, small, base), or a TOML file of settings."
)
@click.option("--out", "run", required=True, metavar="FOLDER", help="Folder of the run.")
@click.option("--select", metavar="SQL", help="Units to train on: a SELECT with a column unit_id.")
@options.settings
@click.option("--resume", is_flag=True, help="Go on with the run at --out.")
@options.as_json
@options.progress
def command(
    store: str,
    preset: str,
    run: str,
    select: str | None,
    settings: tuple[str, ...],
    resume: bool,
    as_json: bool,
    progress: bool,
) -> None:
    """Train a NeuroHorizon on the units of a store, which is only read.

    Ctrl-C and SIGTERM save; --resume goes on from there. Several processes train one model under
    torchrun --nproc-per-node=2 --no-python nhmodel train …
    """
    from nhmodel.config import load_config
    from nhmodel.training import train
    from nhmodel.training.signals import raise_on_signals

    config = load_config(preset, settings, select=select)
    set_threads(config.train.threads)
    first = os.environ.get("RANK", "0") == "0"
    n_parameters = step = 0
    with raise_on_signals(), progress_bar(progress and first) as bar:
        task = bar.add_task("train", total=100, note="")
        began: tuple[float, int] | None = None

        def on_start(model: Model) -> None:
            nonlocal n_parameters
            n_parameters = model.n_parameters
            if first:
                click.echo(f"{preset}: {n_parameters:,} parameters", err=True)

        def on_step(standing: Standing) -> None:
            nonlocal began
            began = began or (time.monotonic(), standing.n_spikes)
            rate = (standing.n_spikes - began[1]) / max(time.monotonic() - began[0], 1e-9)
            note = f"step {standing.step}  loss {standing.loss:.4f}  valid {standing.valid_fp_bps:.4f} bits/spike"
            nonlocal step
            step = standing.step
            bar.update(task, completed=round(100 * standing.done), note=f"{note}  {rate:,.0f} spikes/s")

        try:
            standing = train(store, config, run, resume=resume, on_start=on_start, on_step=on_step)
        except KeyboardInterrupt as interrupt:
            if not first:
                raise SystemExit(getattr(interrupt, "exit_code", EXIT_INTERRUPTED)) from None
            if step:
                interrupt.args = (f"the state after step {step} or later is saved: add --resume to go on",)
            raise
    if not first:
        return
    value = {
        "run": run,
        "steps": standing.step,
        "minutes": round(standing.minutes, 2),
        "valid_fp_bps": standing.best,
        "n_parameters": n_parameters,
    }
    if as_json:
        print_json({"schema": 1, **value})
    else:
        click.echo(
            f"{run}: {standing.step} steps in {standing.minutes:.1f} min, "
            f"best validation {standing.best:.4f} bits/spike (step {standing.best_step})"
        )
