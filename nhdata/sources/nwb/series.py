"""Continuous signals in an NWB file: processed behaviour such as position or running speed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nhdata.names import safe_name
from nhdata.recording import Series
from nhdata.sources import SourceError
from nhdata.sources.nwb.nodes import Dataset, Group, is_elsewhere, members, read_all
from nhdata.sources.nwb.tables import as_text

MAX_COLUMNS = 8
MAX_DEPTH = 8
MAX_VALUES = 50_000_000
MEND = "write that series anew, or remove it"


def read_series(file: Group, notes: list[str]) -> dict[str, Series]:
    """Numeric time series under ``/processing``, the module ``behavior`` first.

    Each is named by the end of its path, as much as makes it unique. Raw acquisition is left out, and so are
    voltages (`ElectricalSeries`), images and series of more than 8 columns or 50 million values. `notes` gets a note of
    each series that is stored under another name than its own.

    Raises
    ------
    SourceError
        If a series has more or fewer times than samples.
    """
    modules = members(file["processing"]) if isinstance(file.get("processing"), Group) else {}
    found: dict[str, Series] = {}
    for module in sorted(modules, key=lambda name: (name != "behavior", name)):
        for group in _time_series(modules[module]):
            if (series := _read(group)) is not None:
                name = _unique_name(group, found)
                found[name] = series
                if name != str(group.name).rsplit("/", 1)[-1]:
                    notes.append(f"series {group.name} is stored as {name}")
    return found


def _time_series(group: Any, depth: int = 0) -> Iterator[Group]:
    if not isinstance(group, Group) or depth > MAX_DEPTH:
        return
    found = members(group)
    if "data" in found and ("timestamps" in found or "starting_time" in found):
        yield group
        return
    for member in found.values():
        yield from _time_series(member, depth + 1)


def _unique_name(group: Group, taken: dict[str, Series]) -> str:
    parts = [safe_name(part) for part in group.name.split("/")[2:]]
    names = ["_".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    names += [f"{names[-1]}_{n}" for n in range(2, len(taken) + 3)]
    lower = {name.lower() for name in taken}
    return next(name for name in names if name.lower() not in lower)


def _read(group: Group) -> Series | None:
    data = group["data"]
    is_signal = (
        isinstance(data, Dataset)
        and not is_elsewhere(data)
        and data.dtype.kind in "biuf"
        and data.ndim in (1, 2)
        and (data.ndim == 1 or data.shape[1] <= MAX_COLUMNS)
        and 0 < data.size <= MAX_VALUES
    )
    if not is_signal or as_text(group.attrs.get("neurodata_type")) == "ElectricalSeries":
        return None
    if "timestamps" in group:
        times = group["timestamps"]
        if not isinstance(times, Dataset) or times.dtype.kind not in "iuf":
            raise SourceError(group.file.filename, f"{group.name} has timestamps that are no numbers", MEND)
        time_s = read_all(times).astype(np.float64)
    else:
        start = group["starting_time"]
        rate_hz = _number(start.attrs.get("rate"))
        if not 0 < rate_hz < np.inf:
            raise SourceError(group.file.filename, f"{group.name} has a rate of {rate_hz} Hz", MEND)
        time_s = _number(start[()]) + np.arange(len(data)) / rate_hz
    if time_s.shape != data.shape[:1]:
        problem = f"{group.name} has {len(data)} samples but {len(time_s)} times"
        raise SourceError(group.file.filename, problem, MEND)
    value = read_all(data)
    if value.dtype.kind != "f":
        value = value.astype(np.float64)
    conversion, offset = _number(data.attrs.get("conversion", 1.0)), _number(data.attrs.get("offset", 0.0))
    if (conversion, offset) != (1.0, 0.0):
        value = value * conversion + offset
    return Series(time_s, value, as_text(data.attrs.get("unit")) or "unknown")


def _number(value: Any) -> float:
    """A scalar as a number; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan
