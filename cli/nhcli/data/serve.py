"""``nhdata serve``."""

from __future__ import annotations

import signal
import socket
import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path

import click

from nhcatalog.errors import UserError
from nhcli import options
from nhcli.base import Command
from nhcli.output import print_json

HOST = "127.0.0.1"


@click.command("serve", cls=Command)
@options.store
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the address in a browser.")
@click.option("--runs", metavar="FOLDER", type=click.Path(path_type=Path), help="Folder of training runs to list.")
@options.as_json
def command(store: str, port: int, browser: bool, runs: Path | None, as_json: bool) -> None:
    """A store in a browser, on this machine only: sessions, units by SQL, their plots, training runs.

    Prints its address, whose token lets you in, and serves until Ctrl-C.
    """
    import secrets

    from nhdata.web.app import make_app
    from nhdata.web.server import Server

    if runs is not None and not runs.is_dir():
        raise UserError(f"{runs} is not a folder", "name the folder that 'nhmodel train --out' writes into")
    pages = None
    if runs is not None:
        from nhmodel.report.pages import RunFolder

        pages = RunFolder(runs)
    with _listen(port) as listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        url = f"http://{HOST}:{port}/?token={token}"
        app = make_app(store, token, port, pages)
        if as_json:
            print_json({"schema": 1, "url": url})
        else:
            click.echo(url)
            click.echo("Ctrl-C ends it", err=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, once uvicorn hands it on
        with tempfile.TemporaryDirectory(prefix="nhdata-serve-") as folder, suppress(KeyboardInterrupt):
            if browser:
                webbrowser.open(_redirect(Path(folder), url))
            Server(app).run(sockets=[listening])


def _redirect(folder: Path, url: str) -> str:
    """A page that only this user can read and that leads to `url`: a browser's command line is everyone's to see."""
    page = folder / "open.html"
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><a href="{url}">open</a>')
    return page.as_uri()


def _listen(port: int) -> socket.socket:
    """A socket of this machine only."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        made.listen()  # before the address is printed, so that it can be opened at once
    except OSError as error:
        made.close()
        raise UserError(f"port {port} cannot be used ({error.strerror})", "choose another with --port, or 0") from None
    return made
