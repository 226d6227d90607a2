"""The containers of temporaldata as HDF5: `ArrayDict`, `Interval` and `IrregularTimeSeries`.

The layout is that of temporaldata 0.1 and torch_brain 0.2: arrays contiguous and as they are, text as bytes of fixed
length, the class of every group in its attribute ``object``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nhcatalog.errors import UserError
from nhdata.recording import Columns

_MEMBERS = """
absolute_start arange close coalesce delete_nested_attribute difference dilate domain end file from_dataframe
from_gappy_timeseries from_hdf5 from_list get_nested_attribute has_nested_attribute index_mask is_disjoint is_gappy
is_sorted keys linspace load materialize register_timekey sampling_rate save select_by_interval select_by_mask
set_nested_attribute set_test_domain set_train_domain set_valid_domain slice sort split start subdivide timekeys
timestamp_indices_1s timestamps to_dict to_hdf5 to_irregular
"""
RESERVED = frozenset(_MEMBERS.split())
"""Names that mean something else to temporaldata; as the name of a column or table they get a ``_``."""
MAX_SPAN_S = 1e7


def free_name(name: str, taken: Mapping[str, Any] | h5py.Group) -> str:
    """`name`, with as many ``_`` behind it as make it no member of temporaldata's classes and none of `taken`."""
    while name in RESERVED or name in taken:
        name += "_"
    return name


def write_attributes(group: h5py.Group, kind: str, **values: str | float | None) -> None:
    """Say of which class a group is, and keep `values` that are known."""
    group.attrs["object"] = kind
    for name, value in values.items():
        if value is not None:
            group.attrs[name] = value


def write_columns(group: h5py.Group, columns: Columns) -> None:
    """Write the columns of an `ArrayDict`, or those of a class made of it besides its own.

    Parameters
    ----------
    group : h5py.Group
    columns : mapping of str to (n, ...) array
        Text as objects. Text with other characters than ASCII, which temporaldata cannot hold, is written as UTF-8
        bytes: it is then a column of bytes there.
    """
    text_names = []
    for name, values in columns.items():
        name = free_name(name, group)
        if values.dtype.kind in "OU":
            texts = [str(value) for value in values]
            if all(text.isascii() for text in texts):
                text_names.append(name)
            values = np.array([text.encode(errors="replace") for text in texts], "S")
        group.create_dataset(name, data=values)
    group.attrs["_unicode_keys"] = np.array(text_names, "S")


def write_interval(group: h5py.Group, start_s: NDArray[Any], stop_s: NDArray[Any]) -> None:
    """Write an `Interval` of bare spans, such as a domain."""
    group["start"], group["end"] = start_s, stop_s
    write_attributes(group, "Interval")
    write_columns(group, {})
    group.attrs["timekeys"] = np.array(["start", "end"], "S")


def write_spans(group: h5py.Group, table: Columns, time_columns: list[str], within_s: tuple[float, float]) -> None:
    """Write a table of spans, sorted by their start; rows whose start or stop is not finite are left out.

    temporaldata slices an `Interval` by binary search in its starts and in its ends. Spans that overlap so that
    their ends are not in order would be cut wrongly, or not at all: they become an `IrregularTimeSeries` whose
    ``timestamps`` are the starts and whose time key ``end`` the ends.

    Parameters
    ----------
    group : h5py.Group
    table : mapping of str to (n,) array
        ``start_s``, ``stop_s`` and other columns.
    time_columns : list of str
        The other columns that hold instants, seconds on the session's clock.
    within_s : (float, float)
        The session, for a domain where there are no rows.
    """
    order = np.lexsort((table["stop_s"], table["start_s"]))
    order = order[np.isfinite(table["start_s"][order]) & np.isfinite(table["stop_s"][order])]
    rows = {name: values[order] for name, values in table.items()}
    start_s, stop_s = (rows.pop(name).astype(np.float64) for name in ("start_s", "stop_s"))
    keys = []
    if bool((np.diff(stop_s) >= 0).all()):
        write_interval(group, start_s, stop_s)
        keys = ["start", "end"]
    else:
        group["end"] = stop_s
        write_times(group, start_s, within_s)
        keys = ["timestamps", "end"]
    names = dict(zip(rows, (free_name(name, group) for name in rows), strict=True))
    write_columns(group, {names[name]: values for name, values in rows.items()})
    group.attrs["timekeys"] = np.array([*keys, *(names[name] for name in time_columns)], "S")


def write_signal(
    group: h5py.Group, time_s: NDArray[np.float64], value: NDArray[Any], unit: str, within_s: tuple[float, float]
) -> None:
    """Write a signal as an `IrregularTimeSeries` in the order of time; samples without a time are left out.

    Raises
    ------
    UserError
        If its times span more than 1e7 s.
    """
    order = np.argsort(time_s, kind="stable")
    order = order[np.isfinite(time_s[order])]
    write_times(group, time_s[order], within_s)
    write_columns(group, {"value": value[order]})
    group["value"].attrs["unit"] = unit


def write_times(group: h5py.Group, time_s: NDArray[np.float64], within_s: tuple[float, float]) -> None:
    """Write the times of an `IrregularTimeSeries`: from the first to the last, or of no samples `within_s`."""
    if time_s.size and time_s[-1] - time_s[0] > MAX_SPAN_S:
        problem = f"times of {group.name.lstrip('/')} run from {time_s[0]} to {time_s[-1]} s"
        raise UserError(problem, "mend them at their source and ingest the session again")
    start_s, stop_s = (time_s[0], time_s[-1]) if time_s.size else within_s
    group["timestamps"] = time_s
    group["timestamp_indices_1s"] = np.searchsorted(time_s, second_marks(start_s, stop_s))
    write_interval(group.create_group("domain"), np.array([start_s]), np.array([stop_s]))
    write_attributes(group, "IrregularTimeSeries")
    group.attrs["timekeys"] = np.array(["timestamps"], "S")


def second_marks(start_s: float, stop_s: float) -> NDArray[np.float64]:
    """Every full second after `start_s`, the last of them after `stop_s`.

    The entries of ``timestamp_indices_1s`` say how many times lie before each. temporaldata's own end at
    `stop_s` where the domain is a whole number of seconds long, and its lazy slices then lose what is there.
    """
    return start_s + np.arange(np.floor(stop_s - start_s) + 2)
