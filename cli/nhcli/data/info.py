"""``nhdata info``."""

from __future__ import annotations

import click

from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json


@click.command("info", cls=Command)
@click.argument("session_id", required=False)
@options.store
@options.at
@options.as_json
def command(session_id: str | None, store: str, at: int | None, as_json: bool) -> None:
    """What a store, or one of its sessions, holds and where it came from.

    SESSION_ID may be the start of an id.
    """
    import nhdata

    opened = nhdata.open(store, at)
    if session_id is None:
        totals = opened.sql(
            "select count(*) as n_sessions, coalesce(sum(n_units), 0) as n_units, "
            "coalesce(sum(n_spikes), 0) as n_spikes, round(coalesce(sum(duration_s), 0) / 3600, 4) as hours "
            "from sessions"
        ).to_pylist()[0]
        value = {"schema": 1, "store": str(opened.path), "position": opened.position, **totals}
    else:
        session = opened.session(opened.match(session_id))
        shapes = session.series_shapes()
        value = {
            "schema": 1,
            **session.attrs,
            "intervals": session.interval_lengths(),
            "series": {name: {"n": shapes[name][0], "unit": unit} for name, unit in session.series_units().items()},
            "features": {k: v for k, v in session.feature_attrs.items() if k != "feature_names"},
        }
    if as_json:
        print_json(value)
    else:
        _print(value, 0)


def _print(value: dict[str, object], indent: int) -> None:
    for name, item in value.items():
        if name == "schema" or item is None or item == []:
            continue
        if isinstance(item, dict) and not item:
            click.echo(f"{' ' * indent}{name:<{max(1, 22 - indent)}} none")
        elif isinstance(item, dict):
            click.echo(" " * indent + name)
            _print(item, indent + 2)
        elif isinstance(item, list):
            click.echo(" " * indent + name)
            for one in item:
                parts = one.values() if isinstance(one, dict) else [one]
                click.echo(" " * (indent + 2) + "  ".join(map(str, parts)))
        else:
            click.echo(f"{' ' * indent}{name:<{max(1, 22 - indent)}} {item}")
