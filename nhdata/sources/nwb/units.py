"""The units table of an NWB file: good units, where they were, and their spikes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._columns import (
    EVERY_UNIT,
    NOT_SAID,
    REGIONS,
    UNKNOWN,
    add_columns,
    known_names,
    text_column,
    unit_numbers,
)
from nhdata.sources._spikes import blocks, check_spike_times, precision_notes
from nhdata.sources.nwb.nodes import Dataset, Group, check, read_all
from nhdata.sources.nwb.tables import ragged_bounds, read_column, read_columns, unread_columns

RATINGS = ("quality", "unit_quality", "group", "KSLabel")
"""Columns that may hold a rating, in order of preference; after the first only if they use `RATING_WORDS`."""
RATING_WORDS = frozenset({"good", "mua", "noise", "unsorted", "sua", "single unit", "multi unit", "multiunit"})
GOOD_WORDS = frozenset({"good", "sua", "single unit"})
ELECTRODES = "general/extracellular_ephys/electrodes"
USED = ("spike_times", "obs_intervals", "electrodes", "electrode_group")
"""Columns that are read although they are not one value a row."""
RENAMED = {
    "cluster_id": "sorter_cluster_id",
    "firing_rate": "firing_rate_hz",
    "KSLabel": "ks_label",
    "quality": "source_quality",
}


@dataclass(frozen=True, slots=True)
class GoodUnits:
    """Good units of one file; `row` is as `unit` in `nhdata.recording.Spikes`, `kept` says which of all they are."""

    time_s: NDArray[np.float64]
    row: NDArray[np.int32]
    units: dict[str, NDArray[Any]]
    last_s: float
    rule: str
    dropped: Counter[str]
    kept: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


def read_units(path: Path | str, file: Group, *, keep_all: bool = False) -> GoodUnits:
    """Read the good units, or with `keep_all` every unit, with a column ``good`` that says which ones are.

    Raises
    ------
    SourceError
        If there are no units or no spikes, or a spike time is wrong.
    """
    table, bounds = spike_trains(path, file)
    n_units = len(bounds) - 1
    rated_by, rating, good = _rate(table, n_units)
    kept = np.ones(n_units, bool) if keep_all else good
    time_s, row, last_s = read_spikes(path, table["spike_times"], bounds, kept)
    places = _places(file, table, n_units)
    ids, notes = _numbers(table, places["probe"])
    columns: dict[str, NDArray[Any]] = {"cluster_id": ids, "quality": rating, **places}
    own = [column for column in read_columns(table, n_units) if column[0] != rated_by]
    if notes and (said := read_column(table, "id", n_units)) is not None:
        own.append(("source_id", said))
    notes += add_columns(columns, own, RENAMED)
    notes += unread_columns(table, n_units, USED)
    notes += precision_notes(table["spike_times"].dtype, last_s)
    if keep_all:
        columns["good"] = good
    return GoodUnits(
        time_s=time_s,
        row=row,
        units={name: values[kept] for name, values in columns.items()},
        last_s=last_s,
        rule=EVERY_UNIT if keep_all else _rule(rated_by),
        dropped=Counter(f"rated '{word}'" for word in rating[~kept]),
        kept=kept,
        notes=tuple(notes),
    )


def _rule(rated_by: str | None) -> str:
    if rated_by is None:
        return "every unit, as the file rates none"
    return "column good" if rated_by == "good" else f"{rated_by} is good, sua or single unit"


def _numbers(table: Group, probe: NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Each unit's number: its ``id``, or its row where those cannot be numbers of units, which a note says."""
    ids = read_column(table, "id", len(probe))
    if ids is None:
        return np.arange(len(probe)), []
    return unit_numbers(ids, probe)


def spike_trains(path: Path | str, file: Group) -> tuple[Group, NDArray[np.int64]]:
    """The units table and the bounds of each unit's spikes in its column ``spike_times``.

    Returns
    -------
    table : Group
    bounds : (n_units + 1,) int64

    Raises
    ------
    SourceError
        If there are no units or no spikes.
    """
    table = file.get("units")
    if not isinstance(table, Group) or not isinstance(table.get("spike_times"), Dataset):
        missing = "units/spike_times" if isinstance(table, Group) else "units"
        raise SourceError(path, f"has no {missing}", "name a file with sorted units, or add them to this one")
    is_train = table["spike_times"].ndim == 1 and table["spike_times"].dtype.kind in "fiu"
    if not is_train or not isinstance(table.get("spike_times_index"), Dataset):
        problem = "units/spike_times is not one list of numbers with a spike_times_index"
        raise SourceError(path, problem, "download the file again or write it anew")
    bounds = ragged_bounds(table, "spike_times")
    if bounds[-1] == 0:
        raise SourceError(path, "empty recording, no unit has spikes", "name a file with sorted units")
    return table, bounds


def _rate(table: Group, n_units: int) -> tuple[str | None, NDArray[Any], NDArray[np.bool_]]:
    """The column that rates the units, if any does, each unit's rating in its words, and which are good."""
    says = read_column(table, "good", n_units)
    if says is not None and says.dtype == bool:
        return "good", text_column("good" if good else "not good" for good in says), says
    for name in RATINGS:
        rating = _text(table, name, n_units)
        words = [] if rating is None else [word.strip().lower() for word in rating]
        says_something = not NOT_SAID.issuperset(words)
        if rating is not None and (RATING_WORDS.intersection(words) or (name == "quality" and says_something)):
            return name, rating, np.array([word in GOOD_WORDS for word in words], bool)
    return None, text_column(["unrated"] * n_units), np.ones(n_units, bool)


def read_spikes(
    path: Path | str, spike_times: Dataset, bounds: NDArray[np.int64], good: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int32], float]:
    """Check all spikes and keep those of good units, in a few long reads whatever the number of units.

    Parameters
    ----------
    path : Path or str
        File to name in messages.
    spike_times : (n,) h5py or Zarr dataset
        Spike times of all units in s, one unit's after the other's.
    bounds : (n_units + 1,) int64
        Where each unit's spikes start and the last one's stop.
    good : (n_units,) bool

    Returns
    -------
    time_s : (n_spikes,) float64
    row : (n_spikes,) int32
        Row of the good unit.
    last_s : float
        The last spike of any unit.

    Raises
    ------
    SourceError
        If a spike time is wrong.
    """
    check(spike_times)
    n_spikes = np.diff(bounds)
    time_s = np.empty(int(n_spikes[good].sum()))
    row = np.repeat(np.arange(int(good.sum()), dtype=np.int32), n_spikes[good])
    last_s, filled = 0.0, 0
    for block in blocks(int(bounds[-1])):
        first = max(block.start - 1, 0)
        times = spike_times[first : block.stop].astype(np.float64)
        check_spike_times(path, times, first=first, starts=bounds[:-1])
        last_s = max(last_s, float(times.max()))
        unit_bounds = np.clip(bounds, block.start, block.stop)
        kept = times[block.start - first :][np.repeat(good, np.diff(unit_bounds))]
        time_s[filled : filled + len(kept)] = kept
        filled += len(kept)
    return time_s, row, last_s


def _places(file: Group, table: Group, n_units: int) -> dict[str, NDArray[Any]]:
    """Probe, region and coordinates of each unit, by its own columns or by its first electrode."""
    electrodes = file.get(ELECTRODES)
    peak = np.full(n_units, -1)
    if isinstance(electrodes, Group) and isinstance(table.get("electrodes"), Dataset):
        n_electrodes = len(electrodes["id"]) if isinstance(electrodes.get("id"), Dataset) else 0
        peak = _first_electrode(table, n_units, n_electrodes)

    def of_electrode(name: str) -> NDArray[Any] | None:
        values = read_column(electrodes, name, n_electrodes) if (peak >= 0).any() else None
        if values is None:
            return None
        empty = UNKNOWN if values.dtype == object else np.nan
        return np.where(peak >= 0, values[peak], empty)

    probe = _group_names(table, n_units)
    region = next((own for name in REGIONS if (own := _text(table, name, n_units)) is not None), None)
    columns = {
        "probe": known_names(of_electrode("group_name") if probe is None else probe, n_units),
        "region": known_names(of_electrode("location") if region is None else region, n_units),
    }
    for axis in "xyz":
        if (values := of_electrode(axis)) is not None and values.dtype.kind == "f":
            columns[f"{axis}_um"] = values
    return columns


def _first_electrode(table: Group, n_units: int, n_electrodes: int) -> NDArray[np.int64]:
    """Row of each unit's first electrode; -1 where it has none."""
    bounds = ragged_bounds(table, "electrodes")
    column = table["electrodes"]
    rows = read_all(column).astype(np.int64) if column.dtype.kind in "iu" else np.empty(0, np.int64)
    if len(bounds) != n_units + 1 or rows.ndim != 1 or not len(rows):
        return np.full(n_units, -1)
    first = rows[np.minimum(bounds[:-1], len(rows) - 1)]
    return np.where((np.diff(bounds) > 0) & (first >= 0) & (first < n_electrodes), first, -1)


def _group_names(table: Group, n_units: int) -> NDArray[Any] | None:
    """Name of each unit's electrode group, or None where the table has no references to groups."""
    groups = table.get("electrode_group")
    if not isinstance(groups, h5py.Dataset) or groups.shape != (n_units,):
        return None
    if h5py.check_ref_dtype(groups.dtype) is not h5py.Reference:
        return None
    return text_column(_name_of(table.file, reference) for reference in read_all(groups))


def _name_of(file: h5py.File, reference: h5py.Reference) -> str:
    try:
        return str(file[reference].name).rsplit("/", 1)[-1]
    except (ValueError, RuntimeError, KeyError):  # a null reference, or one to something deleted
        return UNKNOWN


def _text(table: Group, name: str, n_units: int) -> NDArray[Any] | None:
    values = read_column(table, name, n_units)
    return values if values is not None and values.dtype == object else None
