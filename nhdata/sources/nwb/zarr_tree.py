"""NWB-Zarr (Zarr v2 as hdmf-zarr writes it), with as much of h5py's manners as the readers of NWB need.

The folder's metadata and chunks are read here, not by zarr: an array may name any codec, the unpickling one among
them, and hdmf-zarr uses that for references. Nothing is decoded but by the codecs in `CODECS`; columns of references
count as unreadable, as in any column of objects that is not text.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
from numpy.typing import NDArray

from nhdata.sources import SourceError
from nhdata.sources._files import AGAIN, one_line
from nhdata.sources._http import Http, NotFound

CODECS = frozenset({"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta", "fixedscaleoffset"})
MAX_CHUNK_BYTES = 1 << 30
MAX_REMOTE_BYTES = 1 << 23
"""Bytes that an array on a web server, which lists none, is taken to have: room for 8 GiB of values."""
DOCUMENTS = (".zgroup", ".zarray", ".zattrs")

Read = Callable[[str], bytes | None]
"""Bytes by their key in the folder; None where there are none."""


class ZarrGroup:
    """A group: its members by name or path, its attributes, and where it lies."""

    def __init__(self, tree: ZarrTree, path: str) -> None:
        self.file, self.path, self.name = tree, path, f"/{path}"
        self.attrs: dict[str, Any] = tree.document(path, ".zattrs")

    @property
    def filename(self) -> str:
        return self.file.filename

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        return self.file.members(self)

    def __contains__(self, path: str) -> bool:
        return self.get(path) is not None

    def __getitem__(self, path: str) -> ZarrGroup | ZarrDataset:
        member = self.get(path)
        if member is None:
            raise KeyError(f"{self.name} has no {path}")
        return member  # type: ignore[no-any-return]

    def get(self, path: str, default: Any = None) -> Any:
        node: Any = self
        for part in path.strip("/").split("/"):
            node = node.file.member(node, part) if isinstance(node, ZarrGroup) else None
        return default if node is None else node

    def items(self) -> Iterator[tuple[str, Any]]:
        found = ((name, self.get(name)) for name in self.keys())
        return ((name, member) for name, member in found if member is not None)


class ZarrTree(ZarrGroup):
    """The whole file.

    Parameters
    ----------
    filename : str
        For messages.
    read : callable
    documents : mapping
        Metadata by key, e.g. ``{"units/.zgroup": {...}}``.
    stored_bytes : callable
        How many bytes an array takes, by its path.
    """

    def __init__(
        self, filename: str, read: Read, documents: dict[str, Any], stored_bytes: Callable[[str], int]
    ) -> None:
        self._filename, self.read, self._documents, self.stored_bytes = filename, read, documents, stored_bytes
        self._names: dict[str, list[str]] = {}
        for key in documents:
            path, _, kind = key.rpartition("/")
            if kind in (".zgroup", ".zarray") and path:
                parent, _, name = path.rpartition("/")
                self._names.setdefault(parent, []).append(name)
        super().__init__(self, "")

    @property
    def filename(self) -> str:
        return self._filename

    def document(self, path: str, kind: str) -> dict[str, Any]:
        found = self._documents.get(f"{path}/{kind}".lstrip("/"), {})
        return found if isinstance(found, dict) else {}

    def members(self, group: ZarrGroup) -> list[str]:
        return sorted({*self._names.get(group.path, ()), *self._links(group)})

    def member(self, group: ZarrGroup, name: str) -> ZarrGroup | ZarrDataset | None:
        path = f"{group.path}/{name}".lstrip("/")
        if path not in (known := self._links(group)) and name in known:
            path = known[name]
        if self.document(path, ".zarray"):
            return ZarrDataset(self, path)
        return ZarrGroup(self, path) if self.document(path, ".zgroup") else None

    def _links(self, group: ZarrGroup) -> dict[str, str]:
        """Members that lie elsewhere in this same file; those in other files are not followed."""
        links = group.attrs.get("zarr_link", [])
        return {
            str(link["name"]): str(link["path"]).strip("/")
            for link in (links if isinstance(links, list) else [])
            if isinstance(link, dict) and link.get("source") == "." and {"name", "path"} <= link.keys()
        }


class ZarrDataset:
    """An array that is not read yet; text has the dtype that h5py gives to text."""

    def __init__(self, tree: ZarrTree, path: str) -> None:
        self.file, self.path, self.name = tree, path, f"/{path}"
        self.attrs = tree.document(path, ".zattrs")
        meta = tree.document(path, ".zarray")
        try:
            self._shape = tuple(int(n) for n in meta["shape"])
            self.chunks = tuple(int(n) for n in meta["chunks"])
            self.codecs = [codec for codec in [*(meta.get("filters") or []), meta.get("compressor")] if codec]
            names = [codec["id"] for codec in self.codecs]
            self.is_text = meta["dtype"] == "|O" and names[:1] in (["vlen-utf8"], ["vlen-bytes"])
            self.is_known = CODECS.issuperset(names[1:] if self.is_text else names)
            self.stored = _dtype(meta["dtype"])
            self.fill, self.order = meta.get("fill_value"), str(meta.get("order", "C"))
            self.separator = str(meta.get("dimension_separator", "."))
            sound = len(self.chunks) == len(self._shape) and min((*self._shape, 0)) >= 0 and min(self.chunks) > 0
        except (KeyError, TypeError, ValueError) as error:
            raise self._fail(f"has no sound description ({one_line(error)})") from None
        if not sound or math.prod(self.chunks) * self.stored.itemsize > MAX_CHUNK_BYTES:
            raise self._fail(f"has shape {self._shape} in chunks of {self.chunks}")

    def _fail(self, problem: str) -> SourceError:
        return SourceError(self.file.filename, f"{self.name} {problem}", "write the file anew, or copy it again")

    @property
    def shape(self) -> tuple[int, ...]:
        return () if self.attrs.get("zarr_dtype") == "scalar" and self._shape == (1,) else self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        if self.is_text:
            return h5py.string_dtype()  # type: ignore[no-any-return]
        return self.stored if self.is_known and not self.stored.hasobject else np.dtype(object)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.stored.itemsize

    @property
    def stored_bytes(self) -> int:
        return self.file.stored_bytes(self.path)

    def __len__(self) -> int:
        return self.shape[0]

    def asstr(self, errors: str = "strict") -> ZarrDataset:
        return self

    def __getitem__(self, rows: Any) -> Any:
        """All of a scalar with ``()``, else a slice of rows."""
        if self.dtype == object and not self.is_text:
            raise self._fail("is encoded in a way that is not read here")
        start, stop, _ = (slice(None) if rows == () else rows).indices(self._shape[0])
        values = np.empty((max(stop - start, 0), *self._shape[1:]), self.stored)
        first, last = start // self.chunks[0], -(-stop // self.chunks[0])
        counts = [-(-n // step) for n, step in zip(self._shape[1:], self.chunks[1:], strict=True)]
        origin = (start, *(0 for _ in counts))
        for at in itertools.product(range(first, last), *map(range, counts)):
            low = [k * step for k, step in zip(at, self.chunks, strict=True)]
            high = [min(k + step, n) for k, step, n in zip(low, self.chunks, self._shape, strict=True)]
            begin, end = [max(low[0], start), *low[1:]], [min(high[0], stop), *high[1:]]
            here = tuple(slice(b - o, e - o) for b, e, o in zip(begin, end, origin, strict=True))
            there = tuple(slice(b - k, e - k) for b, e, k in zip(begin, end, low, strict=True))
            values[here] = self._chunk(at)[there]
        if self.is_text:
            values[...] = [_words(value) for value in values.ravel()]
        return values[0] if rows == () else values

    def _chunk(self, at: tuple[int, ...]) -> NDArray[Any]:
        data: Any = self.file.read(f"{self.path}/{self.separator.join(map(str, at))}")
        if data is None:  # never written: the fill value, which stands for nothing where it is null
            if self.fill is None:
                raise self._fail(f"lacks the chunk {at}")
            return np.full(self.chunks, "" if self.is_text else self.fill, self.stored)
        try:
            for codec in reversed(self.codecs):
                data = numcodecs.get_codec(codec).decode(data)
            flat = data if self.is_text else np.frombuffer(data, self.stored)
            return np.asarray(flat, self.stored).reshape(self.chunks, order="F" if self.order == "F" else "C")
        except Exception as error:  # whatever damaged bytes make a codec raise
            raise self._fail(f"has a damaged chunk {at} ({one_line(error)})") from None


def _dtype(name: Any) -> np.dtype[Any]:
    """The dtype of numbers and of text of fixed length; everything else, structured dtypes too, counts as objects."""
    try:
        dtype = np.dtype(name) if isinstance(name, str) else np.dtype(object)
    except TypeError:
        return np.dtype(object)
    return dtype if dtype.kind in "biufU" else np.dtype(object)


def _words(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def is_zarr(path: Path) -> bool:
    """Whether a folder is the root of a Zarr v2 hierarchy."""
    return (path / ".zgroup").is_file()


def open_folder(folder: Path) -> ZarrTree:
    """NWB-Zarr on this machine. Raises SourceError if its metadata are no JSON."""
    root = folder.resolve()

    def read(key: str) -> bytes | None:
        place = (root / key).resolve()
        return place.read_bytes() if place.is_relative_to(root) and place.is_file() else None

    documents = {}
    for kind in DOCUMENTS:
        for file in root.rglob(kind):
            key = file.relative_to(root).as_posix()
            documents[key] = _json(str(file), read(key))

    def stored_bytes(path: str) -> int:
        return sum(file.stat().st_size for file in (root / path).rglob("*") if file.is_file())

    return ZarrTree(str(folder), read, documents, stored_bytes)


def open_url(url: str, http: Http) -> ZarrTree:
    """NWB-Zarr on a web server; its consolidated metadata stand in for a listing, which a web server lacks.

    Raises
    ------
    NetworkError
        If the server cannot be reached or has no consolidated metadata there.
    """
    root = url.rstrip("/")

    def read(key: str) -> bytes | None:
        try:
            return http.read(f"{root}/{key}")
        except NotFound:
            return None

    whole = _json(f"{root}/.zmetadata", http.read(f"{root}/.zmetadata"))
    documents = whole.get("metadata")
    if not isinstance(documents, dict):
        raise SourceError(f"{root}/.zmetadata", "holds no consolidated metadata", "write the file anew with hdmf-zarr")
    return ZarrTree(url, read, documents, lambda path: MAX_REMOTE_BYTES)


def _json(place: str, data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
        if isinstance(found, dict):
            return found
        raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise SourceError(place, f"is no sound JSON ({one_line(error)})", AGAIN) from None
