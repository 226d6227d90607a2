"""Columns of the units table: honest names, plain types, and tables of several probes put together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.names import free_name, safe_name

UNKNOWN = "unknown"
MAX_TEXT = 200
REGIONS = ("location", "region", "brain_area", "brain_region")
"""Columns of units that may name the brain region, in order of preference."""
NOT_SAID = frozenset({"", "unknown", "none", "nan", "n/a"})
EVERY_UNIT = "every unit in the file (--no-filter)"

COMPUTED = frozenset(
    {"unit_id", "session_id", "source", "unit_index", "good", "n_spikes", "rate_hz", "observed_share", "metrics"}
)
"""Columns of units that nhdata computes; a source's column ``x`` of such a name is stored as ``source_x``."""


def is_plain(values: NDArray[Any]) -> bool:
    """Whether a column is one-dimensional numbers, booleans or short text."""
    if values.ndim != 1:
        return False
    if values.dtype.kind in "OU":
        return all(isinstance(value, str) and len(value) <= MAX_TEXT for value in values)
    return values.dtype.kind in "biuf"


def unit_numbers(ids: NDArray[Any], probe: NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Each unit's number, and a note if that is its row because its id cannot be its number.

    Parameters
    ----------
    ids, probe : (n,) array

    Returns
    -------
    numbers : (n,) int64
        The ids, where they are whole numbers of int64 and unique within a probe, else the rows.
    notes : list of str
        None or one, for the recording's provenance.

    Examples
    --------
    >>> unit_numbers(np.array([7, 2**63], np.uint64), np.array(["a", "a"]))[0]
    array([0, 1])
    """
    rows = np.arange(len(probe))
    if ids.dtype.kind not in "iu" or len(set(zip(probe.tolist(), ids.tolist(), strict=True))) < len(ids):
        return rows, ["the ids of units repeat or are no whole numbers: cluster_id is the row"]
    if not is_int64(ids):
        return rows, [f"the ids of units are as large as {ids.max()}: cluster_id is the row"]
    return ids.astype(np.int64), []


def is_int64(numbers: NDArray[Any]) -> bool:
    """Whether all of some whole numbers fit into int64."""
    return numbers.dtype.kind != "u" or not numbers.size or int(numbers.max()) < 2**63


def add_columns(
    columns: dict[str, NDArray[Any]],
    more: Iterable[tuple[str, NDArray[Any]]],
    renamed: Mapping[str, str],
    reserved: Collection[str] = COMPUTED,
) -> list[str]:
    """Add a source's own columns under names that are safe and free; nothing in `columns` is replaced.

    A name is taken in any mixture of capitals. A column that repeats a column of the same name is added once.

    Parameters
    ----------
    columns : dict of str to (n,) array
        Changed in place.
    more : iterable of (name, (n,) array)
    renamed : mapping of str to str
        The source's names to ours, which carry their unit.
    reserved : collection of str
        Names of columns that nhdata computes: a source's column ``x`` of such a name is stored as ``source_x``. By
        default those of units; tables of intervals have none.

    Returns
    -------
    list of str
        Notes for the recording's provenance: each column with another name than the source's, and each that is left out
        because it is not plain (`is_plain`).
    """
    notes = []
    taken = {name.lower(): name for name in columns}
    for name, values in more:
        if not is_plain(values):
            notes.append(f"column {name} left out: {_not_plain(values)}")
            continue
        wanted = safe_name(renamed.get(name, name))
        if wanted.lower() in reserved:
            wanted = f"source_{wanted}"
        if wanted.lower() in taken and _are_equal(columns[taken[wanted.lower()]], values):
            continue
        free = free_name(wanted, taken)
        if free != renamed.get(name, name):
            notes.append(f"column {name} is stored as {free}")
        columns[free] = values
        taken[free.lower()] = free
    return notes


def _not_plain(values: NDArray[Any]) -> str:
    if values.ndim != 1:
        return f"{values.ndim} dimensions, not one value a row"
    if values.dtype.kind in "OU":
        return f"not text of up to {MAX_TEXT} characters in every row"
    return f"values of type {values.dtype}"


def _are_equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    numbers = one.dtype.kind in "biuf" and other.dtype.kind in "biuf"
    return np.array_equal(one, other, equal_nan=True) if numbers else one.tolist() == other.tolist()


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
