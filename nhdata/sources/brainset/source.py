"""Brainsets: the HDF5 files of torch_brain (POYO) and temporaldata."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nhdata.recording import INVALID, Provenance, Recording, Spikes
from nhdata.sources import SessionRef, SourceError, SourceOptions
from nhdata.sources._columns import EVERY_UNIT, NOT_SAID
from nhdata.sources._dates import read_iso_date
from nhdata.sources._files import AGAIN, describe_files, existing, one_line, safe_id
from nhdata.sources._gaps import gaps

if TYPE_CHECKING:
    import h5py


class BrainsetSource:
    """Brainset files, or folders that hold ``*.h5`` at any depth; one file is one `Recording`.

    A unit is good where the column ``good`` of ``units`` is true, else where a text column (``quality``,
    ``ks_label``, …) rates it so; where none rates units, as in most brainsets, all are kept as ``unrated``. The
    units' ``id`` stays a column of that name.

    A file cut from a longer recording says in ``absolute_start`` where it began; that is added to every time, so
    that times are those of the recording it was cut from.

    The session's id is ``<brainset id>_<session id>``, made safe as a folder name; a session id that starts with
    its brainset's is taken as it is.
    """

    name = "brainset"
    takes = ("no_filter",)

    def __init__(self, options: SourceOptions) -> None:
        self.keep_all = options.no_filter

    def iter_sessions(self, paths: Sequence[Path]) -> Iterator[SessionRef]:
        seen: set[Path] = set()
        for path in existing(paths):
            found = [path] if path.is_file() else sorted(_files_below(path))
            if not found:
                raise SourceError(path, "no *.h5 file in this folder", "name a brainset file or a folder of them")
            for file in found:
                if file not in seen:
                    seen.add(file)
                    yield SessionRef(file, _session_id_or_none(file))

    def load(self, ref: SessionRef) -> Recording:
        from nhdata.sources.brainset.tables import read_contents
        from nhdata.sources.brainset.units import read_spikes, read_units

        path = ref.path
        with _open(path) as file:
            names = _read_names(path, file)
            offset_s = _offset_s(path, file)
            units = read_units(path, file)
            kept = np.ones(len(units.good), bool) if self.keep_all else units.good
            time_s, row, last_s = read_spikes(path, file, kept)
            columns = {name: values[kept] for name, values in units.columns.items()}
            contents = read_contents(file, offset_s)
            stop_s = max(last_s, _domain_stop_s(file)) + offset_s
            domain = contents.intervals.get("domain", {"start_s": np.empty(0), "stop_s": np.empty(0)})
            if (invalid := gaps(domain["start_s"], domain["stop_s"], stop_s)) is not None:
                contents.intervals.setdefault(INVALID, invalid)
            return Recording(
                source=self.name,
                session_id=names.session_id,
                spikes=Spikes(time_s + offset_s if offset_s else time_s, row),
                units=columns | {"good": units.good} if self.keep_all else columns,
                stop_s=stop_s,
                provenance=Provenance(
                    files=describe_files([path], path.parent),
                    original_ids=names.original_ids,
                    rule=EVERY_UNIT if self.keep_all else units.rule,
                    dropped=dict(Counter(f"rated '{word}'" for word in units.columns["quality"][~kept])),
                    notes=(*units.notes, *contents.notes, *names.notes),
                ),
                intervals=contents.intervals,
                series=contents.series,
                subject=names.subject,
                lab=names.lab,
                date=names.date,
            )


def _files_below(folder: Path) -> Iterator[Path]:
    for name, _, files in os.walk(folder):
        yield from (Path(name, file) for file in files if file.endswith(".h5"))


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """The open file, if temporaldata wrote it; whatever HDF5 stumbles over becomes a SourceError."""
    import h5py

    from nhdata.sources.brainset.tables import is_kind

    try:
        with h5py.File(path, "r") as file:
            if not is_kind(file, "Data"):
                problem = "is HDF5 but not a brainset: its attribute 'object' is not 'Data'"
                raise SourceError(path, problem, "name a file that torch_brain or temporaldata wrote")
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise SourceError(path, f"not a whole HDF5 file ({one_line(error)})", AGAIN) from error


@dataclass(frozen=True, slots=True)
class _Names:
    session_id: str
    original_ids: dict[str, str]
    subject: str | None
    lab: str | None
    date: str | None
    notes: list[str]


def _read_names(path: Path, file: h5py.File) -> _Names:
    """Who and when, by the attributes of ``brainset``, ``subject``, ``session`` and ``device``."""
    from nhdata.sources._hdf5 import members
    from nhdata.sources.brainset.tables import is_kind
    from nhdata.sources.nwb.tables import as_text

    groups = {name: member for name, member in members(file).items() if is_kind(member, "Data")}

    def attribute(group: str, name: str) -> str | None:
        text = as_text(groups[group].attrs.get(name)) if group in groups else None
        return None if text is None or text.lower() in NOT_SAID else text

    ids = {group: attribute(group, "id") for group in ("brainset", "session", "device")}
    session, brainset = ids["session"] or path.stem, ids["brainset"]
    prefixed = session if brainset is None or session.startswith(f"{brainset}_") else f"{brainset}_{session}"
    date, notes = read_iso_date(attribute("session", "recording_date"), "recording_date")
    return _Names(
        session_id=safe_id(prefixed),
        original_ids={group: text for group, text in ids.items() if text is not None},
        subject=attribute("subject", "id"),
        lab=attribute("session", "lab"),
        date=date,
        notes=notes,
    )


def _session_id_or_none(path: Path) -> str | None:
    try:
        with _open(path) as file:
            return _read_names(path, file).session_id
    except SourceError:
        return None


def _offset_s(path: Path, file: h5py.File) -> float:
    from nhdata.sources.brainset.tables import read_number

    offset_s = read_number(file, "absolute_start", 0.0)
    if not 0 <= offset_s < np.inf:
        problem = f"its absolute_start is {offset_s}, before the recording started"
        raise SourceError(path, problem, "write the file anew with torch_brain, with times from 0")
    return offset_s


def _domain_stop_s(file: h5py.File) -> float:
    """The last end of ``domain`` and ``spikes/domain``, as far as they say."""
    from nhdata.sources._hdf5 import members
    from nhdata.sources.brainset.tables import is_kind, read_columns

    domains = [members(group).get("domain") for group in (file, file["spikes"])]
    ends_s = [read_columns(domain)[1].get("end", np.empty(0)) for domain in domains if is_kind(domain, "Interval")]
    return max((float(end) for column in ends_s for end in column if np.isfinite(end)), default=0.0)
