"""Files from outside: read arrays without trusting them, record what was read, make safe names."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from nhdata.recording import SourceFile
from nhdata.sources import SourceError

AGAIN = "copy or download it again"

READ_HEADER = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_npy(path: Path, *, n_columns: int | None = None, kinds: str = "iuf") -> NDArray[Any]:
    """Memory-map a ``.npy`` file of plain numbers; never unpickle.

    The header's shape is compared with the size of the file before anything is allocated.

    Parameters
    ----------
    path : Path
    n_columns : int or None
        Columns of a two-dimensional array; None for one dimension, where (n, 1) is read as (n,).
    kinds : str
        Kinds of dtype that are accepted, as in ``numpy.dtype.kind``.

    Returns
    -------
    (n,) or (n, n_columns) array, read-only

    Raises
    ------
    SourceError
        If the file is missing, truncated, damaged, holds Python objects or is of another shape or kind.
    """
    if not path.is_file():
        raise SourceError(path, "no such file", AGAIN)
    try:
        with path.open("rb") as file:
            read_header = READ_HEADER[npy_format.read_magic(file)]
            shape, fortran, dtype = read_header(file)
            start = file.tell()
            n_bytes = file.seek(0, 2) - start
    except Exception as error:  # a hostile header raises nearly anything
        raise SourceError(path, f"not a readable .npy file ({one_line(error)})", AGAIN) from error
    if dtype.hasobject:
        raise SourceError(path, "holds Python objects", "export it again as numbers, without allow_pickle")
    if dtype.kind not in kinds:
        raise SourceError(path, f"holds {dtype}, not the numbers expected here", "export it again")
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != n_bytes:
        raise SourceError(path, f"truncated or damaged: {n_bytes} bytes of data for shape {shape}", AGAIN)
    rows = shape[0] if shape else -1
    if shape not in ([(rows,), (rows, 1)] if n_columns is None else [(rows, n_columns)]):
        wanted = "(n,)" if n_columns is None else f"(n, {n_columns})"
        raise SourceError(path, f"has shape {shape}, not {wanted}", "export it again")
    final = (rows,) if n_columns is None else (rows, n_columns)
    if n_bytes == 0:
        return np.empty(final, dtype)
    mapped = np.memmap(path, dtype, "r", offset=start, shape=shape, order="F" if fortran else "C")
    return np.asarray(mapped).reshape(final)


def one_line(error: Exception) -> str:
    """An error's own words, on one line."""
    return " ".join(str(error).split())


class FileHash(NamedTuple):
    """The SHA-256 of a file, with its size and time of change from before it was hashed."""

    sha256: str
    n_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> FileHash:
        """Hash a file."""
        stat = path.stat()
        return cls(sha256(path), stat.st_size, stat.st_mtime_ns)

    def is_of(self, path: Path) -> bool:
        """Whether a file has the size and the time of change of the one that was hashed."""
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.n_bytes, self.changed_ns)


def describe_files(
    paths: Iterable[Path], folder: Path, hashed: Mapping[Path, FileHash] | None = None
) -> tuple[SourceFile, ...]:
    """Size and SHA-256 of each file, by name relative to `folder`, sorted and without repeats.

    A folder (of Zarr) counts as one file: the sizes of all in it, and a hash of their names, sizes and hashes. A file
    in `hashed` is not hashed again.
    """
    hashed = hashed or {}
    return tuple(
        SourceFile(path.relative_to(folder).as_posix(), hashed[path].n_bytes, hashed[path].sha256)
        if path in hashed
        else _describe(path, folder)
        for path in sorted(set(paths))
    )


def _describe(path: Path, folder: Path) -> SourceFile:
    name = path.relative_to(folder).as_posix()
    if not path.is_dir():
        return SourceFile(name, path.stat().st_size, sha256(path))
    inside = describe_files((p for p in path.rglob("*") if p.is_file()), path)
    lines = "".join(f"{file.name} {file.size} {file.sha256}\n" for file in inside)
    return SourceFile(name, sum(file.size for file in inside), hashlib.sha256(lines.encode()).hexdigest())


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_id(text: str, max_chars: int = 100) -> str:
    """`text` itself where it is safe as a folder name, else a slug of it and 8 hex digits of its SHA-256.

    Safe means letters, digits, ``.``, ``_`` and ``-`` only, no leading dot or dash, at most `max_chars` characters,
    and not the name of Zarr's own file.
    """
    if len(text) <= max_chars and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", text) and text != "zarr.json":
        return text
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[: max_chars - 9] or "session"
    return f"{slug}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def existing(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths, absolute. Raises SourceError at one that does not exist."""
    for path in paths:
        here = Path(os.path.expanduser(path))
        if not here.exists():
            raise SourceError(path, "no such file or folder", "check the path")
        yield here.resolve()
