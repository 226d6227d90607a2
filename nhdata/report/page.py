"""Figures and tables as one HTML file that needs no network.

All text goes through Jinja's escaping: names of units, regions and files come from recordings and are not trusted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from nhcatalog.whole import whole_file
from nhdata.report.parts import Page, Panel


def to_html(page: Page) -> str:
    """A page as a whole HTML document with its scripts inside."""
    script, figures = embed(page.panels)
    library = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw) if script else ""
    template = environment("nhdata.report").get_template("base.html")
    return template.render(page=page, figures=figures, script=script, library=library, opens=None)


def write_page(page: str, path: str | os.PathLike[str]) -> None:
    """Write a page, replacing the file at `path` by one rename.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")


def environment(*packages: str) -> Environment:
    """Jinja with escaping always on, over the templates of some packages, the first one's first."""
    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters |= {"number": number, "shown": shown}
    return made


def number(value: Any, digits: int = 3) -> str:
    """A number as people read it: whole ones with commas, others with `digits` digits, a dash for none.

    Examples
    --------
    >>> number(1234567), number(0.123456), number(5382.0, 4), number(None)
    ('1,234,567', '0.123', '5,382', '–')
    """
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def shown(value: Any) -> str:
    """A value as people read it: a number as `number` has it, a dash for none, anything else as it is.

    Examples
    --------
    >>> import datetime
    >>> shown(0.123456), shown(None), shown(datetime.date(2024, 5, 1)), shown(True)
    ('0.123', '–', '2024-05-01', 'yes')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return number(value) if value is None or isinstance(value, int | float | np.number) else str(value)


def embed(panels: Sequence[Panel]) -> tuple[str, list[tuple[Panel, str]]]:
    """The script that draws the figures, and each panel with the place of its own: empty where it has none."""
    drawn = [panel for panel in panels if panel.model is not None]
    if not drawn:
        return "", [(panel, "") for panel in panels]
    script, places = components([panel.model for panel in drawn], wrap_script=False)
    # inside a string of the script; elsewhere an HTML parser would see the end of the script, or a comment in it
    for opens in ("</", "<!--", "<script"):
        script = script.replace(opens, "<\\" + opens[1:])
    waiting = iter(places)
    return script, [(panel, "" if panel.model is None else next(waiting)) for panel in panels]
