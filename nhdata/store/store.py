"""A store: sessions on disk, and the catalog that says which of them exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nhcatalog.catalog import Catalog
from nhcatalog.errors import UserError
from nhcatalog.place import AnyPlace, Place, to_place
from nhcatalog.snapshot import Snapshot
from nhdata.store.html import heading, table
from nhdata.store.publish import is_store

if TYPE_CHECKING:
    import pyarrow as pa

    from nhdata.store.session import Session

SHOWN_SESSIONS = 20


class Store:
    """Read-only view of a store, pinned to one position of its catalog's log.

    What is committed after `open` is seen by `refresh`, or by opening the store again. Opening and reading
    never write. A Store may be pickled: it travels as its path and position.
    """

    def __init__(self, path: Place, at: int | None = None) -> None:
        self.path = path
        self.catalog = Catalog(path / "catalog")
        self.snapshot: Snapshot = self.catalog.snapshot(at)

    def __repr__(self) -> str:
        return f"<Store {self.path}: {len(self.snapshot.entries)} sessions at log position {self.position}>"

    def _repr_html_(self) -> str:
        totals, sessions = (
            self._totals(),
            self.sql(f"FROM session_summary() ORDER BY session_id LIMIT {SHOWN_SESSIONS}"),
        )
        more = totals["sessions"] - len(sessions)
        return (
            heading(f"Store {self.path}", {**totals, "log position": self.position})
            + table(sessions.column_names, zip(*(c.to_pylist() for c in sessions.columns), strict=True))
            + (f"<p>and {more} more</p>" if more else "")
        )

    def _totals(self) -> dict[str, Any]:
        (row,) = self.sql(
            "SELECT count(*) AS sessions, coalesce(sum(n_units), 0) AS units, "
            "coalesce(sum(n_spikes), 0) AS spikes, round(coalesce(sum(duration_s), 0) / 3600, 2) AS hours "
            "FROM sessions"
        ).to_pylist()
        return dict(row)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "snapshot": self.snapshot}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore without reading anything; the catalog is read on first use."""
        self.path, self.snapshot = state["path"], state["snapshot"]
        self.catalog = Catalog(self.path / "catalog")

    @property
    def position(self) -> int:
        """Log position that this view is pinned to; 0 is an empty store."""
        return self.snapshot.position

    @property
    def session_ids(self) -> list[str]:
        """All sessions, sorted."""
        return sorted(self.snapshot.entries)

    def refresh(self) -> None:
        """Move to the newest position of the log, also of a store that was made again at the same path."""
        self.catalog = Catalog(self.path / "catalog")
        self.snapshot = self.catalog.snapshot()

    def sql(self, query: str, params: list[Any] | dict[str, Any] | None = None) -> pa.Table:
        """Run one SELECT over ``sessions``, ``units``, ``unit_features`` and ``intervals``.

        Parameters
        ----------
        query : str
            DuckDB SQL, exactly one SELECT.
        params : list or dict, optional
            Values for ``?`` or ``$name`` in the query.

        Returns
        -------
        pyarrow.Table
            ``.to_pandas()`` gives a data frame.

        Raises
        ------
        UserError
            If the query is not one SELECT, names what is not there, or reaches outside the catalog.
        """
        return self.snapshot.sql(query, params)

    def session(self, session_id: str) -> Session:
        """The session of that id.

        Raises
        ------
        UserError
            If the store has no such session, or it has other content than the catalog says.
        """
        entry = self.snapshot.entries.get(session_id)
        if entry is None:
            raise UserError(f"{self.path} has no session {session_id!r}", "list them with 'nhdata ls'")
        from nhdata.store.session import Session  # zarr, for those who read arrays

        session = Session(self.path / entry.path)
        if session.attrs.get("content_hash") != entry.content_hash:
            problem = f"{session.path}: has other content than at log position {self.position}"
            raise UserError(problem, "the store was made again, or is damaged: open it again, then 'nhdata validate'")
        return session

    def match(self, text: str) -> str:
        """The id of the one session whose id is `text` or starts with it.

        Raises
        ------
        UserError
            If no session's id does, or that of several.
        """
        if text in self.snapshot.entries:
            return text
        found = [session_id for session_id in self.session_ids if text and session_id.startswith(text)]
        if len(found) > 1:
            raise UserError(f"{len(found)} sessions of {self.path} start with {text!r}", "give more of the id")
        if not found:
            raise UserError(f"{self.path} has no session {text!r}", "list them with 'nhdata ls'")
        return found[0]


def open_store(path: AnyPlace, at: int | None = None) -> Store:
    """Open a store for reading; also known as ``nhdata.open``.

    Parameters
    ----------
    path : path, Url or str
        The store's folder, e.g. ``"data.zarr"``, or its address, e.g. ``"s3://lab/data.zarr"``.
    at : int, optional
        Log position to read at; the newest by default.

    Raises
    ------
    UserError
        If there is no store at `path`, it is of another version, or `at` lies outside its log.
    """
    return Store(checked_store(path), at)


def open_catalog(path: AnyPlace) -> Catalog:
    """The catalog of a store, to look after; also where it is damaged and `open_store` fails.

    Raises
    ------
    UserError
        If there is no store at `path`, or it is of another version.
    """
    return Catalog(checked_store(path) / "catalog")


def checked_store(path: AnyPlace) -> Place:
    """The place, if there is a store of this version; UserError if not."""
    root = to_place(path)
    if not is_store(root):
        raise UserError(f"no store at {root}", "make one with 'nhdata ingest … --store'")
    return root
