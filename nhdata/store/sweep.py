"""Remove what writers left when they died."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.files import open_files
from nhcatalog.parallel import in_parallel
from nhcatalog.place import AnyPlace, Place, Url, to_place
from nhdata.store.layout import STAGING

GRACE_S = 3600.0


def leftovers(path: AnyPlace, grace_s: float = GRACE_S) -> list[Place]:
    """What a writer left when it died: staged, or put in its place and never committed.

    Parameters
    ----------
    path : path, Url or str
        The store.
    grace_s : float
        Younger ones may belong to a writer at work, and are not listed.

    Returns
    -------
    list of Path or Url
        Sessions or parts of them; never one that any position of the log names.
    """
    root = to_place(path)
    written_s = _in_bucket(root) if isinstance(root, Url) else _on_disk(root)
    named = Catalog(root / "catalog").paths()  # after the look at what is there: who commits meanwhile is named
    oldest_s = time.time() - grace_s
    return [root / name for name, last_s in sorted(written_s.items()) if name not in named and last_s <= oldest_s]


def sweep(path: AnyPlace, grace_s: float = GRACE_S) -> list[Place]:
    """Remove the `leftovers`; returns what was removed.

    Raises
    ------
    UserError
        If no position of the log names a session and there are some: a catalog that was lost looks the same.
    """
    removed = leftovers(path, grace_s)
    whole = [place for place in removed if f"/sessions/{STAGING}/" not in str(place)]
    if whole and not Catalog(to_place(path) / "catalog").paths():
        raise UserError(
            f"{path}: the catalog names no session, but {len(whole)} lie there, {whole[0]} among them",
            "if the catalog was lost, 'nhdata catalog rebuild' takes them back; nothing was removed",
        )
    for place in removed:
        if isinstance(place, Url):
            files = open_files(place)
            in_parallel(files.delete, files.walk())
        else:
            shutil.rmtree(place)
            if place.parent.name == STAGING:
                with suppress(OSError):  # another writer may be staging
                    place.parent.rmdir()
    return removed


def _on_disk(root: Path) -> dict[str, float]:
    """When each folder of a session was made, by path relative to the store."""
    folders = (p for p in (root / "sessions").glob("*/*") if p.is_dir() or p.parent.name == STAGING)
    return {p.relative_to(root).as_posix(): p.stat().st_mtime for p in folders}


def _in_bucket(root: Url) -> dict[str, float]:
    """When the last object of each session was written, by path relative to the store."""
    written_s: dict[str, float] = defaultdict(float)
    for name, stat in open_files(root).walk("sessions").items():
        parts = name.split("/")
        if len(parts) > 3:  # sessions/<source>/<session>/…
            path = "/".join(parts[:3])
            written_s[path] = max(written_s[path], stat.modified_s)
    return written_s
