"""``nhdata report``."""

from __future__ import annotations

from pathlib import Path

import click

from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json


@click.command("report", cls=Command)
@options.store
@click.option("--session", "session_id", metavar="ID", help="A session, or how its id starts; else the whole store.")
@click.option("--out", metavar="FILE.html", help="Where to write the page; by default here, named after what it shows.")
@click.option(
    "--png",
    is_flag=False,
    flag_value="",
    metavar="[FILE.png]",
    help="Also draw it as a picture, by default beside the page; needs Chromium.",
)
@options.as_json
def command(store: str, session_id: str | None, out: str | None, png: str | None, as_json: bool) -> None:
    """A page to look at, of a store or of one session, in one HTML file that needs no network.

    \b
    nhdata report --store data.zarr
    nhdata report --store data.zarr --session ID --out session.html --png
    """
    import nhdata
    from nhdata.report.page import session_page, store_page, write_page
    from nhdata.report.png import find_browser, write_png

    if png is not None:
        find_browser()  # before the work, not after it
    opened = nhdata.open(store)
    if session_id is not None:
        session_id = opened.match(session_id)
    out = out or f"{session_id or Path(store).stem}.html"
    page = store_page(opened) if session_id is None else session_page(opened, session_id)
    write_page(page, out)
    value = {"schema": 1, "store": store, "session_id": session_id, "out": out, "bytes": Path(out).stat().st_size}
    if png is not None:
        value["png"] = png or str(Path(out).with_suffix(".png"))
        write_png(page, str(value["png"]))
    if as_json:
        print_json(value)
    else:
        for written in (value["out"], value.get("png")):
            if written:
                click.echo(written)
