"""Put a written session in its place: by one rename on a disk, by an upload in an object store.

A session in its place does not exist yet for readers: it does once the catalog's log names it. So a writer killed at
any instant leaves at worst files that nobody reads, which `nhdata.store.sweep` removes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from nhcatalog.errors import UserError
from nhcatalog.files import Files, LocalFiles, has_hard_links
from nhcatalog.parallel import in_parallel
from nhcatalog.place import Place, Url
from nhcatalog.storage import open_files
from nhcatalog.vacuum import Elapsed
from nhdata.store.layout import STAGING, STORE_VERSION

UPLOADS_AT_ONCE = 8

_DOCUMENT = "zarr.json"


def root_attributes(root: Place) -> dict[str, Any] | None:
    """Attributes of the Zarr group at a place; None where there is none.

    Raises
    ------
    UserError
        If its document cannot be read.
    """
    files = open_files(root)
    try:
        document = json.loads(files.read(_DOCUMENT))
        return dict(document.get("attributes", {}))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{files.locate(_DOCUMENT)} is not a Zarr document", "name another path") from None


def is_store(root: Place) -> bool:
    """Whether a store of this version is at `root`.

    Raises
    ------
    UserError
        If one of another version is there, or another Zarr group.
    """
    attributes = root_attributes(root)
    if attributes is None:
        return False
    found = attributes.get("nhdata_store")
    if found != STORE_VERSION:
        raise UserError(
            f"{root} is not a store of version {STORE_VERSION} (found {found})",
            "open it with the version of neurohorizon that wrote it, or name another path",
        )
    return True


def check_place(root: Place) -> bool:
    """Whether a store is at `root`, where else one could be made; looks, and writes nothing.

    Raises
    ------
    UserError
        If something else is there.
    """
    if is_store(root):
        return True
    if isinstance(root, Path) and root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file", "name a new path for the store")
    ours = ("zarr.json", "sessions", "catalog")  # the first where another writer has made the store meanwhile
    if any(name not in ours and not name.startswith(".") for name in open_files(root).names("")):
        raise UserError(f"{root} is a folder with other things in it", "name a new path for the store")
    return False


def create_store(root: Place) -> None:
    """Make an empty store at `root`; a store that is there already is left as it is.

    Raises
    ------
    UserError
        If something else is there, or commits would not be safe there.
    """
    files = open_files(root)
    if not check_place(root):
        _create_group(files, "sessions")
        _create_group(files, "", nhdata_store=STORE_VERSION, store_id=uuid.uuid4().hex)
    if isinstance(root, Url):
        _check_put_if_absent(files)


def single_machine_note(root: Place) -> str | None:
    """A note if only one machine may write to the store at `root`, which need not exist yet; None otherwise.

    A file is written and removed again in the catalog's folder, or in the nearest folder above it that exists.
    """
    if isinstance(root, Url):
        return None
    folder = next(path for path in (root / "catalog", *(root / "catalog").parents) if path.is_dir())
    if has_hard_links(folder):
        return None
    return f"{root} is on a file system without hard links: only one machine at a time may write to this store"


def _create_group(files: Files, name: str, **attributes: Any) -> None:
    """An empty Zarr group, kept for good when this returns; several writers may make it at once, which zarr refuses."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    with suppress(FileExistsError):
        files.create(f"{name}/{_DOCUMENT}" if name else _DOCUMENT, json.dumps(document, indent=2).encode())


def _check_put_if_absent(files: Files) -> None:
    """Some servers ignore the condition of a put-if-absent and would lose commits: try it on what is there."""
    try:
        files.create(_DOCUMENT, files.read(_DOCUMENT))
    except FileExistsError:
        return
    raise UserError(
        f"{files.root}: this server writes over objects that it was told to leave alone (If-None-Match)",
        "keep the store where conditional writes are honoured, e.g. Amazon S3, MinIO or Ceph of today",
    )


@contextmanager
def staged(root: Place) -> Iterator[Path]:
    """A fresh folder for one session, removed at the end if it was not moved into place.

    It lies under ``sessions/.staging`` of a store on a disk, and in the system's temporary folder for one elsewhere.
    """
    if isinstance(root, Url):
        with tempfile.TemporaryDirectory(prefix="nhdata-") as temporary:
            yield Path(temporary, "session")
        return
    folder = root / "sessions" / STAGING / uuid.uuid4().hex
    folder.parent.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another writer may be staging
            folder.parent.rmdir()


class Published(NamedTuple):
    """Where a session was put, relative to the store, and the time since then."""

    path: str
    since: Elapsed


def publish(root: Place, folder: Path, attributes: dict[str, Any]) -> Published:
    """Put a staged session where the catalog will point.

    Raises
    ------
    UserError
        If an object store does not hold in the end what it was given.
    """
    parent = f"sessions/{attributes['source']}"
    if isinstance(root, Url):
        return _upload(root, folder, parent, attributes["session_id"])
    return _move(root, folder, parent, attributes)


def _move(root: Path, folder: Path, parent: str, attributes: dict[str, Any]) -> Published:
    """By one rename, to ``sessions/<source>/<session_id>``.

    Where that is taken, by an older version of the session that readers may hold open or by what a writer left that
    died before its commit, it is ``<session_id>.v2`` and so on. What is there is never named by a later commit: a
    sweep may be about to remove it.
    """
    sync_tree(folder)
    since = Elapsed()
    os.utime(folder)  # a sweep counts from here
    if not (root / parent / _DOCUMENT).exists():
        _create_group(LocalFiles(root), parent)
    for generation in range(1, 1_000_000):
        path = f"{parent}/{attributes['session_id']}" + (f".v{generation}" if generation > 1 else "")
        try:
            os.rename(folder, root / path)
        except OSError:
            if not (root / path).exists():
                raise
            continue
        sync(root / parent)
        return Published(path, since)
    raise AssertionError("a million versions of one session")


def _upload(root: Url, folder: Path, parent: str, session_id: str) -> Published:
    """To ``sessions/<source>/<session_id>.<16 random digits>``, where nobody else writes; its own document last."""
    from nhcatalog.objects import ObjectFiles

    files = ObjectFiles(root)
    path = f"{parent}/{session_id}.{uuid.uuid4().hex[:16]}"
    found = LocalFiles(folder).walk()
    in_parallel(
        lambda name: files.write(f"{path}/{name}", folder / name), found.keys() - {_DOCUMENT}, at_once=UPLOADS_AT_ONCE
    )
    _create_group(files, parent)
    since = Elapsed()
    files.write(f"{path}/{_DOCUMENT}", folder / _DOCUMENT)
    there = {name: stat.n_bytes for name, stat in files.walk(path).items()}
    if there != {f"{path}/{name}": stat.n_bytes for name, stat in found.items()}:
        raise UserError(f"{files.locate(path)}: not all that was written is there", "ingest the session again")
    return Published(path, since)


def sync_tree(folder: Path) -> None:
    """Make a folder and all in it survive a power cut; many files are synced at once, which a disk does in one go."""
    paths = [Path(parent, name) for parent, _, files in os.walk(folder) for name in (*files, "")]
    in_parallel(sync, paths)


def sync(path: Path) -> None:
    """fsync one file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
