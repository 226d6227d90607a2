"""The catalog of a store: put sessions in, take them out, and ask for them as they were at any time."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nhcatalog.errors import UserError
from nhcatalog.files import Files, open_files
from nhcatalog.log import CatalogError, Commit, Entry, Fragment, Log, check_inside, replay
from nhcatalog.place import Url
from nhcatalog.query import Parameters, run_select
from nhcatalog.schema import TABLES, conform


class SessionExists(UserError):
    """A session that is in the catalog already."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id} is in the catalog already", "replace it, or leave it as it is")
        self.session_id = session_id


class Catalog:
    """Sessions and their units in one folder: a numbered log, and Parquet fragments that never change.

    Any number of processes and threads may read and write at once. Opening writes nothing, and a folder
    that does not exist is an empty catalog.

    Parameters
    ----------
    path : path, Url or str
        The folder, ``<store>/catalog``; on this machine or in an object store.
    """

    def __init__(self, path: str | os.PathLike[str] | Url) -> None:
        self._files = open_files(path)
        self._log = Log(self._files)

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

        Returns
        -------
        int
            The new log position.

        Raises
        ------
        SessionExists
            If the session is there and `replace` is false.
        UserError
            If a row does not fit the registry or belongs to another session.
        """
        now = {"ingested_at": datetime.now(UTC)}
        row = _session_row({**now, **session, "path": path, "content_hash": content_hash})
        session_id = row["session_id"]

        def decide(entries: Mapping[str, Entry]) -> Commit:
            if session_id not in entries:
                return Commit("add", session_id, row, fragments)
            if not replace:
                raise SessionExists(session_id)
            return Commit("replace", session_id, row, fragments)

        fragments: dict[str, Fragment] = {}
        decide(replay(self._log.commits()))
        contents = {name: _parquet(name, table, session_id) for name, table in tables.items() if len(table)}
        for name, content in contents.items():
            fragments[name] = Fragment(f"fragments/{uuid.uuid4().hex}-{name}.parquet", len(content))
            self._files.write(fragments[name].path, content)
        return self._log.append(decide)

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

        def decide(entries: Mapping[str, Entry]) -> Commit:
            if session_id not in entries:
                raise UserError(f"session {session_id} is not in the catalog", "'nhdata ls' lists its sessions")
            return Commit("remove", session_id)

        return self._log.append(decide)

    def paths(self) -> set[str]:
        """Every Zarr group that any position of the log names, relative to the store."""
        return {str(commit.session["path"]) for commit in self._log.commits() if commit.session}

    def snapshot(self, at: int | None = None) -> Snapshot:
        """The catalog as it is now, or as it was after the first `at` changes; 0 is the empty beginning.

        Raises
        ------
        CatalogError
            If the log is damaged or has no such position.
        """
        commits = self._log.commits()
        position = len(commits) if at is None else at
        if not 0 <= position <= len(commits):
            raise CatalogError(f"{self._files.root} has no log position {at}", f"choose one from 0 to {len(commits)}")
        return Snapshot(position, replay(commits[:position]), self._files)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The catalog at one log position; later changes do not show.

    Attributes
    ----------
    position : int
    entries : mapping of session_id to Entry
    """

    position: int
    entries: Mapping[str, Entry]
    _files: Files

    def sql(self, query: str, params: Parameters | None = None) -> pa.Table:
        """Ask in SQL: exactly one SELECT over ``sessions``, ``units``, ``unit_features`` and ``intervals``.

        Parameters
        ----------
        query : str
        params : sequence or mapping, optional
            Values for ``?`` or ``$name``.

        Raises
        ------
        nhcatalog.guard.QueryError
            If the SQL is anything else, or fails.
        CatalogError
            If a fragment is missing or cut short.

        Examples
        --------
        >>> Catalog("nowhere").snapshot().sql("select count(*) as n from units where good").to_pylist()
        [{'n': 0}]
        """
        return run_select(query, params, self._sessions(), self._fragments())

    def _sessions(self) -> pa.Table:
        rows = [entry.session for entry in self.entries.values()]
        names = [column.name for column in TABLES["sessions"].columns]
        columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
        return conform("sessions", pa.table(columns))

    def _fragments(self) -> dict[str, list[str]]:
        sizes = self._files.sizes("fragments")
        files: dict[str, list[str]] = {}
        for session_id, entry in self.entries.items():
            for table, fragment in entry.fragments.items():
                if sizes.get(fragment.path) != fragment.n_bytes:
                    state = "cut short or changed" if fragment.path in sizes else "missing"
                    file = self._files.locate(fragment.path)
                    raise CatalogError(
                        f"{file}: {state}, though the log names it for session {session_id}",
                        "restore the file from a copy, or ingest the session again with --existing overwrite",
                    )
                files.setdefault(table, []).append(self._files.local(fragment.path))
        return files


def _session_row(session: Mapping[str, Any]) -> dict[str, Any]:
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


def _parquet(name: str, table: pa.Table, session_id: str) -> bytes:
    if name == "sessions":
        raise UserError("rows for the table 'sessions'", "give the session's row itself")
    rows = conform(name, table)
    others = set(rows["session_id"].unique().to_pylist()) - {session_id}
    if others:
        raise UserError(f"{name}: rows of session {others.pop()!r}", f"give only those of {session_id!r}")
    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer, compression="zstd")
    content: bytes = buffer.getvalue().to_pybytes()
    return content
