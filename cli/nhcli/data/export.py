"""``nhdata export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nhcli import options
from nhcli.base import EXIT_ERROR, EXIT_PARTLY, Command
from nhcli.output import print_json


@click.command("export", cls=Command)
@click.option("--to", "form", required=True, type=click.Choice(["brainset"]), help="Format to write.")
@options.store
@options.session_ids
@click.option("--out", required=True, metavar="DIR", help="Folder for the files, made if it is not there.")
@click.option(
    "--existing",
    type=click.Choice(["skip", "overwrite", "error"]),
    default="skip",
    show_default=True,
    help="What to do with a file that is there.",
)
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    form: str,
    store: str,
    session_ids: tuple[str, ...],
    out: str,
    existing: str,
    as_json: bool,
) -> None:
    """Write sessions as files that other programs read.

    \b
    brainset  DIR/<session>.h5, an HDF5 file for torch_brain (POYO) and temporaldata

    A file appears whole or not at all, so the same command run again goes on from where it was.

    Exit code: 0 all well, 1 nothing could be written, 3 some failed.
    """
    import nhdata
    from nhcatalog.errors import UserError
    from nhdata.export.brainset import write_brainset

    opened = nhdata.open(store)
    wanted = dict.fromkeys(map(opened.match, session_ids)) or opened.session_ids
    sessions = [opened.session(session_id) for session_id in wanted]
    paths = [Path(out, f"{session.session_id}.h5") for session in sessions]
    there = [path for path in paths if path.exists()]
    if existing == "error" and there:
        raise UserError(f"{there[0]} exists", "use --existing skip or overwrite, or name another folder")
    Path(out).mkdir(parents=True, exist_ok=True)
    report: dict[str, list[dict[str, Any]]] = {"exported": [], "skipped": [], "failed": []}
    for session, path in zip(sessions, paths, strict=True):
        one = {"session_id": session.session_id, "path": str(path)}
        if path in there and existing == "skip":
            report["skipped"].append(one)
            continue
        try:
            write_brainset(session, path)
        except UserError as error:
            report["failed"].append({**one, "error": f"session {session.session_id}: {error}"})
            click.echo(f"error: {report['failed'][-1]['error']}", err=True)
            continue
        report["exported"].append({**one, "n_units": session.n_units, "n_spikes": session.n_spikes})
        if not as_json:
            click.echo(f"{path}  {session.n_units} units  {session.n_spikes} spikes")
    if as_json:
        print_json({"schema": 1, "format": form, **report})
    else:
        click.echo(", ".join(f"{len(some)} {what}" for what, some in report.items()), err=True)
    if report["failed"]:
        ctx.exit(EXIT_PARTLY if report["exported"] or report["skipped"] else EXIT_ERROR)
