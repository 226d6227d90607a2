"""NWB files on disk: find them, open them, and what every one says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN, existing, one_line

if TYPE_CHECKING:
    import h5py


def find_files(paths: Sequence[Path], pattern: str) -> Iterator[Path]:
    """Each file that is named or lies in a named folder at any depth, once.

    Parameters
    ----------
    paths : sequence of Path
    pattern : str
        Names that count within folders, e.g. ``"*.nwb"``; a file that is named itself need not match.

    Raises
    ------
    SourceError
        If a path does not exist, or a folder has no such file.
    """
    seen: set[Path] = set()
    for path in existing(paths):
        found = [path] if path.is_file() else sorted(path.rglob(pattern))
        if not found:
            raise SourceError(path, f"no {pattern} file in this folder", "name an NWB file or a folder of them")
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file


@contextmanager
def open_nwb(path: Path) -> Iterator[h5py.File]:
    """The open file; whatever HDF5 stumbles over becomes a SourceError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise SourceError(path, f"not a whole NWB (HDF5) file ({one_line(error)})", AGAIN) from error


def read_identifier(path: Path, file: h5py.File) -> str:
    """The file's ``identifier``. Raises SourceError if it has none."""
    from nhdata.sources.nwb.tables import as_text

    identifier = as_text(file.get("identifier"))
    if identifier is None:
        raise SourceError(path, "has no identifier, so it is no NWB 2 file", "write the file anew with an identifier")
    return identifier


def read_date(file: h5py.File) -> str | None:
    """Day on which the session started, as ISO 8601; None where the file does not say so."""
    from nhdata.sources.nwb.tables import as_text

    try:
        return datetime.fromisoformat(as_text(file.get("session_start_time")) or "").date().isoformat()
    except ValueError:
        return None
