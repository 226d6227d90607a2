"""What the pages share: the store, the process that answers SQL, the pages drawn last, and the templates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import HTMLResponse

import nhdata
from nhcatalog.sandbox import Limits, Sandbox
from nhdata.report.page import embed, environment, to_html
from nhdata.report.parts import Page, Panel
from nhdata.store.store import Store
from nhdata.web.runs import RunPages

CACHED_PAGES = 16


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
