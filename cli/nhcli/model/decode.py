"""``nhmodel decode``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from nhcli import options
from nhcli.base import Command
from nhcli.model.threads import set_threads
from nhcli.output import print_json


@click.command("decode", cls=Command)
@click.option("--run", required=True, metavar="FOLDER", help="Folder of the run.")
@options.store
@click.option(
    "--target",
    required=True,
    metavar="NAME",
    help="A series (of several columns: position.0), or trials.COLUMN, the label of a trial.",
)
@options.as_json
def command(run: str, store: str, target: str, as_json: bool) -> None:
    """Read behaviour from the encoder of a run, beside a readout of the binned spikes themselves.

    E.g. --target wheel_velocity or --target trials.choice. The encoder stays as it is; both readouts are linear.
    """
    from nhmodel.decode import decode
    from nhmodel.run import RunInfo

    set_threads(RunInfo.read(Path(run)).config.train.threads)

    def on_skip(session_id: str, reason: str) -> None:
        click.echo(f"skipped: {session_id}: {reason}", err=True)

    found = decode(run, store, target, on_skip=on_skip)
    if as_json:
        print_json({"schema": 1, "run": run, "target": target, "sessions": [asdict(one) for one in found]})
        return
    click.echo(f"{found[0].kind} of {target} on test windows")
    width = max(len(one.session_id) for one in found)
    click.echo(f"{'session':<{width}}  encoder   spikes   chance  windows")
    for one in found:
        scores = "  ".join(f"{score:+7.3f}" for score in (one.encoder, one.spikes, one.chance))
        click.echo(f"{one.session_id:<{width}}  {scores}  {one.n_windows:7d}")
