"""IBL's ALF folders: which files hold the spikes and the behaviour, and tables and arrays read from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN, one_line, read_npy

if TYPE_CHECKING:
    import pyarrow

SORTERS = ("iblsorter", "pykilosort", "")

AnyPath = TypeVar("AnyPath", bound=PurePath)


def dataset_name(file: PurePath) -> str:
    """Name of a data set without namespace and UUID, e.g. ``wheel.position.npy``."""
    from one.alf.path import remove_uuid_string

    return str(remove_uuid_string(file).name).removeprefix("_ibl_")


def revision_of(file: PurePath) -> str:
    """Revision of a file in a folder ``#...#``, e.g. ``2024-05-06``; empty where it has none."""
    folder = file.parent.name
    return folder.strip("#") if folder.startswith("#") and folder.endswith("#") else ""


def newest_versions(files: Iterable[AnyPath], revision: str | None = None) -> dict[str, AnyPath]:
    """Newest version of each data set among the files of one folder and its revisions.

    Parameters
    ----------
    files : iterable of paths
    revision : str or None
        The newest to be considered. Revisions are ordered as text, as ONE does.

    Returns
    -------
    dict of str to path
        By `dataset_name`.
    """
    versions = sorted(files, key=lambda file: (revision_of(file), file.name))
    return {dataset_name(file): file for file in versions if revision is None or revision_of(file) <= revision}


def probe_folders(files: Iterable[AnyPath], revision: str | None = None) -> dict[str, AnyPath]:
    """Folder of the spike sorting of each probe: the first of `SORTERS` that has spikes, by probe.

    Parameters
    ----------
    files : iterable of paths
        Relative to the session's folder ``alf``.
    revision : str or None
        Folders with spikes of this revision come first.

    Returns
    -------
    dict of str to path
        By probe, sorted. A folder that has clusters only is named where no other has spikes: reading it says
        what is missing.
    """
    best: dict[str, tuple[int, int, AnyPath]] = {}
    for file in files:
        revised, kind = revision_of(file), dataset_name(file).partition(".")[0]
        folder = file.parent.parent if revised else file.parent
        probe, sorter = (*folder.parts, "")[:2] if len(folder.parts) in (1, 2) else ("", "")
        if not probe or sorter not in SORTERS or kind not in ("spikes", "clusters"):
            continue
        rank = 2 if kind == "clusters" else int(revision not in (None, revised))
        choice = (rank, SORTERS.index(sorter), folder)
        best[probe] = min(best.get(probe, choice), choice)
    return {probe: best[probe][2] for probe in sorted(best)}


def probe_collections(session: Path, revision: str | None = None) -> dict[str, Path]:
    """`probe_folders` of a session on disk."""
    alf = session / "alf"
    found = (path for pattern in ("*/*", "*/*/*", "*/*/*/*") for path in alf.glob(pattern))
    folders = probe_folders((path.relative_to(alf) for path in found if path.is_file()), revision)
    return {probe: alf / folder for probe, folder in folders.items()}


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
    def open(cls, folder: Path, revision: str | None = None) -> Collection:
        """List a folder, up to a revision (`newest_versions`)."""
        places = [folder, *(path for path in folder.glob("#*#") if path.is_dir())] if folder.is_dir() else []
        files = (path for place in places for path in place.iterdir() if path.is_file())
        return cls(folder, newest_versions(files, revision))

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
        """`read_table` of a data set."""
        return read_table(self.use(name))

    def revision(self, names: Sequence[str]) -> str | None:
        """Newest revision among the files of some data sets."""
        return max(revision_of(self.path(name)) for name in names) or None


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Number, text and date columns of a Parquet file, or of a CSV file where the name says so.

    Text and dates come as objects, missing numbers as NaN; lists and the like are left out.

    Raises
    ------
    SourceError
        If the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    if not path.is_file():
        raise SourceError(path, "no such file", AGAIN)
    kind_of_file = "CSV" if path.suffix == ".csv" else "Parquet"
    try:
        return plain_columns(pyarrow.csv.read_csv(path) if kind_of_file == "CSV" else pq.read_table(path))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # text that is no UTF-8, absurd dates
        raise SourceError(path, f"not a readable {kind_of_file} file ({one_line(error)})", AGAIN) from error


def plain_columns(table: pyarrow.Table) -> dict[str, NDArray[Any]]:
    """Number, text and date columns of an Arrow table; text and dates as objects, missing numbers as NaN."""
    import pyarrow.types as types

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            columns[name] = column.to_numpy()
        elif types.is_string(kind) or types.is_large_string(kind) or types.is_date(kind):
            columns[name] = np.array([*column.to_pylist(), None], dtype=object)[:-1]
    return columns
