"""Rows and JSON on stdout, progress on stderr."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from nhcatalog.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.progress import Progress

TABLE_ROWS = 200


def print_json(value: dict[str, Any], out: str | None = None) -> None:
    """One object on one line, on stdout or into a file; what is not a number becomes null."""
    _write((json.dumps(_finite(value), default=str) + "\n").encode(), out)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value


def write_rows(table: pa.Table, form: str, out: str | None) -> None:
    """Print an Arrow table, or write it to a file.

    Parameters
    ----------
    table : pyarrow.Table
    form : {"table", "csv", "json", "parquet"}
    out : str or None
        A file, replaced if it is there; None for stdout.
    """
    if form == "parquet":
        if out is None and sys.stdout.isatty():
            raise UserError("Parquet on a terminal", "add --out FILE.parquet, or pipe it")
        data = _parquet(table)
    else:
        text = {"table": _table, "csv": _csv, "json": _json}[form](table)
        data = text.encode()
    _write(data, out)


def _write(data: bytes, out: str | None) -> None:
    """To stdout, or into a file that is replaced by one rename."""
    if out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        temporary = f"{out}.{os.getpid()}.part"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, out)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise UserError(f"cannot write {out} ({error.strerror})", "name a file in a folder you may write") from None


def _parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _csv(table: pa.Table) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=10_000):
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    return sink.getvalue()


def _json(table: pa.Table) -> str:
    return json.dumps(_finite(table.to_pylist()), default=str) + "\n"


def _table(table: pa.Table) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        number = str(kind).startswith(("int", "uint", "double", "float", "decimal", "halffloat"))
        view.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number)
    shown = table.slice(0, TABLE_ROWS)
    for row in zip(*(column.to_pylist() for column in shown.columns), strict=True):
        view.add_row(*(Text(_cell(value)) for value in row))
    sink = io.StringIO()
    wide = sys.stdout.isatty()
    Console(file=sink, width=None if wide else 10_000, force_terminal=False).print(view)
    more = table.num_rows - shown.num_rows
    if more:
        click.echo(f"{more} more rows; --format csv shows all", err=True)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()).strip("\n") + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


@contextmanager
def progress_bar(shown: bool) -> Iterator[Progress]:
    """A progress bar on stderr with the time left; silent unless `shown`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not shown,
    ) as progress:
        yield progress
