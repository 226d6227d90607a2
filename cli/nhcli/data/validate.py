"""``nhdata validate``."""

from __future__ import annotations

from dataclasses import asdict

import click

from nhcli import options
from nhcli.base import EXIT_ERROR, Command
from nhcli.output import print_json, progress_bar


@click.command("validate", cls=Command)
@options.store
@click.option("--deep", is_flag=True, help="Decode everything: checksums, order, index, counts and hashes.")
@click.option("--sweep", is_flag=True, help="Remove what writers left when they died.")
@click.option(
    "--grace-s",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Leave what is younger: it may belong to a writer at work.",
)
@options.as_json
@options.progress
@click.pass_context
def command(
    ctx: click.Context, store: str, deep: bool, sweep: bool, grace_s: float, as_json: bool, progress: bool
) -> None:
    """Check that every session of a store is whole.

    Exit code: 0 sound, 1 problems were found.
    """
    from nhdata.store.sweep import sweep as sweep_store
    from nhdata.store.sweep import unclaimed
    from nhdata.store.validate import validate

    with progress_bar(progress) as bar:
        task = bar.add_task("validate", total=None, note="")
        problems = validate(
            store, deep=deep, on_session=lambda session_id, n: bar.update(task, total=n, advance=1, note=session_id)
        )
    found = sweep_store(store, grace_s) if sweep else unclaimed(store, grace_s)
    left, spared = ([str(place) for place in places] for places in found)
    if as_json:
        listed = [asdict(problem) for problem in problems]
        print_json(
            {"schema": 1, "ok": not problems, "problems": listed, "leftovers": left, "swept": sweep, "unnamed": spared}
        )
    else:
        for problem in problems:
            click.echo(f"{problem.session_id or 'store'}: {problem.kind}: {problem.detail}")
        for path in left:
            click.echo(f"{'removed' if sweep else 'left over'}: {path}", err=True)
        if left and not sweep:
            click.echo("no session names these; nhdata validate --sweep removes them", err=True)
        for path in spared:
            click.echo(f"not in the catalog: {path}", err=True)
        if spared:
            click.echo(
                "these are whole, and stay: ingest them again; if all of the catalog was lost, nhdata catalog rebuild",
                err=True,
            )
        click.echo("sound" if not problems else f"{len(problems)} problems", err=True)
    ctx.exit(EXIT_ERROR if problems else 0)
