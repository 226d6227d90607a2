"""Write a page where the user asked for it, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nhcatalog.errors import UserError
from nhcli.output import print_json

if TYPE_CHECKING:
    from nhdata.report.parts import Page


def give_page(page: Page, about: dict[str, Any], out: str, png: str | None, as_json: bool) -> None:
    """Write a page, say where it is.

    Parameters
    ----------
    page : Page
    about : dict
        What the JSON object says besides ``out``, ``bytes`` and ``png``.
    out : str
    png : str or None
        As the option ``--png`` gives it: empty for beside the page.
    as_json : bool
    """
    from nhdata.report.page import to_html, write_page
    from nhdata.report.png import write_png

    text = to_html(page)
    write_page(text, out)
    written = [out]
    about = {"schema": 1, **about, "out": out, "bytes": Path(out).stat().st_size}
    if png is not None:
        about["png"] = png or str(Path(out).with_suffix(".png"))
        write_png(text, about["png"])
        written.append(about["png"])
    if as_json:
        print_json(about)
    else:
        click.echo("\n".join(written))


def check_out(out: str, png: str | None = None) -> None:
    """Say that a page or its picture cannot be written before the work, not after it.

    Raises
    ------
    UserError
        If the folder is not there, or there is no browser that draws.
    """
    from nhdata.report.png import find_browser

    for path in (out, png):
        if path and not Path(path).absolute().parent.is_dir():
            raise UserError(f"there is no folder {Path(path).parent}", "make it, or name another")
    if png is not None:
        find_browser()
