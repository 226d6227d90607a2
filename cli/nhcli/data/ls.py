"""``nhdata ls``."""

from __future__ import annotations

import click

from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json, write_rows


@click.command("ls", cls=Command)
@options.store
@options.at
@options.table_format
@options.out
@options.as_json
def command(store: str, at: int | None, form: str, out: str | None, as_json: bool) -> None:
    """List the sessions of a store."""
    import nhdata

    rows = nhdata.open(store, at).sql(
        "select session_id, source, subject, date, round(duration_s, 1) as duration_s, n_units, n_spikes, n_trials "
        "from sessions order by source, session_id"
    )
    if as_json:
        print_json({"schema": 1, "sessions": rows.to_pylist()}, out)
    else:
        write_rows(rows, form, out)
