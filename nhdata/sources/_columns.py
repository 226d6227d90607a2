"""Columns of the units table: honest names, plain types, and tables of several probes put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.names import safe_name

UNKNOWN = "unknown"
MAX_TEXT = 200
REGIONS = ("location", "region", "brain_area", "brain_region")
"""Columns of units that may name the brain region, in order of preference."""
NOT_SAID = frozenset({"", "unknown", "none", "nan", "n/a"})
EVERY_UNIT = "every unit in the file (--no-filter)"

COMPUTED = frozenset({"unit_id", "session_id", "source", "unit_index", "good", "n_spikes", "rate_hz"})
"""Names the catalog gives to what it works out itself; a source's column of that name is left out."""


def is_plain(values: NDArray[Any]) -> bool:
    """Whether a column is one-dimensional numbers, booleans or short text."""
    if values.ndim != 1:
        return False
    if values.dtype.kind in "OU":
        return all(isinstance(value, str) and len(value) <= MAX_TEXT for value in values)
    return values.dtype.kind in "biuf"


def add_columns(
    columns: dict[str, NDArray[Any]],
    more: Iterable[tuple[str, NDArray[Any]]],
    renamed: Mapping[str, str],
) -> list[str]:
    """Add a source's own columns under safe names, without replacing one of `columns`.

    `renamed` maps the source's names to ours, which carry their unit.
    Columns that are not plain (`is_plain`), that the catalog works out itself (`COMPUTED`), or whose name
    is taken in any mixture of capitals are left out.

    Returns
    -------
    list of str
        Notes for the recording's provenance: text columns that are left out, though they are one value a row.
    """
    notes = []
    taken = {name.lower() for name in columns}
    for name, values in more:
        safe = safe_name(renamed.get(name, name))
        if safe in COMPUTED or safe.lower() in taken:
            continue
        if not is_plain(values):
            if values.ndim == 1 and values.dtype.kind in "OU":
                notes.append(f"column {name} left out: not text of up to {MAX_TEXT} characters in every row")
            continue
        columns[safe] = values
        taken.add(safe.lower())
    return notes


def stack_columns(tables: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """One table below the other; a column that one of them lacks is NaN there, or ``""`` for text.

    Parameters
    ----------
    tables : sequence of mappings to (n,) arrays
        At least one; all with ``cluster_id``.
    """
    if len(tables) == 1:
        return dict(tables[0])
    stacked = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        is_text = any(name in table and table[name].dtype.kind in "OU" for table in tables)
        empty = "" if is_text else np.nan
        parts = [table.get(name, np.full(len(table["cluster_id"]), empty)) for table in tables]
        if is_text:
            parts = [part.astype(object) if part.dtype.kind in "OU" else part.astype(str) for part in parts]
        stacked[name] = np.concatenate(parts)
    return stacked


def text_column(values: Iterable[str]) -> NDArray[Any]:
    """Text as an object array, whatever its length."""
    return np.array([*values, None], dtype=object)[:-1]


def known_names(names: Iterable[Any] | None, n_units: int) -> NDArray[Any]:
    """`n_units` names as an object array, with one word for not known; None means that none is known."""
    texts = [UNKNOWN] * n_units if names is None else [str(name).strip() for name in names]
    return text_column(UNKNOWN if text.lower() in NOT_SAID else text for text in texts)
