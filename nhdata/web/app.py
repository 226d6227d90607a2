"""The pages and their addresses."""

from __future__ import annotations

import csv
import io
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlencode

import bokeh
import pyarrow as pa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import nhdata
from nhcatalog.errors import UserError
from nhcatalog.schema import TABLES
from nhdata import report
from nhdata.report.draw import Panel
from nhdata.report.draw_runs import runs_figure
from nhdata.report.draw_session import session_figures
from nhdata.report.draw_unit import unit_figures
from nhdata.report.page import embed, environment, session_facts
from nhdata.report.session_panels import session_panels
from nhdata.report.unit_panels import unit_panels
from nhdata.store.store import Store
from nhdata.web.access import Access
from nhdata.web.queries import COLUMNS, KEY, PAGE_ROWS, Listing
from nhdata.web.runs import list_runs
from nhdata.web.sql_child import SqlChild

HERE = Path(__file__).parent
CACHED_PAGES = 16
NUMBERS = ("BIGINT", "DOUBLE", "FLOAT")


class Web:
    """What the pages share: the store, the SQL process, and the pages drawn last.

    Parameters
    ----------
    store : path
    runs : path or None
        Folder of training runs.
    """

    def __init__(self, store: str, runs: Path | None, child: SqlChild) -> None:
        self.path, self.runs, self.child = store, runs, child
        self.templates = environment("nhdata.web", "nhdata.report")
        self._drawn: OrderedDict[tuple[str, ...], dict[str, Any]] = OrderedDict()
        self._drawing = Lock()
        nhdata.open(store)  # what is wrong with the store is said before the server starts

    def open(self) -> Store:
        """The store as it is now."""
        return nhdata.open(self.path)

    def drawn(self, key: tuple[str, ...], draw: Callable[[], tuple[list[Panel], dict[str, Any]]]) -> dict[str, Any]:
        """Values of a page with figures; drawn once, for what is committed never changes."""
        with self._drawing:
            if key not in self._drawn:
                panels, values = draw()
                script, places = embed(panels)
                self._drawn[key] = values | {"figures": list(zip(panels, places, strict=True)), "script": script}
                while len(self._drawn) > CACHED_PAGES:
                    self._drawn.popitem(last=False)
            self._drawn.move_to_end(key)
            return self._drawn[key]

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page from its template."""
        text = self.templates.get_template(template).render(
            nonce=request.scope["state"]["nonce"],
            store=Path(self.path).name,
            path=request.url.path,
            has_runs=self.runs is not None,
            **values,
        )
        return HTMLResponse(text, status)


def make_app(store: str, token: str, port: int, runs: Path | None = None, limit_s: float = 10.0) -> Starlette:
    """The application, closed to all but this machine's browser with the token.

    Parameters
    ----------
    store : path
    token : str
    port : int
        Where it will be served, for the check of the ``Host`` header.
    runs : path, optional
        Folder of training runs.
    limit_s : float
        Seconds that a query may take.

    Raises
    ------
    UserError
        If there is no store at `store`.
    """
    child = SqlChild(limit_s)
    web = Web(store, runs, child)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(child.close)

    routes = [
        Route("/", _page(web, _sessions)),
        Route("/session", _page(web, _session)),
        Route("/units", _page(web, _units)),
        Route("/units.csv", _page(web, _units_csv)),
        Route("/unit", _page(web, _unit)),
        Route("/selections", _page(web, _selections)),
        Route("/selections", _save(web), methods=["POST"]),
        Route("/runs", _page(web, _runs)),
        Route("/bokeh.js", _file(Path(bokeh.__file__).parent / "server/static/js/bokeh.min.js")),
        Route("/report.css", _file(Path(report.__file__).parent / "templates/style.css")),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
    return Starlette(routes=routes, middleware=[Middleware(Access, hosts=hosts, token=token)], lifespan=lifespan)


def _page(web: Web, show: Callable[[Web, Request], Response]) -> Callable[[Request], Response]:
    """A handler whose errors are a page of one line and a remedy."""

    def handler(request: Request) -> Response:
        try:
            return show(web, request)
        except UserError as error:
            return web.page(request, "error.html", 400, title="Not possible", error=error)

    return handler


def _file(path: Path) -> Callable[[Request], Response]:
    """A handler for one file."""
    return lambda request: FileResponse(path)


def _sessions(web: Web, request: Request) -> Response:
    return _listing(web, request, "sessions", "Sessions")


def _units(web: Web, request: Request) -> Response:
    return _listing(web, request, "units", "Units")


def _listing(web: Web, request: Request, table: str, title: str) -> Response:
    """A page of rows; SQL that fails is shown beside what was typed."""
    listing = read_listing(request, table)
    rows: list[dict[str, Any]] = []
    error: UserError | None = None
    try:
        rows = web.child.run(web.open(), listing.rows).to_pylist()
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


def _units_csv(web: Web, request: Request) -> Response:
    table = web.child.run(web.open(), read_listing(request, "units").csv)
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


def _session(web: Web, request: Request) -> Response:
    session = web.open().session(request.query_params.get("id", ""))

    def draw() -> tuple[list[Panel], dict[str, Any]]:
        p = session_panels(session)
        return session_figures(p), {"p": p, "facts": session_facts(p)}

    values = web.drawn(("session", session.session_id, session.attrs["content_hash"]), draw)
    units = "/units?" + urlencode({"where": f"session_id = '{session.session_id}'"})
    return web.page(request, "session.html", title=session.session_id, units=units, **values)


def _unit(web: Web, request: Request) -> Response:
    store, unit_id = web.open(), request.query_params.get("id", "")
    found = web.child.run(store, "select session_id, unit_index from units where unit_id = ?", [unit_id]).to_pylist()
    if not found:
        raise UserError(f"the store has no unit {unit_id!r}", "choose one from the units page")
    session, index = store.session(found[0]["session_id"]), found[0]["unit_index"]

    def draw() -> tuple[list[Panel], dict[str, Any]]:
        p = unit_panels(session, index)
        return unit_figures(p), {"p": p}

    values = web.drawn(("unit", unit_id, session.attrs["content_hash"]), draw)
    return web.page(request, "unit.html", title=unit_id, session_id=session.session_id, **values)


def _selections(web: Web, request: Request) -> Response:
    kept = web.open().catalog.selections
    rows = [kept.read(name)[0] for name in kept.names()]
    return web.page(request, "selections.html", title="Selections", rows=rows)


def _save(web: Web) -> Callable[[Request], Awaitable[Response]]:
    """The one thing that is written: units that the filter chose, under a name."""

    async def handler(request: Request) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        name, where = (form.get(field, [""])[0] for field in ("name", "where"))

        def save(web: Web, request: Request) -> Response:
            web.child.save(web.open(), name, Listing("units", where).ids)
            return RedirectResponse("/selections", 303)

        return await run_in_threadpool(_page(web, save), request)

    return handler


def _runs(web: Web, request: Request) -> Response:
    if web.runs is None:
        raise UserError("no folder of runs was given", "start 'nhdata serve' with --runs FOLDER")
    rows = list_runs(web.runs)
    panels = runs_figure({row.name: (row.steps, row.valid_fp_bps) for row in rows if row.steps})
    script, places = embed(panels)
    figures = list(zip(panels, places, strict=True))
    return web.page(request, "runs.html", title="Training runs", runs=rows, figures=figures, script=script)
