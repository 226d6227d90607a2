"""``nhdata report``."""

from __future__ import annotations

from pathlib import Path

import click

from nhcli import options
from nhcli.base import Command
from nhcli.pages import check_out, give_page


@click.command("report", cls=Command)
@options.store
@click.option("--session", "session_id", metavar="ID", help="A session, or how its id starts; else the whole store.")
@options.page_out
@options.page_png
@options.as_json
def command(store: str, session_id: str | None, out: str | None, png: str | None, as_json: bool) -> None:
    """A page to look at, of a store or of one session, in one HTML file that needs no network.

    \b
    nhdata report --store data.zarr
    nhdata report --store data.zarr --session ID --out session.html --png
    """
    import nhdata
    from nhdata.report.pages import session_page, store_page

    opened = nhdata.open(store)
    if session_id is not None:
        session_id = opened.match(session_id)
    out = out or f"{session_id or Path(store).stem}.html"
    check_out(out, png)
    page = store_page(opened) if session_id is None else session_page(opened.session(session_id))
    give_page(page, {"store": store, "session_id": session_id}, out, png, as_json)
