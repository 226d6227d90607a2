"""Neurodata Without Borders 2: files with a units table, as HDF5 or Zarr, on disk or on a web server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nhcatalog.errors import UserError
from nhdata.observed import OBSERVED, spikes_outside
from nhdata.recording import INVALID, Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceOptions
from nhdata.sources._files import describe_files, safe_id
from nhdata.sources._http import Http
from nhdata.sources.nwb.file import find_files, open_nwb, open_remote, read_date, read_identifier

if TYPE_CHECKING:
    from nhdata.sources.nwb.nodes import Group

LONGEST_SILENCE_S = 600.0
"""Intervals that end later than this after the last spike of any unit are not believed to end the recording."""


class NwbSource:
    """NWB files (HDF5 or NWB-Zarr), or folders that hold them at any depth, or addresses; one file is one `Recording`.

    A unit is good where the units table's boolean column ``good`` is true; else where its text column ``quality``
    says ``good``, ``sua`` or ``single unit``, in capitals or not. Without it ``unit_quality``, ``group`` or
    ``KSLabel`` counts, if it uses such words. Where no column rates the units, all are kept as ``unrated``.

    Regions and probes come from the units table or, by each unit's first electrode, from the electrodes
    table. NWB gives electrode coordinates in µm. Spans of time come from ``/intervals``, signals from
    ``/processing``. What lies between the units' ``obs_intervals`` becomes ``invalid_times``, where the file has
    none. The session's id is the file's ``identifier``, made safe as a folder name.

    Of a file at an address only what is needed is fetched, so its provenance has no hash but the server's own name for
    the version, where it gives one.
    """

    name = "nwb"
    takes = ("no_filter",)

    def __init__(self, options: SourceOptions, http: Http | None = None) -> None:
        self.http = http or Http()
        self.keep_all = options.no_filter

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        for file in find_files(paths, "*.nwb"):
            ref = SessionRef(file, None)
            yield replace(ref, session_id=self._session_id_or_none(ref))

    def iter_urls(self, urls: Sequence[str]) -> Iterator[SessionRef]:
        """One recording at each address."""
        for url in dict.fromkeys(urls):
            ref = SessionRef(Path(PurePosixPath(urlsplit(url).path).name or "nwb"), None, url=url)
            yield replace(ref, session_id=self._session_id_or_none(ref))

    def load(self, ref: SessionRef) -> Recording:
        from nhdata.sources.nwb.observed import partly_observed, unobserved
        from nhdata.sources.nwb.series import read_series
        from nhdata.sources.nwb.tables import as_text, read_intervals
        from nhdata.sources.nwb.units import read_units

        with self._open(ref, self.http) as (file, origin):
            identifier = read_identifier(ref.place, file)
            good = read_units(ref.place, file, keep_all=self.keep_all)
            notes = [*good.notes]
            intervals = read_intervals(file, notes)
            series = read_series(file, notes)
            ends_s = [float(table["stop_s"].max()) for table in intervals.values() if len(table["stop_s"])]
            ends_s = [end_s for end_s in ends_s if end_s <= good.last_s + LONGEST_SILENCE_S]
            stop_s = max([good.last_s, *ends_s])
            if INVALID not in intervals and (gaps := unobserved(file["units"], stop_s)) is not None:
                intervals[INVALID] = gaps
            date, date_notes = read_date(file)
            if (partly := partly_observed(file["units"], good.kept, stop_s, notes)) is not None:
                if OBSERVED in intervals:
                    notes.append(f"table {OBSERVED} left out: the units' own obs_intervals are stored under that name")
                intervals[OBSERVED] = partly
                notes += spikes_outside(good.time_s, good.row, intervals)
            return Recording(
                source=self.name,
                session_id=safe_id(identifier),
                spikes=Spikes(good.time_s, good.row),
                units=good.units,
                stop_s=stop_s,
                provenance=Provenance(
                    files=() if ref.url else describe_files([ref.path], ref.path.parent),
                    original_ids={"identifier": identifier, **origin},
                    rule=good.rule,
                    dropped=dict(good.dropped),
                    notes=(*notes, *date_notes),
                ),
                intervals=intervals,
                series=series,
                subject=as_text(file.get("general/subject/subject_id")),
                lab=as_text(file.get("general/lab")),
                date=date,
            )

    @contextmanager
    def _open(self, ref: SessionRef, http: Http) -> Iterator[tuple[Group, dict[str, str]]]:
        """The open file, and of one at an address where it came from."""
        if ref.url is None:
            with open_nwb(ref.path) as file:
                yield file, {}
        else:
            with open_remote(ref.url, http) as (file, said):
                yield file, {"url": ref.url, **said}

    def _session_id_or_none(self, ref: SessionRef) -> str | None:
        try:
            with self._open(ref, replace(self.http, attempts=1)) as (file, _):
                return safe_id(read_identifier(ref.place, file))
        except UserError:
            return None
