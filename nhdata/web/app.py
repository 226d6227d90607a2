"""The pages and their addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import bokeh
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from nhcatalog.errors import UserError
from nhcatalog.sandbox import Limits
from nhdata import report
from nhdata.loading.selection import keep_selection, units_by_id
from nhdata.report.pages import session_page, unit_page
from nhdata.web.access import Access
from nhdata.web.listings import listing_page, units_csv
from nhdata.web.queries import Listing
from nhdata.web.runs import RunPages
from nhdata.web.shared import Web

HERE = Path(__file__).parent
CSV_ROWS, ANSWER_MB = 1_000_000, 512


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
        Route("/units.csv", _page(web, units_csv)),
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
    return listing_page(web, request, "sessions", "Sessions")


def _units(web: Web, request: Request) -> Response:
    return listing_page(web, request, "units", "Units")


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
