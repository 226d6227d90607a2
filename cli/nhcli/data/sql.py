"""``nhdata sql``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from nhcatalog.errors import UserError
from nhcli import options
from nhcli.base import Command
from nhcli.output import write_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from nhcatalog.snapshot import Snapshot


@click.command("sql", cls=Command)
@click.argument("query", required=False)
@click.option("-f", "--file", type=click.File(encoding="utf-8", lazy=True), help="A file with the query; - for stdin.")
@click.option(
    "--param",
    "given",
    multiple=True,
    metavar="[NAME=]VALUE",
    help="A value for $NAME, or for the next ?; may be repeated. Numbers, true, false and null are taken as such; a "
    "whole number is text where it is compared with text, and a value in double quotes always is.",
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
        write_rows(_stream(snapshot, query, given), "object" if as_json else form, out)


def _stream(snapshot: Snapshot, query: str, given: tuple[str, ...]) -> pa.RecordBatchReader:
    """The answer, with whole numbers among the parameters as text where DuckDB takes them so, and else as numbers.

    A session id of digits is compared with a text column then, and a number with a column of numbers.
    """
    from nhcatalog.guard import QueryError

    as_text, as_numbers = parameters(given, whole_as_text=True), parameters(given)
    if as_text == as_numbers:
        return snapshot.stream(query, as_numbers)
    try:
        return snapshot.stream(query, as_text)
    except QueryError:
        return snapshot.stream(query, as_numbers)


def parameters(given: tuple[str, ...], *, whole_as_text: bool = False) -> list[Any] | dict[str, Any] | None:
    """Values of ``--param``; whole numbers as they are written if `whole_as_text`.

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
        return {name: _value(text, whole_as_text) for name, _, text in named}
    if any(name.isidentifier() and equals for name, equals, _ in named):
        raise UserError("parameters with and without a name", "write all as NAME=VALUE for $NAME, or none, for ?")
    return [_value(text, whole_as_text) for text in given]


def _value(text: str, whole_as_text: bool) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0
    return text if isinstance(value, list | dict) or (is_whole and whole_as_text) else value
