"""Units of an Allen Visual Coding file: AllenSDK's default filter, and where each unit was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._columns import EVERY_UNIT, add_columns, known_names
from nhdata.sources._spikes import int64_ids
from nhdata.sources.nwb.tables import read_column, read_columns
from nhdata.sources.nwb.units import ELECTRODES, GoodUnits, read_spikes, spike_trains

MAX_ISI_VIOLATIONS = 0.5
MAX_AMPLITUDE_CUTOFF = 0.1
MIN_PRESENCE_RATIO = 0.95
RULE = (
    f"quality is good, isi_violations ≤ {MAX_ISI_VIOLATIONS}, amplitude_cutoff ≤ {MAX_AMPLITUDE_CUTOFF}, "
    f"presence_ratio ≥ {MIN_PRESENCE_RATIO}, peak channel valid and in a brain structure"
)
METRICS = ("isi_violations", "amplitude_cutoff", "presence_ratio")
NO_STRUCTURE = ("None", "")
CCF = {
    "anterior_posterior_ccf_coordinate": "ccf_ap_um",
    "dorsal_ventral_ccf_coordinate": "ccf_dv_um",
    "left_right_ccf_coordinate": "ccf_lr_um",
}
UNREGISTERED = -1000
RENAMED = {"cluster_id": "sorter_cluster_id", "firing_rate": "firing_rate_hz", "peak_channel_id": "peak_channel"}
ANOTHER = "name an Allen Visual Coding session file, or read this one with --source nwb"


def read_units(path: Path, file: h5py.File, registered: pd.DataFrame | None, *, keep_all: bool) -> GoodUnits:
    """Read the units that pass `passes`, or all.

    Parameters
    ----------
    path : Path
    file : h5py.File
    registered : DataFrame or None
        Channels of the cache, as `nhdata.sources.allen.tables.read_channels` gives them.
    keep_all : bool
        Keep every unit, with a column ``good`` that says which ones pass.

    Raises
    ------
    SourceError
        If there are no units, a column that Allen's files have is missing, or a spike time is wrong.
    """
    table, bounds = spike_trains(path, file)
    n_units = len(bounds) - 1
    ids = _column(path, table, "id", n_units, "iu")
    quality = _column(path, table, "quality", n_units, "O")
    peaks = _peak_channels(path, file, _column(path, table, "peak_channel_id", n_units, "iu"))
    metrics = {name: _column(path, table, name, n_units, "fiu") for name in METRICS}
    good, dropped = passes(pd.DataFrame({"quality": quality, **metrics, **peaks}))

    kept = np.ones(n_units, bool) if keep_all else good
    time_s, row, last_s = read_spikes(path, table["spike_times"], bounds, kept)
    columns: dict[str, NDArray[Any]] = {"cluster_id": int64_ids(path, ids), "quality": quality}
    columns |= _places(peaks, registered, n_units)
    notes = add_columns(columns, read_columns(table, n_units), RENAMED)
    if keep_all:
        columns["good"] = good
    return GoodUnits(
        time_s=time_s,
        row=row,
        units={name: values[kept] for name, values in columns.items()},
        last_s=last_s,
        rule=EVERY_UNIT if keep_all else RULE,
        dropped=Counter() if keep_all else dropped,
        kept=kept,
        notes=tuple(notes),
    )


def passes(units: pd.DataFrame) -> tuple[NDArray[np.bool_], Counter[str]]:
    """AllenSDK's default filter, and how many units each of its rules leaves out.

    As ``Probes.get_units_table`` in allensdk 2.16.2 (brain_observatory/ecephys/probes.py), which
    ``EcephysSession.units`` shows: a metric that is NaN fails, and the structure is that of the electrodes
    table in the file, where ``"None"`` and ``""`` mean none; ``"root"`` is one.

    Parameters
    ----------
    units : DataFrame
        One row a unit: ``quality``, `METRICS`, and its peak channel's ``valid_data`` and ``location``, both NaN
        where the file has no such channel.

    Returns
    -------
    good : (n_units,) bool
    dropped : Counter
        Units by the first rule that they fail.
    """
    location = units["location"]
    rules = {
        "peak channel not in the file": units["valid_data"].notna(),
        "peak channel not valid": units["valid_data"] == 1,
        "in no brain structure": location.map(lambda name: isinstance(name, str) and name not in NO_STRUCTURE),
        "quality not 'good'": units["quality"] == "good",
        f"amplitude_cutoff > {MAX_AMPLITUDE_CUTOFF} or NaN": units["amplitude_cutoff"] <= MAX_AMPLITUDE_CUTOFF,
        f"presence_ratio < {MIN_PRESENCE_RATIO} or NaN": units["presence_ratio"] >= MIN_PRESENCE_RATIO,
        f"isi_violations > {MAX_ISI_VIOLATIONS} or NaN": units["isi_violations"] <= MAX_ISI_VIOLATIONS,
    }
    good = np.ones(len(units), bool)
    dropped: Counter[str] = Counter()
    for reason, passed in rules.items():
        dropped[reason] = int((good & ~passed.to_numpy(bool)).sum())
        good &= passed.to_numpy(bool)
    return good, +dropped


def _column(path: Path, table: h5py.Group, name: str, n_rows: int, kinds: str) -> NDArray[Any]:
    values = read_column(table, name, n_rows)
    if values is None or values.dtype.kind not in kinds:
        problem = f"has no column {name} in {table.name.strip('/')} as Allen's files do"
        raise SourceError(path, problem, ANOTHER)
    return values


def _peak_channels(path: Path, file: h5py.File, peak: NDArray[Any]) -> pd.DataFrame:
    """Rows of the electrodes table for the units' peak channels; NaN where a channel is not in it."""
    electrodes = file.get(ELECTRODES)
    ids = electrodes.get("id") if isinstance(electrodes, h5py.Group) else None
    if not isinstance(ids, h5py.Dataset) or ids.ndim != 1:
        raise SourceError(path, f"has no {ELECTRODES}", ANOTHER)
    n = len(ids)
    channels = pd.DataFrame(
        {
            "valid_data": _column(path, electrodes, "valid_data", n, "biu"),
            "location": _column(path, electrodes, "location", n, "Of"),
            "group_name": _column(path, electrodes, "group_name", n, "O"),
            "probe_vertical_position": _column(path, electrodes, "probe_vertical_position", n, "fiu"),
        },
        index=_column(path, electrodes, "id", n, "iu"),
    )
    if not channels.index.is_unique:
        raise SourceError(path, f"has a channel twice in {ELECTRODES}", "download the file again")
    channels["peak_channel"] = channels.index
    return channels.reindex(peak).reset_index(drop=True)


def _places(peaks: pd.DataFrame, registered: pd.DataFrame | None, n_units: int) -> dict[str, NDArray[Any]]:
    """Probe, depth, region and, from the cache's channels, CCF coordinates of each unit."""
    region = peaks["location"].to_numpy(object)
    places = {"depth_um": peaks["probe_vertical_position"].to_numpy(np.float64)}
    if registered is not None:
        channels = registered.reindex(peaks["peak_channel"]).reset_index(drop=True)
        acronym = channels["ecephys_structure_acronym"].to_numpy(object)
        region = np.where(pd.isna(acronym), region, acronym)
        ccf_um = channels[list(CCF)].where(channels[list(CCF)] != UNREGISTERED)
        places |= {ours: ccf_um[theirs].to_numpy(np.float64) for theirs, ours in CCF.items()}
    return {
        "probe": known_names(peaks["group_name"], n_units),
        "region": known_names(region, n_units),
        **places,
    }
