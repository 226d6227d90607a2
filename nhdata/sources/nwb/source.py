"""Neurodata Without Borders 2: files with a units table, read through h5py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._files import describe_files, safe_id
from nhdata.sources.nwb.file import find_files, open_nwb, read_date, read_identifier

LONGEST_SILENCE_S = 600.0
"""Intervals that end later than this after the last spike of any unit are not believed to end the recording."""


class NwbSource:
    """NWB files, or folders that hold ``*.nwb`` at any depth; one file is one `Recording`.

    A unit is good where the units table's text column ``quality`` says ``good``, ``sua`` or ``single unit``,
    in capitals or not. Without it ``unit_quality``, ``group`` or ``KSLabel`` counts, if it uses such words.
    Where no column rates the units, all are kept as ``unrated``.

    Regions and probes come from the units table or, by each unit's first electrode, from the electrodes
    table. NWB gives electrode coordinates in µm. Spans of time come from ``/intervals``, signals from
    ``/processing``. The session's id is the file's ``identifier``, made safe as a folder name.
    """

    name = "nwb"

    def __init__(self, options: SourceOptions) -> None:
        pass

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        for file in find_files(paths, "*.nwb"):
            yield SessionRef(file, _session_id_or_none(file))

    def load(self, ref: SessionRef) -> Recording:
        from nhdata.sources.nwb.series import read_series
        from nhdata.sources.nwb.tables import as_text, read_intervals
        from nhdata.sources.nwb.units import read_units

        path = ref.path
        with open_nwb(path) as file:
            identifier = read_identifier(path, file)
            good = read_units(path, file)
            intervals = read_intervals(file)
            ends_s = [float(table["stop_s"].max()) for table in intervals.values() if len(table["stop_s"])]
            ends_s = [end_s for end_s in ends_s if end_s <= good.last_s + LONGEST_SILENCE_S]
            return Recording(
                source=self.name,
                session_id=safe_id(identifier),
                spikes=Spikes(good.time_s, good.row),
                units=good.units,
                stop_s=max([good.last_s, *ends_s]),
                provenance=Provenance(
                    files=describe_files([path], path.parent),
                    original_ids={"identifier": identifier},
                    rule=good.rule,
                    dropped=dict(good.dropped),
                ),
                intervals=intervals,
                series=read_series(file),
                subject=as_text(file.get("general/subject/subject_id")),
                lab=as_text(file.get("general/lab")),
                date=read_date(file),
            )


def _session_id_or_none(path: Path) -> str | None:
    try:
        with open_nwb(path) as file:
            return safe_id(read_identifier(path, file))
    except SourceError:
        return None
