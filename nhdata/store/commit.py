"""Put one encoded session into a store: staged, put in its place, committed."""

from __future__ import annotations

from nhcatalog.catalog import Catalog
from nhcatalog.place import Place
from nhdata.store.encode import Encoded
from nhdata.store.publish import create_store, publish, staged
from nhdata.store.rows import catalog_rows
from nhdata.store.session import Session
from nhdata.store.write import write_session


def add_session(root: Place, encoded: Encoded, *, replace: bool = False) -> str:
    """Write a session and name it in the catalog, making the store if it is not there.

    Interrupted at any instant, the session is in the store whole or not at all.

    Parameters
    ----------
    root : Path or Url
        The store.
    encoded : Encoded
    replace : bool
        Whether the session may be there already; the new one then takes its place in one step.

    Returns
    -------
    str
        The session's path in the store.

    Raises
    ------
    SessionExists
        If the session is there and `replace` is false.
    UserError
        If something else is at `root`, or a value does not fit the catalog.
    """
    create_store(root)
    with staged(root) as folder:
        write_session(folder, encoded)
        row, tables = catalog_rows(Session(folder))
        published = publish(root, folder, encoded.attributes)
    content_hash = encoded.attributes["content_hash"]
    Catalog(root / "catalog").add(
        row, tables, path=published.path, content_hash=content_hash, replace=replace, since=published.since
    )
    return published.path
