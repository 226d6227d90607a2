"""Units of a brainset and their spikes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._columns import REGIONS, add_columns, known_names, text_column, unit_numbers
from nhdata.sources._files import AGAIN
from nhdata.sources._hdf5 import check_size, members
from nhdata.sources._spikes import blocks, select_spikes
from nhdata.sources.brainset.tables import fail, is_kind, read_columns
from nhdata.sources.nwb.units import GOOD_WORDS, RATING_WORDS

RATINGS = ("quality", "unit_quality", "ks_label", "KSLabel", "group", "type")
"""Text columns that may rate units, in order of preference; one counts if it uses `RATING_WORDS`."""
PROBES = ("probe", "group_name", "electrode_group")
REMEDY = "name a brainset with spikes and units"


@dataclass(frozen=True, slots=True)
class Units:
    """All units of a file, which of them are good, and by which rule."""

    columns: dict[str, NDArray[Any]]
    good: NDArray[np.bool_]
    rule: str
    notes: tuple[str, ...] = ()


def read_units(path: Path, file: h5py.File) -> Units:
    """Read the table of units.

    Raises
    ------
    SourceError
        If there is none, or its columns differ in length.
    """
    group = members(file).get("units")
    n_units, own = read_columns(group) if is_kind(group, "ArrayDict") else (0, {})
    if not n_units:
        raise SourceError(path, "has no units", REMEDY)
    quality, good, rule = _rate(own, n_units)
    probe = _words(own, PROBES, n_units)
    columns = {
        "cluster_id": _cluster_ids(own, probe),
        "probe": probe,
        "region": _words(own, REGIONS, n_units),
        "quality": quality,
    }
    if rule == "column good":
        own.pop("good")
    notes = add_columns(columns, own.items(), {"KSLabel": "ks_label", "n_spikes": "source_n_spikes"})
    return Units(columns, good, rule, tuple(notes))


def _rate(own: dict[str, NDArray[Any]], n_units: int) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    """Each unit's rating in the words of the column that rates them, which are good, and the rule in words."""
    if "good" in own and own["good"].dtype == bool and own["good"].ndim == 1:
        good = own["good"]
        quality = own.get("quality", np.empty(0))
        if quality.dtype != object:
            quality = text_column("good" if is_good else "not good" for is_good in good)
        return quality, good, "column good"
    for name in RATINGS:
        if name in own and own[name].dtype == object:
            words = [word.strip().lower() for word in own[name]]
            if RATING_WORDS.intersection(words):
                good = np.array([word in GOOD_WORDS for word in words], bool)
                return own[name], good, f"{name} is good, sua or single unit"
    return text_column(["unrated"] * n_units), np.ones(n_units, bool), "every unit, as the file rates none"


def _words(own: dict[str, NDArray[Any]], names: tuple[str, ...], n_units: int) -> NDArray[Any]:
    """The first text column of `names`, with one word for what is not known."""
    return known_names(next((own[name] for name in names if name in own and own[name].dtype == object), None), n_units)


def _cluster_ids(own: dict[str, NDArray[Any]], probe: NDArray[Any]) -> NDArray[np.int64]:
    """The sorter's numbers where the file keeps them and they are unique within a probe, else the row."""
    ids = own.get("cluster_id")
    return np.arange(len(probe)) if ids is None or ids.ndim != 1 else unit_numbers(ids, probe)[0]


def read_spikes(
    path: Path, file: h5py.File, good: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int32], float]:
    """Check all spikes and keep those of good units.

    Returns
    -------
    time_s : (n_spikes,) float64
        As in the file.
    row : (n_spikes,) int32
        Row of the good unit.
    last_s : float
        The last spike of any unit.

    Raises
    ------
    SourceError
        If there are no spikes, they differ in number from their units, or a time or a unit is wrong.
    """
    times, unit = _spike_column(path, file, "timestamps", "fiu"), _spike_column(path, file, "unit_index", "iu")
    if not len(times):
        raise SourceError(path, "empty recording, no spikes", REMEDY)
    for block in blocks(len(unit)):
        rows = unit[block]
        wrong = (rows < 0) | (rows >= len(good))
        if wrong.any():
            i = int(wrong.argmax())
            raise fail(unit, f"says unit {rows[i]} of spike {block.start + i}, but there are {len(good)} units")
    if len(times) != len(unit):
        raise SourceError(path, f"{len(times)} spike times but {len(unit)} spike units", AGAIN)
    time_s, row = select_spikes(path, times, unit, np.flatnonzero(good))
    return time_s.astype(np.float64, copy=False), row, float(times[-1])


def _spike_column(path: Path, file: h5py.File, name: str, kinds: str) -> Any:
    """The data set ``spikes/<name>``: one dimension of a dtype of `kinds`, not read yet."""
    group = members(file).get("spikes")
    column = members(group).get(name) if is_kind(group, "IrregularTimeSeries") else None
    if not isinstance(column, h5py.Dataset):
        raise SourceError(path, f"has no spikes/{name}", REMEDY)
    if column.ndim != 1 or column.dtype.kind not in kinds:
        raise fail(column, f"holds {column.dtype} {column.shape}, not one list of numbers")
    check_size(column)
    return column
