"""Tables of sessions and units, page by page and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nhcatalog.errors import UserError
from nhcatalog.schema import TABLES
from nhdata.web.queries import COLUMNS, KEY, PAGE_ROWS, Listing
from nhdata.web.shared import Web

NUMBERS = ("BIGINT", "DOUBLE", "FLOAT")


def listing_page(web: Web, request: Request, table: str, title: str) -> Response:
    """A page of rows; SQL that fails is shown beside what was typed."""
    listing = read_listing(request, table)
    rows: list[dict[str, Any]] = []
    error: UserError | None = None
    try:
        rows = web.ask(web.open(), listing.rows).to_pylist()
    except UserError as failed:
        error = failed
    n_total = rows[0]["n_total"] if rows else 0
    all_rows = {"where": listing.where, "sort": listing.sort, "desc": int(listing.descending)}
    links = {
        "previous": _link(replace(listing, page=listing.page - 1)) if listing.page else None,
        "next": _link(replace(listing, page=listing.page + 1)) if (listing.page + 1) * PAGE_ROWS < n_total else None,
        "csv": "/units.csv?" + urlencode(all_rows),
    }
    known = {column.name: column for column in TABLES[table].columns}
    heads = [
        (
            known[name],
            known[name].type in NUMBERS,
            _link(replace(listing, sort=name, descending=listing.sort == name and not listing.descending, page=0)),
        )
        for name in COLUMNS[table]
    ]
    first = listing.page * PAGE_ROWS
    return web.page(
        request,
        "listing.html",
        400 if error else 200,
        title=title,
        listing=listing,
        key=KEY[table],
        heads=heads,
        rows=rows,
        n_total=n_total,
        span=f"{first + 1:,}–{first + len(rows):,} of {n_total:,}" if rows else "none",
        links=links,
        error=error,
    )


def read_listing(request: Request, table: str) -> Listing:
    """The listing that an address asks for; what makes no sense in it is passed over."""
    asked = request.query_params
    page = asked.get("page", "0")
    return Listing(
        table=table,
        where=asked.get("where", "")[:20_000],
        sort=asked.get("sort", ""),
        descending=asked.get("desc") == "1",
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 9 else 0,
    )


def _link(listing: Listing) -> str:
    values: dict[str, Any] = {}
    if listing.where:
        values["where"] = listing.where
    if listing.sort:
        values |= {"sort": listing.sort, "desc": int(listing.descending)}
    if listing.page:
        values["page"] = listing.page
    return "?" + urlencode(values)


def units_csv(web: Web, request: Request) -> Response:
    """All rows of units that the filter chooses, with every column."""
    table = web.ask(web.open(), read_listing(request, "units").csv)
    headers = {"Content-Disposition": 'attachment; filename="units.csv"'}
    return StreamingResponse(_csv(table), media_type="text/csv; charset=utf-8", headers=headers)


def _csv(table: pa.Table) -> Iterator[str]:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=10_000):
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        yield sink.getvalue()
        sink.seek(0)
        sink.truncate()
    yield sink.getvalue()
