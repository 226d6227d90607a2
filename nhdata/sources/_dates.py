"""Dates as sources write them."""

from __future__ import annotations

from datetime import datetime


def read_iso_date(text: str | None, name: str) -> tuple[str | None, list[str]]:
    """Day of a date or a time in ISO 8601, and a note where the text is not one.

    Parameters
    ----------
    text : str or None
        None or empty where the source says nothing.
    name : str
        What the source calls it, for the note.

    Examples
    --------
    >>> read_iso_date("2023-04-05T12:00:00", "start"), read_iso_date(None, "start")
    (('2023-04-05', []), (None, []))
    >>> read_iso_date("5 April", "start")
    (None, ["date not known: start '5 April' is not ISO 8601"])
    """
    if not text:
        return None, []
    try:
        return datetime.fromisoformat(text).date().isoformat(), []
    except ValueError:
        return None, [f"date not known: {name} {text[:100]!r} is not ISO 8601"]
