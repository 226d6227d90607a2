"""``nhdata schema``."""

from __future__ import annotations

import click

from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json, write_rows


@click.command("schema", cls=Command)
@click.argument("table", required=False)
@options.table_format
@options.out
@options.as_json
def command(table: str | None, form: str, out: str | None, as_json: bool) -> None:
    """Every table and column of the catalog: type, unit and meaning.

    \b
    nhdata schema            # all
    nhdata schema units
    """
    import pyarrow as pa

    from nhcatalog.macros import MACROS
    from nhcatalog.schema import describe, table_named

    if table is not None:
        table_named(table)
    names = ("table", "column", "type", "unit", "meaning")
    rows = [dict(zip(names, row, strict=True)) for row in describe() if table in (None, row[0])]
    if as_json:
        macros = [{"call": macro.call, "meaning": macro.meaning} for macro in MACROS.values()]
        print_json({"schema": 1, "columns": rows, "macros": macros}, out)
        return
    if table is None:
        rows += [
            {**dict.fromkeys(names, ""), "table": "(macro)", "column": macro.call, "meaning": macro.meaning}
            for macro in MACROS.values()
        ]
    write_rows(pa.Table.from_pylist(rows), form, out)
