"""Figures and tables as one HTML file that needs no network.

All text goes through Jinja's escaping: names of units, regions and files come from recordings and are not trusted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from nhcatalog.errors import UserError
from nhdata.report.draw import Panel
from nhdata.report.draw_session import session_figures
from nhdata.report.draw_store import store_figures
from nhdata.report.session_panels import SessionPanels, session_panels
from nhdata.report.store_panels import store_panels
from nhdata.store.store import Store


def store_page(store: Store) -> str:
    """The report of a store: sessions, units by region, quality, rates, and what was left out and why.

    Returns
    -------
    str
        A whole HTML document with its scripts inside.
    """
    p = store_panels(store)
    return _render("store.html", store_figures(p), title=f"Store {Path(p.name).name}", p=p)


def session_page(store: Store, session_id: str) -> str:
    """The report of one session: spikes, rates, intervals, places, movement, drift and features.

    Returns
    -------
    str
        A whole HTML document with its scripts inside.

    Raises
    ------
    UserError
        If the store has no such session.
    """
    p = session_panels(store.session(session_id))
    return _render("session.html", session_figures(p), title=f"Session {session_id}", p=p, facts=session_facts(p))


def session_facts(p: SessionPanels) -> list[tuple[str, str]]:
    """Name and value of what is said about a session in words."""
    a = p.attrs
    facts = [(name, str(a[name])) for name in ("source", "subject", "lab", "date") if a.get(name)]
    facts += [
        ("length", f"{a['duration_s'] / 60:.1f} min"),
        ("units", f"{a['n_units']:,}"),
        ("spikes", f"{a['n_spikes']:,}"),
        ("mean rate", f"{np.mean(p.rate_hz) if p.rate_hz.size else 0:.2f} Hz"),
        ("clock", f"{a['tick_hz']:g} ticks/s from {a['t_start_s']:g} s"),
    ]
    return facts + [(name, f"{n:,} spans") for name, n in p.intervals.items()]


def write_page(page: str, path: str | os.PathLike[str]) -> None:
    """Write a page, replacing the file at `path` by one rename.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"cannot write {target} ({error.strerror})", "name a file in a folder you may write") from None


def environment(*packages: str) -> Environment:
    """Jinja with escaping always on, over the templates of some packages, the first one's first."""
    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters["number"] = number
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


def embed(panels: list[Panel]) -> tuple[str, list[str]]:
    """Script and places of the figures, in their order."""
    if not panels:
        return "", []
    script, places = components([panel.model for panel in panels], wrap_script=False)
    # inside a string of the script; elsewhere an HTML parser would see the end of the script, or a comment in it
    for opens in ("</", "<!--", "<script"):
        script = script.replace(opens, "<\\" + opens[1:])
    return script, list(places)


def _render(template: str, panels: list[Panel], **values: Any) -> str:
    script, places = embed(panels)
    library = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw) if panels else ""
    return (
        environment("nhdata.report")
        .get_template(template)
        .render(figures=list(zip(panels, places, strict=True)), script=script, library=library, **values)
    )
