"""Neurodata Without Borders 2: files with a units table, read through h5py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nhdata.recording import Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._files import AGAIN, describe_files, existing, one_line, safe_id

if TYPE_CHECKING:
    import h5py


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
        seen: set[Path] = set()
        for path in existing(paths):
            found = [path] if path.is_file() else sorted(path.rglob("*.nwb"))
            if not found:
                raise SourceError(path, "no *.nwb file in this folder", "name an NWB file or a folder of them")
            for file in found:
                if file not in seen:
                    seen.add(file)
                    yield SessionRef(file, _session_id_or_none(file))

    def load(self, ref: SessionRef) -> Recording:
        from nhdata.sources.nwb_series import read_series
        from nhdata.sources.nwb_tables import as_text, read_intervals
        from nhdata.sources.nwb_units import read_units

        path = ref.path
        with _open(path) as file:
            good = read_units(path, file)
            intervals = read_intervals(file)
            ends_s = [float(table["stop_s"].max()) for table in intervals.values() if len(table["stop_s"])]
            return Recording(
                source=self.name,
                session_id=_session_id(path, file),
                spikes=Spikes(good.time_s, good.row),
                units=good.units,
                stop_s=max([good.last_s, *ends_s]),
                provenance=Provenance(
                    files=describe_files([path], path.parent),
                    original_ids={"identifier": _identifier(path, file)},
                    rule=good.rule,
                    dropped=dict(good.dropped),
                ),
                intervals=intervals,
                series=read_series(file),
                subject=as_text(file.get("general/subject/subject_id")),
                lab=as_text(file.get("general/lab")),
                date=_iso_date(as_text(file.get("session_start_time"))),
            )


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """The open file; whatever HDF5 stumbles over becomes a SourceError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise SourceError(path, f"not a whole NWB (HDF5) file ({one_line(error)})", AGAIN) from error


def _identifier(path: Path, file: h5py.File) -> str:
    from nhdata.sources.nwb_tables import as_text

    identifier = as_text(file.get("identifier"))
    if identifier is None:
        raise SourceError(path, "has no identifier, so it is no NWB 2 file", "write the file anew with an identifier")
    return identifier


def _session_id(path: Path, file: h5py.File) -> str:
    return safe_id(_identifier(path, file))


def _session_id_or_none(path: Path) -> str | None:
    try:
        with _open(path) as file:
            return _session_id(path, file)
    except SourceError:
        return None


def _iso_date(text: str | None) -> str | None:
    try:
        return datetime.fromisoformat(text or "").date().isoformat()
    except ValueError:
        return None
