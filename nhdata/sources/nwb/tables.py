"""NWB's tables (`DynamicTable`) read as plain columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.names import free_name
from nhdata.recording import Columns
from nhdata.sources import SourceError
from nhdata.sources._columns import add_columns, text_column
from nhdata.sources.nwb.nodes import Dataset, Group, is_elsewhere, is_text, members, read_all


def as_text(value: Any) -> str | None:
    """Text of a scalar or attribute that may be bytes, text or absent."""
    if isinstance(value, Dataset):
        if value.ndim or is_elsewhere(value):
            return None
        value = value[()]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value if isinstance(value, str) and value else None


def read_column(table: Group, name: str, n_rows: int) -> NDArray[Any] | None:
    """One column with one number, boolean or text a row; None where there is none or it is not like that.

    Ragged columns (with ``<name>_index``), those of more dimensions, references and rows of other tables
    are not.

    Returns
    -------
    (n_rows,) array or None
        Text as objects.
    """
    column = table.get(name)
    if not isinstance(column, Dataset) or f"{name}_index" in table or column.shape != (n_rows,):
        return None
    if as_text(column.attrs.get("neurodata_type")) == "DynamicTableRegion":
        return None
    if is_text(column):
        return text_column(read_all(column))
    return read_all(column) if column.dtype.kind in "biuf" else None


def read_columns(table: Group, n_rows: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and values of the columns that `read_column` reads, in the table's order, but ``id``."""
    order = [as_text(name) for name in table.attrs.get("colnames", ())]
    for name in dict.fromkeys([*order, *table]):
        if name is None or name == "id" or (name.endswith("_index") and name.removesuffix("_index") in table):
            continue
        if (column := read_column(table, name, n_rows)) is not None:
            yield name, column


def unread_columns(table: Group, n_rows: int, used: Collection[str]) -> list[str]:
    """A note of the columns that `read_columns` passes over and that are not in `used`; none if there are none."""
    read = {name for name, _ in read_columns(table, n_rows)}
    names = [
        name for name in table if name not in read and name != "id" and name not in used and not name.endswith("_index")
    ]
    return [f"columns left out, not one value a row: {', '.join(names)}"] if names else []


def ragged_bounds(table: Group, name: str) -> NDArray[np.int64]:
    """Where each row of a ragged column starts and, at the end, where the last one stops.

    Parameters
    ----------
    table : Group
    name : str
        A one-dimensional column with ``<name>_index``; without it each row has one element.

    Returns
    -------
    (n_rows + 1,) int64

    Raises
    ------
    SourceError
        If the index decreases or passes the end of the column.
    """
    length = len(table[name])
    if f"{name}_index" not in table:
        return np.arange(length + 1)
    index = table[f"{name}_index"]
    if index.ndim != 1 or index.dtype.kind not in "iu":
        problem = f"{table.name}/{name}_index is no list of whole numbers"
        raise SourceError(table.file.filename, problem, "download the file again or write it anew")
    stops = read_all(index).astype(np.int64)
    bounds = np.concatenate([np.zeros(1, np.int64), stops])
    if (np.diff(bounds) < 0).any() or bounds[-1] > length:
        problem = f"{table.name}/{name}_index decreases or passes the end of {name} ({length})"
        raise SourceError(table.file.filename, problem, "download the file again or write it anew")
    return bounds


def joined_text(table: Group, name: str, n_rows: int) -> NDArray[Any] | None:
    """A ragged column of words as one text a row, joined by spaces; None where it is not like that.

    Returns
    -------
    (n_rows,) array of objects, or None

    Raises
    ------
    SourceError
        As `ragged_bounds`.
    """
    column = table.get(name)
    if not isinstance(column, Dataset) or column.ndim != 1 or not is_text(column):
        return None
    bounds = ragged_bounds(table, name)
    words = read_all(column)
    texts = text_column(" ".join(words[start:stop]) for start, stop in pairwise(bounds))
    return texts if len(texts) == n_rows else None


def read_intervals(file: Group, notes: list[str]) -> dict[str, Columns]:
    """Tables of time spans under ``/intervals``, by name. Raises as `read_interval_table`, which adds to `notes`."""
    tables = members(file["intervals"]) if isinstance(file.get("intervals"), Group) else {}
    found: dict[str, Columns] = {}
    taken: set[str] = set()
    for name, table in sorted(tables.items(), key=lambda item: item[0] != item[0].lower()):  # trials before Trials
        if is_interval_table(table):
            free = free_name(name, taken)
            if free != name:
                notes.append(f"table {name} is stored as {free}")
            found[free] = read_interval_table(table, notes)
            taken.add(free.lower())
    return found


def is_interval_table(table: Any) -> bool:
    """Whether something in a file is a table of time spans."""
    return isinstance(table, Group) and {"start_time", "stop_time"} <= {*table.keys()}


def read_interval_table(table: Group, notes: list[str], more: Columns | None = None) -> dict[str, NDArray[Any]]:
    """One table of time spans; rows whose start or stop is not finite are left out.

    Parameters
    ----------
    table : Group
    notes : list of str
        Gets a note of rows and columns that are left out, and of columns that are renamed.
    more : mapping of str to (n_rows,) array
        Further columns, made from some that are not plain.

    Raises
    ------
    SourceError
        If its start and stop times differ in number, or are no numbers.
    """
    start = table["start_time"]
    n_rows = len(start) if isinstance(start, Dataset) and start.ndim else 0
    start_s, stop_s = (read_column(table, column, n_rows) for column in ("start_time", "stop_time"))
    if start_s is None or stop_s is None or start_s.dtype.kind == "O" or stop_s.dtype.kind == "O":
        problem = f"{table.name} has no numbers for start_time and stop_time, as many of each"
        raise SourceError(table.file.filename, problem, "download the file again or write it anew")
    keep = np.isfinite(start_s) & np.isfinite(stop_s)
    columns: dict[str, NDArray[Any]] = {
        "start_s": start_s[keep].astype(np.float64),
        "stop_s": stop_s[keep].astype(np.float64),
    }
    name = str(table.name).rsplit("/", 1)[-1]
    if n := n_rows - int(keep.sum()):
        notes.append(f"{n} of {n_rows} rows of {name} left out: no start or no stop")
    own = [pair for pair in read_columns(table, n_rows) if pair[0] not in ("start_time", "stop_time")]
    added = add_columns(columns, ((key, column[keep]) for key, column in [*own, *(more or {}).items()]), {}, ())
    left_out = unread_columns(table, n_rows, ("start_time", "stop_time", *(more or {})))
    notes += [f"{name}: {note}" for note in [*added, *left_out]]
    return columns
