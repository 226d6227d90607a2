"""The pages and their addresses."""

from __future__ import annotations

import csv
import io
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
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
from nhcatalog.sandbox import Limits, Sandbox
from nhcatalog.schema import TABLES
from nhdata import report
from nhdata.loading.selection import keep_selection, units_by_id
from nhdata.report.page import embed, environment, to_html
from nhdata.report.pages import session_page, unit_page
from nhdata.report.parts import Page, Panel
from nhdata.store.store import Store
from nhdata.web.access import Access
from nhdata.web.queries import COLUMNS, KEY, PAGE_ROWS, Listing
from nhdata.web.runs import RunPages

HERE = Path(__file__).parent
CACHED_PAGES = 16
CSV_ROWS, ANSWER_MB = 1_000_000, 512
NUMBERS = ("BIGINT", "DOUBLE", "FLOAT")


class Drawn(NamedTuple):
    """A page, the script of its figures, and each panel with the place of its own."""

    page: Page
    script: str
    figures: list[tuple[Panel, str]]


class Web:
    """What the pages share: the store, the SQL process, and the pages drawn last.

    Parameters
    ----------
    store : path
    runs : RunPages or None
        Training runs.
    limits : Limits
        What a query may take.
    """

    def __init__(self, store: str, runs: RunPages | None, limits: Limits) -> None:
        self.path, self.runs = store, runs
        self.templates = environment("nhdata.web", "nhdata.report")
        opened = nhdata.open(store)  # what is wrong with the store is said before the server starts
        self.sandbox = Sandbox(opened.path / "catalog", limits)
        self._drawn: OrderedDict[tuple[str, ...], Drawn] = OrderedDict()
        self._drawing = Lock()

    def open(self) -> Store:
        """The store as it is now."""
        return nhdata.open(self.path)

    def ask(self, store: Store, query: str, params: list[Any] | None = None) -> pa.Table:
        """The answer of a query, at the position that `store` is at, by a process that can be killed."""
        return self.sandbox.sql(query, params, at=store.position)

    def draw(self, make: Callable[[], Page], key: tuple[str, ...] | None = None) -> Drawn:
        """A page with its figures; drawn once, if it has a key: what is committed never changes."""
        with self._drawing:
            drawn = self._drawn.pop(key, None) if key else None
            if drawn is None:
                page = make()
                drawn = Drawn(page, *embed(page.panels))
            if key:
                self._drawn[key] = drawn
                while len(self._drawn) > CACHED_PAGES:
                    self._drawn.popitem(last=False)
            return drawn

    def file(self, make: Callable[[], Page]) -> str:
        """A page as a whole document."""
        with self._drawing:
            return to_html(make())

    def figures(
        self,
        request: Request,
        drawn: Drawn,
        links: Sequence[tuple[str, str]] = (),
        opens: str | None = None,
    ) -> HTMLResponse:
        """A page with figures; `links` stand above it, `opens` is where the first cell of a row leads."""
        page, script, figures = drawn
        return self.page(
            request,
            "figures.html",
            title=page.title,
            page=page,
            script=script,
            figures=figures,
            links=links,
            opens=opens,
        )

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


def make_app(store: str, token: str, port: int, runs: RunPages | None = None, limit_s: float = 10.0) -> Starlette:
    """The application, closed to all but this machine's browser with the token.

    Parameters
    ----------
    store : path
    token : str
    port : int
        Where it will be served, for the check of the ``Host`` header.
    runs : RunPages, optional
        Training runs.
    limit_s : float
        Seconds that a query may take.

    Raises
    ------
    UserError
        If there is no store at `store`.

    Returns
    -------
    Starlette
        Its ``state.end_queries()`` ends what is being asked, so that a server can end at once.
    """
    web = Web(store, runs, Limits(time_s=limit_s, rows=CSV_ROWS, answer_mb=ANSWER_MB))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(web.sandbox.close)

    routes = [
        Route("/", _page(web, _sessions)),
        Route("/session", _page(web, _session)),
        Route("/units", _page(web, _units)),
        Route("/units.csv", _page(web, _units_csv)),
        Route("/unit", _page(web, _unit)),
        Route("/selections", _page(web, _selections)),
        Route("/selections", _save(web), methods=["POST"]),
        Route("/runs", _page(web, _runs)),
        Route("/run", _page(web, _run)),
        Route("/run.html", _page(web, _run_file)),
        Route("/bokeh.js", _file(Path(bokeh.__file__).parent / "server/static/js/bokeh.min.js")),
        Route("/report.css", _file(Path(report.__file__).parent / "templates/style.css")),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
    access = Middleware(Access, hosts=hosts, token=token)
    missing = {404: _nothing(web)}
    app = Starlette(routes=routes, exception_handlers=missing, middleware=[access], lifespan=lifespan)
    app.state.end_queries = web.sandbox.close
    return app


def _page(web: Web, show: Callable[[Web, Request], Response]) -> Callable[[Request], Response]:
    """A handler whose errors are a page of one line and a remedy."""

    def handler(request: Request) -> Response:
        try:
            return show(web, request)
        except UserError as error:
            return web.page(request, "error.html", 400, title="Not possible", error=error)

    return handler


def _nothing(web: Web) -> Callable[[Request, Exception], Response]:
    """What is said of an address that leads nowhere."""
    error = UserError("there is no such page", "the pages are named at the top")

    def handler(request: Request, _: Exception) -> Response:
        return web.page(request, "error.html", 404, title="Not found", error=error)

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


def _units_csv(web: Web, request: Request) -> Response:
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


def _session(web: Web, request: Request) -> Response:
    session = web.open().session(request.query_params.get("id", ""))
    key = ("session", session.session_id, session.attrs["content_hash"])
    units = "/units?" + urlencode({"where": f"session_id = '{session.session_id}'"})
    return web.figures(request, web.draw(lambda: session_page(session), key), [("Units of this session", units)])


def _unit(web: Web, request: Request) -> Response:
    store, unit_id = web.open(), request.query_params.get("id", "")
    found = web.ask(store, "select session_id, unit_index from units where unit_id = ?", [unit_id]).to_pylist()
    if not found:
        raise UserError(f"the store has no unit {unit_id!r}", "choose one from the units page")
    session, index = store.session(found[0]["session_id"]), found[0]["unit_index"]
    drawn = web.draw(lambda: unit_page(session, index, unit_id), ("unit", unit_id, session.attrs["content_hash"]))
    whole = "/session?" + urlencode({"id": session.session_id})
    return web.figures(request, drawn, [(f"Session {session.session_id}", whole)])


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
            store, query = web.open(), Listing("units", where).ids
            keep_selection(store, name, units_by_id(store, web.ask(store, query)["unit_id"].to_pylist(), query))
            return RedirectResponse("/selections", 303)

        return await run_in_threadpool(_page(web, save), request)

    return handler


def _runs(web: Web, request: Request) -> Response:
    return web.figures(request, web.draw(_known(web).overview), opens="/run?name=")


def _run(web: Web, request: Request) -> Response:
    name = request.query_params.get("name", "")
    whole = "/run.html?" + urlencode({"name": name})
    drawn = web.draw(lambda: _known(web).page(name))
    return web.figures(request, drawn, [("All runs", "/runs"), ("This page as a file", whole)])


def _run_file(web: Web, request: Request) -> Response:
    name = request.query_params.get("name", "")
    headers = {"Content-Disposition": 'attachment; filename="run.html"'}
    return HTMLResponse(web.file(lambda: _known(web).page(name)), headers=headers)


def _known(web: Web) -> RunPages:
    if web.runs is None:
        raise UserError("no folder of runs was given", "start 'nhdata serve' with --runs FOLDER")
    return web.runs
