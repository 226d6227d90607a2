"""The containers of a temporaldata HDF5 file (`ArrayDict`, `Interval`, time series), read without trusting the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nhdata.names import free_name
from nhdata.recording import Columns, Series
from nhdata.sources import SourceError
from nhdata.sources._columns import add_columns, text_column
from nhdata.sources._hdf5 import check_size, members
from nhdata.sources.nwb.tables import as_text

MAX_DEPTH = 4
MAX_COLUMNS = 8
MAX_VALUES = 50_000_000


def is_kind(member: Any, kind: str) -> bool:
    """Whether `member` is a group that holds a temporaldata object of the class `kind`."""
    return isinstance(member, h5py.Group) and as_text(member.attrs.get("object")) == kind


def read_number(group: h5py.Group, name: str, default: float) -> float:
    """A number that is an attribute, `default` where there is none, NaN where it is something else."""
    values = np.ravel(group.attrs.get(name, default))
    return float(values[0]) if values.size == 1 and values.dtype.kind in "iuf" else np.nan


def fail(member: h5py.Group | h5py.Dataset, problem: str) -> SourceError:
    """An error that names the file and the part of it."""
    return SourceError(member.file.filename, f"{member.name} {problem}", "write the file anew with torch_brain")


def read_column(dataset: h5py.Dataset) -> NDArray[Any] | None:
    """Numbers or booleans of at most 8 columns and 50 million values, or text as objects; None for anything else.

    temporaldata keeps text as bytes of fixed length; bytes are UTF-8.
    """
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    n_columns = 1 if dataset.ndim == 1 else dataset.shape[1] if dataset.ndim == 2 and not is_text else 0
    if not 0 < n_columns <= MAX_COLUMNS or dataset.size > MAX_VALUES or not (is_text or dataset.dtype.kind in "biuf"):
        return None
    check_size(dataset)
    values = dataset[:]
    if is_text:
        return text_column(value.decode(errors="replace") for value in values)
    dtype = np.dtype(np.float64) if values.dtype.itemsize > 8 else values.dtype.newbyteorder("=")
    return np.asarray(values, dtype)


def read_columns(group: h5py.Group) -> tuple[int, dict[str, NDArray[Any]]]:
    """Number of rows of an `ArrayDict` or a class made of it, and the columns that `read_column` reads.

    Raises
    ------
    SourceError
        If columns differ in length.
    """
    found = {name: member for name, member in members(group).items() if isinstance(member, h5py.Dataset)}
    found.pop("timestamp_indices_1s", None)
    lengths = {member.shape[0] if member.shape else 0 for member in found.values()}
    if len(lengths) > 1:
        raise fail(group, f"has columns of {' and '.join(map(str, sorted(lengths)))} rows")
    columns = {name: values for name, member in found.items() if (values := read_column(member)) is not None}
    return lengths.pop() if lengths else 0, columns


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds besides spikes and units."""

    intervals: dict[str, Columns] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def free(self, kind: str, name: str, taken: Mapping[str, Any]) -> str:
        """A name that is safe and free, with a note where it is another."""
        free = free_name(name, {one.lower() for one in taken})
        if free != name:
            self.notes.append(f"{kind} {name} is stored as {free}")
        return free


def read_contents(root: h5py.Group, offset_s: float) -> Contents:
    """Spans and signals, also those in nested `Data`, by their names joined with ``_``.

    `Interval` becomes a table of spans; so does an `IrregularTimeSeries` that has no signal (events) or a time key
    ``end`` (spans that overlap). Each numeric column of another time series becomes a signal, but for those of
    more than 8 channels or 50 million values. ``domain`` is kept as a table where it has several pieces.

    Parameters
    ----------
    root : h5py.Group
    offset_s : float
        Added to every time.

    Raises
    ------
    SourceError
        If an object is incomplete or its columns differ in length.
    """
    contents = Contents()
    for name, member in _objects(root, "", 0):
        if name in ("spikes", "units"):
            continue
        if is_kind(member, "Interval"):
            if name != "domain" or len(member["start"]) > 1:
                free = contents.free("table", name, contents.intervals)
                contents.intervals[free] = _read_interval(member, offset_s, contents.notes)
        elif is_kind(member, "IrregularTimeSeries"):
            _add_irregular(contents, name, member, offset_s)
        elif is_kind(member, "RegularTimeSeries"):
            _add_regular(contents, name, member, offset_s)
    return contents


def _objects(group: h5py.Group, prefix: str, depth: int) -> Iterator[tuple[str, h5py.Group]]:
    for name, member in members(group).items():
        if is_kind(member, "Data"):
            if depth < MAX_DEPTH:
                yield from _objects(member, f"{prefix}{name}_", depth + 1)
        elif isinstance(member, h5py.Group) and (name != "domain" or depth == 0):
            yield prefix + name, member


def _time_keys(group: h5py.Group) -> list[str]:
    keys = np.atleast_1d(group.attrs.get("timekeys", ()))
    return [text for key in keys.tolist() if (text := as_text(key))]


def _shifted(group: h5py.Group, offset_s: float, *times: str) -> dict[str, NDArray[Any]]:
    """Columns of a group, with the offset added to `times` and to what the group says are times."""
    _, columns = read_columns(group)
    for key in {*times, *_time_keys(group)} & columns.keys():
        if columns[key].dtype.kind in "iuf":
            columns[key] = columns[key].astype(np.float64) + offset_s
    return columns


def _table(
    group: h5py.Group,
    start_s: NDArray[Any] | None,
    stop_s: NDArray[Any] | None,
    own: dict[str, NDArray[Any]],
    notes: list[str],
) -> Columns:
    """A table of spans; rows whose start or stop is not finite are left out, with a note."""
    for times in (start_s, stop_s):
        if times is None or times.dtype != np.float64 or times.ndim != 1:
            raise fail(group, "has no numbers for the start and end of its spans")
    assert start_s is not None
    assert stop_s is not None
    keep = np.isfinite(start_s) & np.isfinite(stop_s)
    columns: dict[str, NDArray[Any]] = {"start_s": start_s[keep], "stop_s": stop_s[keep]}
    name = str(group.name).strip("/").replace("/", "_")
    if n := len(keep) - int(keep.sum()):
        notes.append(f"{n} of {len(keep)} rows of {name} left out: no start or no stop")
    added = add_columns(columns, ((key, values[keep]) for key, values in own.items()), {}, ())
    notes += [f"{name}: {note}" for note in added]
    return columns


def _read_interval(group: h5py.Group, offset_s: float, notes: list[str]) -> Columns:
    columns = _shifted(group, offset_s, "start", "end")
    return _table(group, columns.pop("start", None), columns.pop("end", None), columns, notes)


def _add_irregular(contents: Contents, name: str, group: h5py.Group, offset_s: float) -> None:
    if getattr(members(group).get("timestamps"), "size", 0) > MAX_VALUES:
        return
    columns = _shifted(group, offset_s, "timestamps")
    time_s = columns.pop("timestamps", None)
    if time_s is None or time_s.dtype != np.float64 or time_s.ndim != 1:
        raise fail(group, "has no timestamps")
    signals = _signals(columns)
    if signals and "end" not in _time_keys(group):
        _add_series(contents, name, group, time_s, signals)
    else:
        spans = _table(group, time_s, columns.pop("end", time_s), columns, contents.notes)
        contents.intervals[contents.free("table", name, contents.intervals)] = spans


def _add_regular(contents: Contents, name: str, group: h5py.Group, offset_s: float) -> None:
    n_samples, columns = read_columns(group)
    rate_hz = read_number(group, "sampling_rate", np.nan)
    domain = (
        _read_interval(members(group)["domain"], 0.0, []) if is_kind(members(group).get("domain"), "Interval") else {}
    )
    if not 0 < rate_hz < np.inf or not len(domain.get("start_s", ())):
        raise fail(group, "has no sampling_rate or no domain")
    start_s = domain["start_s"][0]
    measured = np.zeros(n_samples, bool)  # between the pieces of a domain temporaldata keeps filling values
    for first, last in zip(*(np.rint((domain[k] - start_s) * rate_hz) for k in ("start_s", "stop_s")), strict=True):
        measured[int(first) : int(last)] = True
    time_s = start_s + np.arange(n_samples) / rate_hz + offset_s
    signals = {key: values[measured] for key, values in _signals(columns).items()}
    _add_series(contents, name, group, time_s[measured], signals)


def _signals(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: values for name, values in columns.items() if values.dtype != object}


def _add_series(
    contents: Contents, name: str, group: h5py.Group, time_s: NDArray[np.float64], signals: dict[str, NDArray[Any]]
) -> None:
    for column, values in signals.items():
        full_name = name if list(signals) == ["value"] else f"{name}_{column}"
        value = values if values.dtype.kind == "f" else values.astype(np.float64)
        unit = as_text(group[column].attrs.get("unit")) or "unknown"
        contents.series[contents.free("series", full_name, contents.series)] = Series(time_s, value, unit)
