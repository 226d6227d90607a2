"""NWB files on disk or on a web server: find them, open them, and what every one says of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from nhcatalog.errors import UserError
from nhdata.sources import SourceError
from nhdata.sources._dates import read_iso_date
from nhdata.sources._files import AGAIN, existing, one_line
from nhdata.sources._http import Http
from nhdata.sources.nwb.http_file import HttpFile
from nhdata.sources.nwb.nodes import Group, check_links
from nhdata.sources.nwb.zarr_tree import is_zarr, open_folder, open_url

READ = ("units", "intervals", "general")
"""Groups of which nothing may lie in another file."""


def find_files(paths: Sequence[Path], pattern: str) -> Iterator[Path]:
    """Each file that is named or lies in a named folder at any depth, once; so does each folder of NWB-Zarr.

    Parameters
    ----------
    paths : sequence of Path
    pattern : str
        Names that count within folders, e.g. ``"*.nwb"``; a file that is named itself need not match. Zarr folders
        may end in ``.zarr`` beside.

    Raises
    ------
    SourceError
        If a path does not exist, or a folder has no such file.
    """
    seen: set[Path] = set()
    for path in existing(paths):
        found = [path] if path.is_file() or is_zarr(path) else _find_below(path, pattern)
        if not found:
            raise SourceError(path, f"no {pattern} file in this folder", "name an NWB file or a folder of them")
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file


def _find_below(folder: Path, pattern: str) -> list[Path]:
    """The files and Zarr folders that match, in one walk that does not go into those Zarr folders."""
    found = []
    for name, folders, files in os.walk(folder):
        parent = Path(name)
        found += [parent / file for file in files if fnmatchcase(file, pattern) and (parent / file).is_file()]
        zarrs = {
            child
            for child in folders
            if (fnmatchcase(child, pattern) or fnmatchcase(child, f"{pattern}.zarr")) and is_zarr(parent / child)
        }
        found += [parent / child for child in zarrs]
        folders[:] = [child for child in folders if child not in zarrs]
    return sorted(found, key=lambda path: (not fnmatchcase(path.name, pattern), path))


@contextmanager
def open_nwb(path: Path) -> Iterator[Group]:
    """The open file or Zarr folder; whatever HDF5 stumbles over becomes a SourceError."""
    if is_zarr(path):
        yield open_folder(path)
        return
    import h5py

    with _readable(path), h5py.File(path, "r") as file:
        check_links(file, *READ)
        yield file


@contextmanager
def open_remote(url: str, http: Http) -> Iterator[tuple[Group, dict[str, str]]]:
    """The open file at an address, and what its server says of it; addresses that end in ``.zarr`` are NWB-Zarr.

    Raises
    ------
    SourceError
        If it is no NWB file.
    NetworkError
        If it cannot be had: no such file, no range requests, a server that stays silent or breaks off every time.
    """
    if url.rstrip("/").endswith(".zarr"):
        yield open_url(url, http), {}
        return
    import h5py

    remote = HttpFile(url, http)
    try:
        with _readable(url), h5py.File(remote, "r") as file:
            check_links(file, *READ)
            yield file, {"etag": remote.etag} if remote.etag else {}
    except SourceError as error:
        raise remote.error or error from None


@contextmanager
def _readable(place: Path | str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file makes h5py raise nearly anything, SystemError among it
        raise SourceError(place, f"not a whole NWB (HDF5) file ({one_line(error)})", AGAIN) from error


def read_identifier(path: Path | str, file: Group) -> str:
    """The file's ``identifier``. Raises SourceError if it has none."""
    from nhdata.sources.nwb.tables import as_text

    identifier = as_text(file.get("identifier"))
    if identifier is None:
        raise SourceError(path, "has no identifier, so it is no NWB 2 file", "write the file anew with an identifier")
    return identifier


def read_date(file: Group) -> tuple[str | None, list[str]]:
    """Day on which the session started, as ISO 8601, and a note where the file has a start time that is not one."""
    from nhdata.sources.nwb.tables import as_text

    return read_iso_date(as_text(file.get("session_start_time")), "session_start_time")
