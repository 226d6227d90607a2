"""Make a store's catalog anew from its sessions, which are the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nhcatalog.errors import UserError
from nhcatalog.log import CatalogError
from nhcatalog.place import AnyPlace, Place
from nhcatalog.rebuild import Session as Rows
from nhcatalog.storage import open_files
from nhdata.store.layout import STAGING
from nhdata.store.rows import catalog_rows
from nhdata.store.session import Session
from nhdata.store.store import checked_store, open_catalog


def rebuild_catalog(
    path: AnyPlace, on_session: Callable[[str, int], None] = lambda path, n: None
) -> tuple[int, dict[str, str]]:
    """Read every session's own group and put the catalog's rows of it in the place of what the catalog says.

    Where the catalog can be read, its sessions are kept as they are, those removed stay removed, and sessions that it
    never named are added: their log entries were lost, or their writer died before it created one. Where it cannot be
    read, all sessions in the store are taken; of two with one id the one that was put in place last.

    Parameters
    ----------
    path : path, Url or str
        The store.
    on_session : callable
        Told each session's path and how many there are.

    Returns
    -------
    position : int
        The new log position. Earlier ones are forgotten.
    failed : dict of path to error
        Sessions that cannot be read; they are not in the catalog now.

    Raises
    ------
    UserError
        If there is no store, or another process changes the catalog meanwhile; the catalog is as it was then.
    """
    root = checked_store(path)
    catalog = open_catalog(path)
    try:
        entries = dict(catalog.snapshot().entries)
        ever, named = set(catalog.log()["session_id"].to_pylist()), catalog.paths()
    except CatalogError:
        entries, ever, named = {}, set(), set()
    ingested_at = {entry.path: entry.session["ingested_at"] for entry in entries.values()}
    paths = [*sorted(ingested_at), *(group for group in _groups(root) if group not in named)]
    failed: dict[str, str] = {}

    def rows() -> Iterator[Rows]:
        newest: dict[str, str] = {}
        for group in paths:
            session = _session(root, group, failed)
            if session is not None and (group in ingested_at or session.session_id not in ever):
                newest[session.session_id] = group
        for group in newest.values():
            on_session(group, len(newest))
            session = _session(root, group, failed)
            if session is not None:
                try:
                    row, tables = catalog_rows(session)
                except Exception as error:  # whatever a damaged file makes a reader raise
                    failed[group] = _one_line(error)
                    continue
                known = {"path": group, "content_hash": session.attrs["content_hash"]}
                yield {**row, **known, "ingested_at": ingested_at.get(group)}, tables

    made = catalog.rebuild(rows(), removed=sorted(ever - entries.keys()))
    return made.position, failed


def _groups(root: Place) -> list[str]:
    """Paths of all session groups, the oldest first."""
    files = open_files(root)
    found = {
        name.removesuffix("/zarr.json"): stat.modified_s
        for name, stat in files.walk("sessions").items()
        if name.endswith("/zarr.json") and len(name.split("/")) == 4 and name.split("/")[1] != STAGING
    }
    return sorted(found, key=lambda path: (found[path], len(path), path))


def _session(root: Place, path: str, failed: dict[str, str]) -> Session | None:
    try:
        return Session(root / path)
    except UserError as error:
        failed[path] = str(error)
    except Exception as error:  # whatever a damaged file makes a reader raise
        failed[path] = _one_line(error)
    return None


def _one_line(error: Any) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
