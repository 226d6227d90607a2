"""The catalog of a store: put sessions in, take them out, and ask for them as they were at any time."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from nhcatalog.checkpoint import Checkpoint
from nhcatalog.compact import compact
from nhcatalog.errors import UserError
from nhcatalog.fragment import Fragment, write_fragment
from nhcatalog.log import Commit, check_inside
from nhcatalog.place import AnyPlace
from nhcatalog.rebuild import Session, rebuild
from nhcatalog.schema import conform
from nhcatalog.selections import Selections
from nhcatalog.snapshot import Snapshot
from nhcatalog.state import Reader, not_there, read_history
from nhcatalog.storage import open_files
from nhcatalog.vacuum import GRACE_S, Elapsed, vacuum
from nhcatalog.verify import verify

COMPACT_EVERY = 32
"""Commits after which a writer makes a checkpoint: the most small files that a reader usually meets."""


class SessionExists(UserError):
    """A session that is in the catalog already."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id} is in the catalog already", "replace it, or leave it as it is")
        self.session_id = session_id


class Catalog:
    """Sessions and their units in one folder: a numbered log, and Parquet files that never change.

    Any number of processes and threads may read and write at once. Opening writes nothing, and a folder
    that does not exist is an empty catalog. Every `COMPACT_EVERY` commits the writer folds the small files into
    large ones; what they replace is swept an hour later.

    Parameters
    ----------
    path : path, Url or str
        The folder, ``<store>/catalog``; on this machine or in an object store.
    """

    def __init__(self, path: AnyPlace) -> None:
        self._files = open_files(path)
        self._reader = Reader(self._files)

    def __repr__(self) -> str:
        return f"Catalog({str(self._files.root)!r})"

    def add(
        self,
        session: Mapping[str, Any],
        tables: Mapping[str, pa.Table],
        path: str,
        content_hash: str,
        *,
        replace: bool = False,
        since: Elapsed | None = None,
    ) -> int:
        """Put a session in: all its rows appear at once, when the log entry does.

        Parameters
        ----------
        session : mapping
            Its row of the table ``sessions``; ``session_id`` at least. ``ingested_at`` is now where missing.
        tables : mapping of str to pyarrow.Table
            Its rows of the other tables, as `nhcatalog.schema.conform` takes them.
        path : str
            The session's Zarr group, relative to the store.
        content_hash : str
        replace : bool
            Whether the session may be there already; its old rows then vanish in the same entry.
        since : Elapsed, optional
            Time since the session's Zarr group was put at `path`; by default, since this call.

        Returns
        -------
        int
            The new log position.

        Raises
        ------
        SessionExists
            If the session is there and `replace` is false.
        UserError
            If a row does not fit the registry or belongs to another session, or if it takes so long that its files may
            have been deleted as those of a dead writer.
        """
        row = session_row({"ingested_at": datetime.now(UTC), **session, "path": path, "content_hash": content_hash})
        session_id = row["session_id"]
        since = since or Elapsed()

        def decide() -> tuple[int, Commit]:
            state = self._reader.state()
            if since.seconds > GRACE_S / 2:
                raise UserError(f"session {session_id}: its rows took too long to write", "add it again")
            if not state.holds(session_id):
                return state.position, Commit("add", session_id, row, fragments)
            if not replace:
                raise SessionExists(session_id)
            return state.position, Commit("replace", session_id, row, fragments)

        fragments: dict[str, Fragment] = {}
        decide()
        rows = {name: _rows(name, table, session_id) for name, table in tables.items() if len(table)}
        for name, table in rows.items():
            fragments[name] = write_fragment(self._files, "fragments", name, table)
        return self._commit(decide)

    def remove(self, session_id: str) -> int:
        """Take a session out; earlier positions still show it.

        Returns
        -------
        int
            The new log position.

        Raises
        ------
        UserError
            If it is not there.
        """

        def decide() -> tuple[int, Commit]:
            state = self._reader.state()
            if not state.holds(session_id):
                raise not_there(session_id)
            return state.position, Commit("remove", session_id)

        return self._commit(decide)

    def _commit(self, decide: Any) -> int:
        position = self._reader.append(decide)
        if position % COMPACT_EVERY == 0:
            try:
                self.compact()
                vacuum(self._files)
            except (UserError, OSError, MemoryError, duckdb.Error, pa.ArrowException):
                # The commit stands; whoever makes the next checkpoint tries again.
                logging.getLogger(__name__).warning("%r: no checkpoint at %d", self, position, exc_info=True)
        return position

    def paths(self) -> set[str]:
        """Every Zarr group that any position names, relative to the store."""
        state = self._reader.state()
        paths = read_history(self._files, state.checkpoint, ["path"])["path"].drop_null().to_pylist()
        return {*paths, *(str(commit.session["path"]) for commit in state.tail if commit.session)}

    def log(self, limit: int | None = None) -> pa.Table:
        """What every commit did, the latest first.

        Returns
        -------
        pyarrow.Table
            ``position``, ``kind``, ``session_id``, ``committed_at``.
        """
        state = self._reader.state()
        names = ["_commit", "_kind", "session_id", "_committed_at"]
        before = read_history(self._files, state.checkpoint, names)
        tail = [
            {"_commit": at, "_kind": commit.kind, "session_id": commit.session_id, "_committed_at": commit.committed_at}
            for at, commit in enumerate(state.tail, start=state.checkpoint.position + 1)
        ]
        after = pa.Table.from_pylist([row for row in tail if row["_kind"] != "rebuild"], schema=before.schema)
        rows = pa.concat_tables([before, after]).sort_by([("_commit", "descending")])
        return rows.slice(0, limit).rename_columns(["position", "kind", "session_id", "committed_at"])

    def snapshot(self, at: int | None = None) -> Snapshot:
        """The catalog as it is now, or as it was after the first `at` changes; 0 is the empty beginning.

        Raises
        ------
        CatalogError
            If the log is damaged or has no such position.
        """
        return Snapshot(self._reader.state(at))

    @property
    def selections(self) -> Selections:
        """The named selections of units."""
        return Selections(self._files)

    def compact(self, *, full: bool = False) -> Checkpoint | None:
        """Fold the small files of the last commits into large ones, so that reading stays fast.

        Readers and writers may go on meanwhile: the files that are folded stay until `vacuum`.

        Parameters
        ----------
        full : bool
            Write the large files anew as well.

        Returns
        -------
        Checkpoint or None
            None if there was nothing to do, or another process did it.
        """
        return compact(self._files, self._reader.state(), full=full)

    def rebuild(self, sessions: Iterable[Session], removed: Iterable[str] = ()) -> Checkpoint:
        """Put these sessions in the place of whatever the catalog says; see `nhcatalog.rebuild.rebuild`."""
        return rebuild(self._files, sessions, removed)

    def fence(self) -> int:
        """Add a log entry that changes nothing; see `nhcatalog.state.Reader.fence`."""
        return self._reader.fence()

    def vacuum(self, grace_s: float = GRACE_S, *, dry_run: bool = False) -> list[str]:
        """Delete files that a checkpoint has taken the place of; see `nhcatalog.vacuum.vacuum`."""
        return vacuum(self._files, grace_s, dry_run=dry_run)

    def verify(self) -> list[str]:
        """Everything that is wrong with the files; see `nhcatalog.verify.verify`."""
        return verify(self._files)


def session_row(session: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``sessions`` as the log keeps it: every column, dates as ISO 8601 text.

    Raises
    ------
    UserError
        If a value does not fit, or the session's path leaves the store.
    """
    table = conform("sessions", pa.table({name: pa.array([value]) for name, value in session.items()}))
    (row,) = table.to_pylist()
    if not row["session_id"]:
        raise UserError("a session without a session_id", "give it one")
    try:
        check_inside(row["path"])
    except ValueError as error:
        raise UserError(f"session {row['session_id']}: {error}", "give it relative to the store") from None
    plain: dict[str, Any] = json.loads(json.dumps(row, default=lambda date: date.isoformat()))
    return plain


def _rows(name: str, table: pa.Table, session_id: str) -> pa.Table:
    if name == "sessions":
        raise UserError("rows for the table 'sessions'", "give the session's row itself")
    rows = conform(name, table)
    others = set(rows["session_id"].unique().to_pylist()) - {session_id}
    if others:
        raise UserError(f"{name}: rows of session {others.pop()!r}", f"give only those of {session_id!r}")
    return rows
