"""``nhdata sql``."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from nhcatalog.errors import UserError
from nhcli import options
from nhcli.base import Command
from nhcli.output import write_rows


@click.command("sql", cls=Command)
@click.argument("query", required=False)
@click.option("-f", "--file", type=click.File(encoding="utf-8", lazy=True), help="A file with the query; - for stdin.")
@click.option(
    "--param",
    "given",
    multiple=True,
    metavar="[NAME=]VALUE",
    help="A value for $NAME, or for the next ?; may be repeated. Numbers, true, false and null are taken as such.",
)
@options.store
@options.at
@options.rows_format
@options.out
@options.as_json
def command(
    query: str | None,
    file: Any,
    given: tuple[str, ...],
    store: str,
    at: int | None,
    form: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Ask a store in SQL.

    QUERY is one SELECT over the tables that 'nhdata schema' lists. Without one, on a terminal: a prompt that completes
    names and keeps its history; else it is read from stdin.

    \b
    nhdata sql "select session_id, count(*) n from units where region = 'CA1' and rate_hz > 1 group by 1"
    nhdata sql "from units where region = \\$region" --param region=CA1 --format parquet --out ca1.parquet
    """
    import nhdata

    if query is not None and file is not None:
        raise UserError("a query and a file of one", "give one of them")
    prompting = query is None and file is None and sys.stdin.isatty()
    if prompting and (given or out or as_json):
        raise UserError("no query", "give one, or -f FILE")
    if query is None and not prompting:
        try:
            query = (file or sys.stdin).read()
        except UnicodeDecodeError as error:
            raise UserError(f"the query is not UTF-8 text ({error.reason})", "save it as UTF-8") from None
    snapshot = nhdata.open(store, at).snapshot
    if query is None:
        from nhcli.data.sql_prompt import run_prompt

        run_prompt(snapshot)
    else:
        write_rows(snapshot.stream(query, parameters(given)), "object" if as_json else form, out)


def parameters(given: tuple[str, ...]) -> list[Any] | dict[str, Any] | None:
    """Values of ``--param``.

    Raises
    ------
    UserError
        If some have names and some have none.

    Examples
    --------
    >>> parameters(("region=CA1", "rate_hz=1.5")), parameters(("CA1", "2")), parameters(())
    ({'region': 'CA1', 'rate_hz': 1.5}, ['CA1', 2], None)
    """
    named = [text.partition("=") for text in given]
    if not given:
        return None
    if all(name.isidentifier() and equals for name, equals, _ in named):
        return {name: _value(text) for name, _, text in named}
    if any(name.isidentifier() and equals for name, equals, _ in named):
        raise UserError("parameters with and without a name", "write all as NAME=VALUE for $NAME, or none, for ?")
    return [_value(text) for text in given]


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict | str) else value
