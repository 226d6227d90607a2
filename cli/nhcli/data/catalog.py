"""``nhdata catalog``: look after the catalog of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nhcli import options
from nhcli.base import EXIT_ERROR, EXIT_PARTLY, Command
from nhcli.output import print_json, progress_bar, write_rows

if TYPE_CHECKING:
    from nhcatalog.catalog import Catalog


@click.group("catalog")
def command() -> None:
    """Look after the catalog of a store: history, checks, upkeep.

    \b
    nhdata catalog log --store data.zarr
    nhdata catalog verify --store data.zarr
    """


def _open(store: str) -> Catalog:
    """Also of a store whose catalog is damaged."""
    from nhdata.store.store import open_catalog

    return open_catalog(store)


@command.command("log", cls=Command)
@options.store
@click.option("--limit", type=click.IntRange(min=1), help="Only the last so many changes.")
@options.table_format
@options.out
@options.as_json
def log(store: str, limit: int | None, form: str, out: str | None, as_json: bool) -> None:
    """Every change, the latest first; its position is what --at takes."""
    rows = _open(store).log(limit)
    if as_json:
        print_json({"schema": 1, "commits": rows.to_pylist()}, out)
    else:
        write_rows(rows, form, out)


@command.command("verify", cls=Command)
@options.store
@options.as_json
@click.pass_context
def verify(ctx: click.Context, store: str, as_json: bool) -> None:
    """Read every file of the catalog and check that they are whole and agree.

    Exit code: 0 sound, 1 problems were found. 'nhdata validate' checks the sessions themselves.
    """
    problems = _open(store).verify()
    if as_json:
        print_json({"schema": 1, "ok": not problems, "problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        click.echo("sound" if not problems else f"{len(problems)} problems", err=True)
    ctx.exit(EXIT_ERROR if problems else 0)


@command.command("compact", cls=Command)
@options.store
@click.option("--full", is_flag=True, help="Write the large files anew as well.")
@options.as_json
def compact(store: str, full: bool, as_json: bool) -> None:
    """Fold the files of single sessions into a few large ones.

    Writers do this by themselves from time to time. Nobody needs to stop meanwhile.
    """
    catalog = _open(store)
    made = catalog.compact(full=full)
    position = made.position if made else catalog.snapshot().position
    if as_json:
        print_json({"schema": 1, "compacted": made is not None, "position": position})
    else:
        click.echo(f"checkpoint at position {position}" if made else "nothing to fold", err=True)


@command.command("vacuum", cls=Command)
@options.store
@click.option(
    "--grace-s",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Keep what readers and writers may have been using for so long.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@options.as_json
def vacuum(store: str, grace_s: float, dry_run: bool, as_json: bool) -> None:
    """Delete files that larger ones have taken the place of; no position is lost."""
    names = _open(store).vacuum(grace_s, dry_run=dry_run)
    if as_json:
        print_json({"schema": 1, "dry_run": dry_run, "files": names})
    else:
        for name in names if dry_run else ():
            click.echo(name)
        click.echo(f"{len(names)} files{' would go' if dry_run else ' deleted'}", err=True)


@command.command("remove", cls=Command)
@click.argument("session_ids", nargs=-1, required=True, metavar="SESSION…")
@options.store
@options.as_json
def remove(session_ids: tuple[str, ...], store: str, as_json: bool) -> None:
    """Take sessions out of the store; earlier positions still show them."""
    catalog = _open(store)
    entries = catalog.snapshot().entries
    if missing := [session_id for session_id in session_ids if session_id not in entries]:
        from nhcatalog.state import not_there

        raise not_there(missing[0])
    positions = {session_id: catalog.remove(session_id) for session_id in dict.fromkeys(session_ids)}
    if as_json:
        print_json({"schema": 1, "removed": positions})
    else:
        for session_id, position in positions.items():
            click.echo(f"removed {session_id} at position {position}", err=True)


@command.command("rebuild", cls=Command)
@options.store
@options.as_json
@options.progress
@click.pass_context
def rebuild(ctx: click.Context, store: str, as_json: bool, progress: bool) -> None:
    """Make the catalog anew from the sessions themselves.

    For a catalog that is lost or damaged, to fill columns that a newer version has, or to forget what was removed and
    replaced ('nhdata validate --sweep' then frees its room). Earlier positions are forgotten. Nobody may write
    meanwhile. Exit code 3: some sessions could not be read and are left out.
    """
    from nhdata.store.rebuild import rebuild_catalog

    with progress_bar(progress) as bar:
        task = bar.add_task("rebuild", total=None, note="")
        position, problems = rebuild_catalog(
            store, on_session=lambda name, n: bar.update(task, total=n, advance=1, note=name)
        )
    if as_json:
        print_json({"schema": 1, "position": position, "failed": problems})
    else:
        for path, problem in problems.items():
            click.echo(f"left out: {path}: {problem}", err=True)
        click.echo(f"rebuilt at position {position}", err=True)
    ctx.exit(EXIT_PARTLY if problems else 0)
