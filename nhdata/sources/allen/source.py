"""Allen Brain Observatory, Visual Coding Neuropixels: session NWB files, read without AllenSDK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nhdata.recording import INVALID, Columns, Provenance, Recording, Series, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._files import describe_files
from nhdata.sources.nwb.file import find_files, open_nwb, read_date, read_identifier

if TYPE_CHECKING:
    import h5py

OPTOTAGGING = "processing/optotagging/optogenetic_stimulation"


class AllenSource:
    """A cache folder with ``session_<id>/session_<id>.nwb``, or session files themselves.

    Units are those of AllenSDK's ``EcephysSession.units`` for the same file (see
    `nhdata.sources.allen.units.passes`) in the file's order; with the option `no_filter` every unit of the
    file, with a column ``good`` that says which ones pass. A unit's id is ``cluster_id``, the sorter's own
    number ``sorter_cluster_id``. Where the cache has ``channels.csv``, regions and CCF coordinates come from
    it (−1000 there means not registered and becomes NaN), else regions from the file, and no coordinates:
    those in the file have z twice as y. ``sessions.csv`` gives facts about the session; ``specimen_id``
    there is the subject, else the file's ``subject_id``.

    Every table of the file's ``/intervals`` is kept under its own name, so each stimulus has its table with
    its own columns (``frame`` of movies and scenes), and ``invalid_times`` has the tags that name the probe.
    Series are those under ``/processing`` that hold a number, ``running_speed`` in cm/s among them.
    """

    name = "allen"
    takes = ("no_filter",)

    def __init__(self, options: SourceOptions) -> None:
        self.keep_all = options.no_filter

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        for file in find_files(paths, "session_*.nwb"):
            yield SessionRef(file, _session_id_or_none(file))

    def load(self, ref: SessionRef) -> Recording:
        from nhdata.sources.allen.tables import cache_folder, read_channels, read_session_facts, table_files
        from nhdata.sources.allen.units import read_units

        path = ref.path
        folder = cache_folder(path)
        with open_nwb(path) as file:
            session_id = _session_id(path, file)
            facts = _facts(file) | read_session_facts(folder, session_id)
            kept = read_units(path, file, read_channels(folder), keep_all=self.keep_all)
            notes = [*kept.notes]
            intervals, series = _intervals(file, notes), _series(file, notes)
            ends_s = [float(table["stop_s"].max()) for table in intervals.values() if len(table["stop_s"])]
            date, date_notes = read_date(file)
            return Recording(
                source=self.name,
                session_id=session_id,
                spikes=Spikes(kept.time_s, kept.row),
                units=kept.units,
                stop_s=max([kept.last_s, *ends_s]),
                provenance=Provenance(
                    files=describe_files([path, *table_files(folder)], folder),
                    original_ids={"ecephys_session_id": session_id, **facts},
                    rule=kept.rule,
                    dropped=dict(kept.dropped),
                    notes=(*notes, *date_notes),
                ),
                intervals=intervals,
                series=series,
                subject=facts.get("specimen_id") or facts.get("subject_id"),
                lab="allen",
                date=date,
            )


def _session_id(path: Path, file: h5py.File) -> str:
    identifier = read_identifier(path, file)
    if not (identifier.isascii() and identifier.isdecimal()):
        problem = f"its identifier '{identifier}' is no ecephys session id, so it is no Allen Visual Coding file"
        raise SourceError(path, problem, "name a session file of that project, or read this one with --source nwb")
    return identifier


def _session_id_or_none(path: Path) -> str | None:
    try:
        with open_nwb(path) as file:
            return _session_id(path, file)
    except SourceError:
        return None


def _facts(file: h5py.File) -> dict[str, str]:
    """What the file says about the session and the animal."""
    from nhdata.sources.nwb.tables import as_text

    facts = {"session_type": as_text(file.get("general/stimulus"))}
    facts |= {name: as_text(file.get(f"general/subject/{name}")) for name in ("subject_id", "genotype", "sex")}
    if "general/subject" in file:
        facts["specimen_name"] = as_text(file["general/subject"].attrs.get("specimen_name"))
    return {name: text for name, text in facts.items() if text is not None}


def _intervals(file: h5py.File, notes: list[str]) -> dict[str, Columns]:
    from nhdata.sources.nwb.tables import is_interval_table, joined_text, read_interval_table, read_intervals

    intervals = read_intervals(file, notes)
    if is_interval_table(invalid := file.get(f"intervals/{INVALID}")):
        tags = joined_text(invalid, "tags", len(invalid["start_time"]))
        intervals[INVALID] = read_interval_table(invalid, [], {} if tags is None else {"tags": tags})
    if is_interval_table(stimulation := file.get(OPTOTAGGING)):
        intervals["optogenetic_stimulation"] = read_interval_table(stimulation, notes)
    return intervals


def _series(file: h5py.File, notes: list[str]) -> dict[str, Series]:
    from nhdata.sources.nwb.series import read_series

    return {name: series for name, series in read_series(file, notes).items() if np.isfinite(series.value).any()}
