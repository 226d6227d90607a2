"""IBL's ALF folders: find the sessions, pick each data set's file, and tell the sessions' identities."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN, existing, one_line, read_npy

SORTERS = ("iblsorter", "pykilosort", "")
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "internationalbrainlab.org")


@dataclass(frozen=True, slots=True)
class Collection:
    """Data sets of one folder, each in its newest revision.

    Attributes
    ----------
    folder : Path
    files : dict of str to Path
        By name without namespace and UUID, e.g. ``spikes.times.npy``.
    used : set of Path
        The files that were read so far.
    """

    folder: Path
    files: dict[str, Path]
    used: set[Path] = field(default_factory=set)

    @classmethod
    def open(cls, folder: Path) -> Collection:
        """List a folder. Revisions ``#...#`` are ordered as text, as ONE does; each file's newest wins."""
        from one.alf.path import remove_uuid_string

        revisions = sorted(path for path in folder.glob("#*#") if path.is_dir())
        files = {}
        for place in [folder, *revisions]:
            for path in sorted(place.iterdir()) if place.is_dir() else []:
                if path.is_file():
                    files[str(remove_uuid_string(path).name).removeprefix("_ibl_")] = path
        return cls(folder, files)

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def path(self, name: str) -> Path:
        """File of a data set; where there is none, the path at which it is missed."""
        return self.files.get(name, self.folder / name)

    def use(self, name: str) -> Path:
        """`path`, noted as read."""
        self.used.add(self.path(name))
        return self.path(name)

    def read(self, name: str, *, n_columns: int | None = None, kinds: str = "iuf") -> NDArray[Any]:
        """`read_npy` of a data set, e.g. ``read("spikes.times.npy", kinds="f")``."""
        return read_npy(self.use(name), n_columns=n_columns, kinds=kinds)

    def find(self, name: str, n_rows: int, *, n_columns: int | None = None) -> NDArray[np.float64] | None:
        """`read` as float64, or None where there is no such data set.

        Raises
        ------
        SourceError
            Unless it has `n_rows` rows.
        """
        if name not in self:
            return None
        values = self.read(name, n_columns=n_columns)
        if len(values) != n_rows:
            problem = f"has {len(values)} rows where the other files of its table have {n_rows}"
            raise SourceError(self.path(name), problem, "download all of them again, of one revision")
        return values.astype(np.float64)

    def read_table(self, name: str) -> dict[str, NDArray[Any]]:
        """`read_parquet` of a data set."""
        return read_parquet(self.use(name))

    def revision(self, names: Sequence[str]) -> str | None:
        """Newest revision among the files of some data sets."""
        folders = {self.path(name).parent for name in names} - {self.folder}
        return max((folder.name.strip("#") for folder in folders), default=None)


def read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    """Number, text and date columns of a Parquet file.

    Text and dates come as objects, missing numbers as NaN; lists and the like are left out.

    Raises
    ------
    SourceError
        If the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyarrow.types as types

    if not path.is_file():
        raise SourceError(path, "no such file", AGAIN)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(path, f"not a readable Parquet file ({one_line(error)})", AGAIN) from error
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            columns[name] = column.to_numpy()
        elif types.is_string(kind) or types.is_large_string(kind) or types.is_date(kind):
            columns[name] = np.array([*column.to_pylist(), None], dtype=object)[:-1]
    return columns


def find_session_folders(paths: Sequence[Path]) -> Iterator[Path]:
    """Session folders with spike sorting, at, under or around each path, sorted, each once.

    Raises
    ------
    SourceError
        If a path does not exist or has no session with spike sorting.
    """
    from one.alf.path import get_session_path

    seen: set[Path] = set()
    for path in existing(paths):
        around = get_session_path(path)
        found = [Path(around)] if around else list(_session_folders_under(path))
        found = [folder for folder in found if probe_collections(folder)]
        if not found:
            problem = "no IBL session with spikes.* or clusters.* files under lab/Subjects/subject/date/number/alf"
            raise SourceError(path, problem, "name a ONE cache folder, a lab, a subject or a session")
        for folder in found:
            if folder not in seen:
                seen.add(folder)
                yield folder


def _session_folders_under(root: Path) -> Iterator[Path]:
    from one.alf.spec import is_session_path

    for name, folders, _ in os.walk(root):
        folders.sort()
        if is_session_path(name):
            folders.clear()
            yield Path(name)


def probe_collections(session: Path) -> dict[str, Path]:
    """Folder of the spike sorting of each probe of a session, the first of `SORTERS` that has spikes.

    A folder that has clusters only is named where no other has spikes: reading it says what is missing.
    """
    found: dict[str, Path] = {}
    for probe in sorted(path for path in (session / "alf").glob("*") if path.is_dir()):
        folders = [probe / sorter for sorter in SORTERS]
        for pattern in ("spikes.*", "#*#/spikes.*", "clusters.*", "#*#/clusters.*"):
            with_files = [folder for folder in folders if next(folder.glob(pattern), None)]
            if with_files:
                found.setdefault(probe.name, with_files[0])
    return found


@dataclass(frozen=True, slots=True)
class SessionName:
    """What a session's path says, ``lab/Subjects/subject/date/number``; `lab` is None where left out."""

    lab: str | None
    subject: str
    date: str
    number: int

    @classmethod
    def of(cls, session: Path) -> SessionName:
        from one.alf.path import session_path_parts

        lab, subject, date, number = session_path_parts(session)
        return cls(lab, subject, date, int(number))

    def eid(self, session: Path) -> str | None:
        """IBL's own id of the session, from ONE's table ``sessions.pqt`` in the cache folder, if it is there.

        Tables that ONE builds from local files invent ids anew each time; those are not random (version 4)
        as IBL's are, and are passed over.

        Raises
        ------
        SourceError
            If the table is there but cannot be read.
        """
        table = session.parents[4 if self.lab else 2] / "sessions.pqt"
        if not table.is_file():
            return None
        named = _read_session_table(table, table.stat().st_mtime_ns).get((self.subject, self.date, self.number), [])
        eids = {eid for lab, eid in named if self.lab in (None, lab)}
        return eids.pop() if len(eids) == 1 else None

    def derived_id(self) -> str:
        """UUID version 5 of ``lab/subject/date/number``, e.g. ``.../001``, in `NAMESPACE`."""
        return str(uuid.uuid5(NAMESPACE, str(self)))

    def __str__(self) -> str:
        return f"{self.lab or ''}/{self.subject}/{self.date}/{self.number:03d}"


@lru_cache(maxsize=4)
def _read_session_table(path: Path, mtime_ns: int) -> dict[tuple[str, str, int], list[tuple[str, str]]]:
    """(lab, eid) by (subject, date, number); `mtime_ns` only tells versions of the file apart."""
    table = read_parquet(path)
    ids = table.get("id", table.get("eid"))
    if ids is None or not {"lab", "subject", "date", "number"} <= table.keys():
        return {}
    named: dict[tuple[str, str, int], list[tuple[str, str]]] = {}
    for eid, lab, subject, date, number in zip(
        ids, table["lab"], table["subject"], table["date"], table["number"], strict=True
    ):
        if _is_random(str(eid)):
            named.setdefault((subject, str(date)[:10], int(number)), []).append((lab, str(eid)))
    return named


def _is_random(text: str) -> bool:
    try:
        return uuid.UUID(text).version == 4
    except ValueError:
        return False
