"""What a wrong name in a query may have been meant to be."""

from __future__ import annotations

import re
from difflib import get_close_matches

from nhcatalog.macros import MACROS
from nhcatalog.schema import TABLES

_COLUMN = re.compile(r'(?:column named|column|alias) "([^"]+)"', re.IGNORECASE)
_TABLE = re.compile(r"(?:Table|Function) with name \"?([^\s\"!]+)", re.IGNORECASE)


def nearest_columns(name: str) -> list[str]:
    """Up to four columns, as ``table.column``, whose names are like this one.

    Examples
    --------
    >>> nearest_columns("regoin")
    ['units.region']
    >>> nearest_columns("firing_rate")
    ['units.firing_rate_hz', 'units.rate_hz', 'unit_features.rate_hz']
    """
    word = name.lower().rpartition(".")[2]
    where: dict[str, list[str]] = {}
    for table, of in TABLES.items():
        for column in of.columns:
            where.setdefault(column.name, []).append(f"{table}.{column.name}")
    close = get_close_matches(word, where, n=3, cutoff=0.6)
    parts = [part for part in word.split("_") if len(part) > 2]
    shared = [column for column in where if any(part in column.split("_") for part in parts)]
    return [place for column in dict.fromkeys([*close, *shared]) for place in where[column]][:4]


def remedy(error: str) -> str:
    """What to do about DuckDB's error message."""
    general = "'nhdata schema' lists every table and column"
    if (found := _TABLE.search(error)) and (close := get_close_matches(found[1].lower(), [*TABLES, *MACROS], n=2)):
        return f"perhaps {' or '.join(close)}; {general}"
    if (found := _COLUMN.search(error)) and (close := nearest_columns(found[1])):
        return f"perhaps {', '.join(close)}; {general}"
    return general
