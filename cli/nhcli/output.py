"""Rows and JSON on stdout, progress on stderr."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from nhcatalog.errors import UserError
from nhcatalog.whole import whole_file

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.progress import Progress

TABLE_ROWS = 200
BATCH_ROWS = 65_536
NUMBERS = ("int", "uint", "double", "float", "decimal", "halffloat")


def print_json(value: dict[str, Any], out: str | None = None) -> None:
    """One object on one line, on stdout or into a file; what is not a number becomes null."""
    _write((json.dumps(_finite(value), default=str) + "\n").encode(), out)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value


def write_rows(rows: pa.Table | pa.RecordBatchReader, form: str, out: str | None) -> None:
    """Print rows, or write them to a file, batch by batch.

    Parameters
    ----------
    rows : pyarrow.Table or RecordBatchReader
    form : {"table", "csv", "json", "ndjson", "parquet", "object"}
        ``object`` is one JSON object with ``schema``, ``columns`` and ``rows``.
    out : str or None
        A file, replaced if it is there; None for stdout.
    """
    import pyarrow as pa

    if form == "parquet" and out is None and sys.stdout.isatty():
        raise UserError("Parquet on a terminal", "add --out FILE.parquet, or pipe it")
    writer = {"table": _table, "csv": _csv, "json": _json, "ndjson": _ndjson, "parquet": _parquet, "object": _object}
    with _sink(out) as sink:
        writer[form](rows.to_reader(BATCH_ROWS) if isinstance(rows, pa.Table) else rows, sink)


def _write(data: bytes, out: str | None) -> None:
    with _sink(out) as sink:
        sink.write(data)


@contextmanager
def _sink(out: str | None) -> Iterator[BinaryIO]:
    """Stdout, or a file that is replaced by one rename when all is written."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with whole_file(out) as part, open(part, "wb") as file:
        yield file


def _parquet(rows: pa.RecordBatchReader, sink: BinaryIO) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(sink, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)


def _csv(rows: pa.RecordBatchReader, sink: BinaryIO) -> None:
    text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.schema.names)
    for batch in rows:
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    text.detach()


def _ndjson(rows: pa.RecordBatchReader, sink: BinaryIO) -> None:
    for batch in rows:
        sink.write(b"".join(_line(row) + b"\n" for row in batch.to_pylist()))


def _json(rows: pa.RecordBatchReader, sink: BinaryIO) -> None:
    sink.write(b"[")
    first = True
    for batch in rows:
        for row in batch.to_pylist():
            sink.write(_line(row) if first else b", " + _line(row))
            first = False
    sink.write(b"]\n")


def _object(rows: pa.RecordBatchReader, sink: BinaryIO) -> None:
    sink.write(b'{"schema": 1, "columns": ' + json.dumps(rows.schema.names).encode() + b', "rows": ')
    _json(rows, sink)
    sink.write(b"}\n")


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(_finite(row), default=str).encode()


def _table(rows: pa.RecordBatchReader, sink: BinaryIO) -> None:
    from nhcli.table import draw

    is_number = [str(kind).startswith(NUMBERS) for kind in rows.schema.types]
    shown: list[tuple[Any, ...]] = []
    more = 0
    for batch in rows:
        some = batch.slice(0, TABLE_ROWS - len(shown))
        shown += zip(*(column.to_pylist() for column in some.columns), strict=True)
        more += batch.num_rows - some.num_rows
    width = shutil.get_terminal_size().columns if sink is sys.stdout.buffer and sys.stdout.isatty() else None
    text, left_out = draw(rows.schema.names, is_number, shown, width)
    sink.write(text.encode())
    if left_out:
        click.echo(f"no room for {', '.join(left_out)}; a wider terminal or --format csv shows all", err=True)
    if more:
        click.echo(f"{more} more rows; --format csv shows all", err=True)


@contextmanager
def progress_bar(shown: bool) -> Iterator[Progress]:
    """A progress bar on stderr with the time left; silent unless `shown`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not shown,
    )
    with progress if shown else nullcontext():  # rich before 14.3 ends what it does not show with an empty line
        yield progress
