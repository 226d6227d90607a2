"""Files in an object store: whole objects, put-if-absent, and copies on this machine of what is read."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from nhcatalog.bucket import explained, open_bucket
from nhcatalog.cache import default_cache
from nhcatalog.files import Stat
from nhcatalog.parallel import in_parallel
from nhcatalog.place import Place, Url

PIECE_BYTES = 8 * 2**20
"""Larger objects are read and written in pieces of this size, several at once."""

LIST_FROM = 4
"""To learn the versions of more files than this of one folder, the folder is listed."""

_WRITER = "nhdata-writer"


class _Version(NamedTuple):
    e_tag: str
    n_bytes: int


class ObjectFiles:
    """`nhcatalog.files.Files` below one address of an object store, by obstore.

    Credentials, region and endpoint are those of the usual ``AWS_…`` environment variables, or of boto3's
    configuration files; where there are none, requests are not signed, as public buckets want them. Every method raises
    UserError, with one line, if the bucket is not there, access is denied or nobody answers. May be pickled.

    Parameters
    ----------
    root : Url
    """

    def __init__(self, root: Url) -> None:
        self.root: Place = root
        self._url = root
        self._versions: dict[str, _Version] = {}

    def __getstate__(self) -> Url:
        return self._url

    def __setstate__(self, root: Url) -> None:
        self.__init__(root)  # type: ignore[misc]

    def locate(self, name: str) -> str:
        return str(self._url / name)

    def local(self, name: str) -> str:
        return str(self._copy(name) or self._make_copy(name))

    def fetch(self, names: Iterable[str]) -> None:
        def fetch_one(name: str) -> None:
            with suppress(FileNotFoundError):
                self._make_copy(name)

        names = list(names)
        unknown = Counter(name.rpartition("/")[0] for name in names if name not in self._versions)
        for folder, n_unknown in unknown.items():
            if n_unknown > LIST_FROM:
                self.sizes(folder)
        in_parallel(fetch_one, [name for name in names if self._copy(name) is None])

    def names(self, folder: str) -> list[str]:
        files, folders = self._list(folder)
        return [name.rpartition("/")[2] for name in (*files, *folders)]

    def sizes(self, folder: str) -> dict[str, int]:
        return {name: one["size"] for name, one in self._list(folder)[0].items()}

    def walk(self, folder: str = "") -> dict[str, Stat]:
        with explained(self._url / folder):
            found = obstore.list(self._store, self._url.key_of(folder) or None).collect()
        kept = self._keep(found)
        return {name: Stat(one["size"], one["last_modified"].timestamp()) for name, one in kept.items()}

    def read(self, name: str) -> bytes:
        version = self._versions.get(name)
        if version is not None:
            with open(self.local(name), "rb") as file:
                return file.read()
        with explained(self._url / name):
            return bytes(obstore.get(self._store, self._url.key_of(name)).bytes())

    def write(self, name: str, content: bytes | Path) -> None:
        """As `Files.write`; a Path is a file of this machine to be copied."""
        with explained(self._url / name):
            obstore.put(self._store, self._url.key_of(name), content, chunk_size=PIECE_BYTES, max_concurrency=2)

    def create(self, name: str, content: bytes) -> None:
        key, writer = self._url.key_of(name), uuid.uuid4().hex
        with explained(self._url / name):
            try:
                obstore.put(self._store, key, content, mode="create", attributes={_WRITER: writer})
            except AlreadyExistsError:
                # A request may be repeated whose answer was lost, and then meet the object that it made itself.
                if self._writer(key) != writer:
                    raise FileExistsError(self.locate(name)) from None

    def delete(self, name: str) -> None:
        with explained(self._url / name):
            obstore.delete(self._store, self._url.key_of(name))

    def _writer(self, key: str) -> str | None:
        try:
            found = obstore.get(self._store, key, options={"head": True}).attributes.get(_WRITER)
        except FileNotFoundError:
            return None
        return None if found is None else str(found)

    def _copy(self, name: str) -> Path | None:
        """The copy of a file of known version."""
        version = self._versions.get(name)
        return None if version is None else default_cache().find(self.locate(name), *version)

    def _make_copy(self, name: str) -> Path:
        version = self._version(name)
        return default_cache().add(self.locate(name), *version, fetch=lambda: self._get(name, version))

    def _get(self, name: str, version: _Version) -> bytes:
        """The object, if it still is of that version."""
        pieces = [
            (start, min(start + PIECE_BYTES, version.n_bytes)) for start in range(0, version.n_bytes, PIECE_BYTES)
        ]
        if len(pieces) < 2:
            return self._get_piece(name, version, None)
        return b"".join(in_parallel(lambda piece: self._get_piece(name, version, piece), pieces))

    def _get_piece(self, name: str, version: _Version, piece: tuple[int, int] | None) -> bytes:
        options: obstore.GetOptions = {}
        if version.e_tag:
            options["if_match"] = version.e_tag
        if piece:
            options["range"] = piece
        with explained(self._url / name):
            return bytes(obstore.get(self._store, self._url.key_of(name), options=options).bytes())

    def _version(self, name: str) -> _Version:
        if name not in self._versions:
            with explained(self._url / name):
                found = obstore.head(self._store, self._url.key_of(name))
            self._versions[name] = _Version(found["e_tag"] or "", found["size"])
        return self._versions[name]

    def _list(self, folder: str) -> tuple[dict[str, obstore.ObjectMeta], list[str]]:
        """Files and folders of a folder, by name."""
        with explained(self._url / folder):
            found = obstore.list_with_delimiter(self._store, self._url.key_of(folder))
        return self._keep(found["objects"]), [self._name(key) for key in found["common_prefixes"]]

    def _keep(self, found: Sequence[obstore.ObjectMeta]) -> dict[str, obstore.ObjectMeta]:
        """By name; what is known of them is remembered. Without the empty objects ``folder/`` that some tools make."""
        empty = {one["path"] for one in found if not one["size"]}
        folders = {parent for one in found for parent in _parents(one["path"]) if parent in empty} if empty else set()
        kept = {self._name(one["path"]): one for one in found if one["path"] not in folders}
        self._versions |= {name: _Version(one["e_tag"] or "", one["size"]) for name, one in kept.items()}
        return kept

    def _name(self, key: str) -> str:
        return key[len(self._url.key) + 1 :] if self._url.key else key

    @property
    def _store(self) -> S3Store:
        return open_bucket(self._url.bucket)


def _parents(key: str) -> Iterator[str]:
    """The folders above a key."""
    at = key.find("/")
    while at >= 0:
        yield key[:at]
        at = key.find("/", at + 1)
