"""Remove what writers left when they died."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.parallel import in_parallel
from nhcatalog.place import AnyPlace, Place, Url, to_place
from nhcatalog.storage import open_files
from nhdata.store.layout import STAGING
from nhdata.store.publish import root_attributes

GRACE_S = 3600.0


class Unclaimed(NamedTuple):
    """What lies in a store and is named by no position of its log.

    Attributes
    ----------
    leftovers : list of Path or Url
        What a writer left when it died and nobody misses: staged, in part, or of a session that was committed
        otherwise.
    unnamed : list of Path or Url
        Whole sessions whose ids the log never names. A writer that died just before its commit leaves one; a catalog
        that was lost, in part or altogether, leaves many. Nothing tells the two apart, so they are never swept.
        Ingested again, a session is in the catalog, and what was left of it becomes a leftover.
    """

    leftovers: list[Place]
    unnamed: list[Place]


def unclaimed(path: AnyPlace, grace_s: float = GRACE_S) -> Unclaimed:
    """Look for what the log does not name; reads only.

    Parameters
    ----------
    path : path, Url or str
        The store.
    grace_s : float
        What is younger may belong to a writer at work, and is not listed.
    """
    root = to_place(path)
    written_s = _in_bucket(root) if isinstance(root, Url) else _on_disk(root)
    catalog = Catalog(root / "catalog")
    # after the look at what is there: who commits meanwhile is named
    paths, session_ids = catalog.paths(), set(catalog.log()["session_id"].to_pylist())
    oldest_s = time.time() - grace_s
    found = Unclaimed([], [])
    for name, last_s in sorted(written_s.items()):
        if name not in paths and last_s <= oldest_s:
            nobodys = _session_id(root, name) in {None, *session_ids}
            (found.leftovers if nobodys else found.unnamed).append(root / name)
    return found


def sweep(path: AnyPlace, grace_s: float = GRACE_S) -> Unclaimed:
    """Remove the leftovers of a store, and nothing else; returns what was found.

    A session that is committed meanwhile is not removed: a log entry that changes nothing (a fence) makes the commit of
    a paused writer fail, and the catalog is read again after it.
    """
    found = unclaimed(path, grace_s)
    root = to_place(path)
    if any(place.parent != root / "sessions" / STAGING for place in found.leftovers if isinstance(place, Path)) or any(
        isinstance(place, Url) for place in found.leftovers
    ):
        catalog = Catalog(root / "catalog")
        catalog.fence()
        named = {root / name for name in catalog.paths()}
        found = found._replace(leftovers=[place for place in found.leftovers if place not in named])
    for place in found.leftovers:
        if isinstance(place, Url):
            files = open_files(place)
            in_parallel(files.delete, files.walk())
        else:
            shutil.rmtree(place)
            if place.parent.name == STAGING:
                with suppress(OSError):  # another writer may be staging
                    place.parent.rmdir()
    return found


def _session_id(root: Place, name: str) -> str | None:
    """Which session lies whole at a path; None of one that is staged, or was uploaded in part."""
    if name.split("/")[1] == STAGING:
        return None
    try:
        attributes = root_attributes(root / name)
    except UserError:
        return ""  # whole or not, nobody can say
    return None if attributes is None else str(attributes.get("session_id", ""))


def _on_disk(root: Path) -> dict[str, float]:
    """When each folder of a session was made, by path relative to the store."""
    folders = (p for p in (root / "sessions").glob("*/*") if p.is_dir() or p.parent.name == STAGING)
    return {p.relative_to(root).as_posix(): _last_change(p) for p in folders}


def _last_change(folder: Path) -> float:
    """When a session was put in its place, or anything was written below a folder that is staged."""
    paths = [folder, *folder.rglob("*")] if folder.parent.name == STAGING else [folder]
    changed_s = 0.0
    for path in paths:
        with suppress(FileNotFoundError):  # moved into place meanwhile
            changed_s = max(changed_s, path.stat().st_mtime)
    return changed_s or time.time()


def _in_bucket(root: Url) -> dict[str, float]:
    """When the last object of each session was written, by path relative to the store."""
    written_s: dict[str, float] = defaultdict(float)
    for name, stat in open_files(root).walk("sessions").items():
        parts = name.split("/")
        if len(parts) > 3:  # sessions/<source>/<session>/…
            path = "/".join(parts[:3])
            written_s[path] = max(written_s[path], stat.modified_s)
    return written_s
