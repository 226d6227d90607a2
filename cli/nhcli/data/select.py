"""``nhdata select``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nhcatalog.errors import UserError
from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json

if TYPE_CHECKING:
    from nhcatalog.selections import NamedSelection
    from nhdata.store.store import Store


@click.command("select", cls=Command)
@click.argument("query", required=False)
@click.option("--name", help="The selection: to keep QUERY under, or to show.")
@click.option("--diff", is_flag=True, help="What its query would choose now, beside what it chose.")
@click.option("--remove", is_flag=True, help="Forget the selection.")
@options.store
@options.as_json
def command(query: str | None, name: str | None, diff: bool, remove: bool, store: str, as_json: bool) -> None:
    """Keep units that a query chooses, for good and under a name.

    QUERY is one SELECT with a column unit_id. The name stands wherever such a query does: in the loader's select,
    in --select of nhmodel train and nhdata features. Without QUERY: list all selections, or show one.

    \b
    nhdata select --name ca1 "select unit_id from units where region = 'CA1' and good and rate_hz > 1"
    nhdata select
    nhdata select --name ca1 --diff
    """
    import nhdata

    if name is None and (query or diff or remove):
        raise UserError("no name of a selection", "add --name NAME")
    if sum((query is not None, diff, remove)) > 1:
        raise UserError("more than one thing to do", "give a query, --diff or --remove")
    opened = nhdata.open(store)
    if name is None:
        _list(opened, as_json)
    elif query is not None:
        from nhdata.loading.selection import freeze_selection

        _print(freeze_selection(opened, name, query), as_json)
    elif diff:
        _diff(opened, name, as_json)
    elif remove:
        opened.catalog.selections.remove(name)
        if as_json:
            print_json({"schema": 1, "removed": name})
        else:
            click.echo(f"removed {name}", err=True)
    else:
        made, unit_ids = opened.catalog.selections.read(name)
        _print(made, as_json, unit_ids)


def _summary(made: NamedSelection) -> dict[str, Any]:
    return {
        "name": made.name,
        "n_units": made.n_units,
        "n_sessions": len(made.content_hash),
        "position": made.position,
        "created_at": made.created_at,
        "hash": made.hash,
        "query": made.query,
    }


def _print(made: NamedSelection, as_json: bool, unit_ids: list[str] | None = None) -> None:
    summary = _summary(made)
    if as_json:
        print_json({"schema": 1, **summary, **({} if unit_ids is None else {"unit_ids": unit_ids})})
        return
    for key, value in summary.items():
        click.echo(f"{key:<11} {value}")
    for unit_id in unit_ids or ():
        click.echo(unit_id)


def _list(opened: Store, as_json: bool) -> None:
    summaries = [_summary(opened.catalog.selections.read(name)[0]) for name in opened.catalog.selections.names()]
    if as_json:
        print_json({"schema": 1, "selections": summaries})
        return
    for one in summaries:
        click.echo(
            f"{one['name']}  {one['n_units']} units of {one['n_sessions']} sessions  {' '.join(one['query'].split())}"
        )
    if not summaries:
        click.echo('no selections; nhdata select --name NAME "select unit_id from units where …" makes one', err=True)


def _diff(opened: Store, name: str, as_json: bool) -> None:
    from nhdata.loading.selection import diff_selection

    found = diff_selection(opened, name)
    if as_json:
        parts = {"added": found.added, "removed": found.removed, "changed_sessions": found.changed}
        print_json({"schema": 1, "name": name, "position": opened.position, **{k: list(v) for k, v in parts.items()}})
        return
    for sign, ids in (("+", found.added), ("-", found.removed)):
        for unit_id in ids:
            click.echo(f"{sign} {unit_id}")
    for session_id in found.changed:
        click.echo(f"~ session {session_id} has other content")
    click.echo(f"{len(found.added)} more, {len(found.removed)} fewer, {len(found.changed)} sessions changed", err=True)
