"""``nhdata sql``."""

from __future__ import annotations

import click

from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json, write_rows


@click.command("sql", cls=Command)
@click.argument("query")
@options.store
@options.table_format
@options.out
@options.as_json
def command(query: str, store: str, form: str, out: str | None, as_json: bool) -> None:
    """Ask a store in SQL.

    QUERY is one SELECT over the tables sessions, units, unit_features and intervals.

    \b
    nhdata sql "select session_id, count(*) n from units where region = 'CA1' and rate_hz > 1 group by 1"
    """
    import nhdata

    rows = nhdata.open(store).sql(query)
    if as_json:
        print_json({"schema": 1, "columns": rows.column_names, "rows": rows.to_pylist()}, out)
    else:
        write_rows(rows, form, out)
