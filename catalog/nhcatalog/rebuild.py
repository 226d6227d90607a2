"""Make a catalog anew from rows of its sessions, in one step that nobody sees half of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from nhcatalog.checkpoint import Checkpoint, TableFiles, numbers, read_checkpoint
from nhcatalog.compact import FULL_ROWS, discarded_on_error, publish_checkpoint
from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.fragment import Fragment, copy_fragment, sorting_connection, write_fragment
from nhcatalog.log import CatalogError, Commit, Log
from nhcatalog.log import file_name as log_name
from nhcatalog.schema import TABLES, conform
from nhcatalog.state import HISTORY_SCHEMA

Session = tuple[Mapping[str, Any], Mapping[str, pa.Table]]


def rebuild(files: Files, sessions: Iterable[Session], removed: Iterable[str] = ()) -> Checkpoint:
    """Put these sessions in the place of whatever the catalog says, readable or not.

    A log entry takes the next position, and a checkpoint at that position holds the sessions. Earlier positions can
    no longer be asked for. Nobody may write meanwhile.

    Parameters
    ----------
    files : Files
    sessions : iterable of (mapping, mapping of str to pyarrow.Table)
        The row of ``sessions`` (with ``path`` and ``content_hash``) and the rows of the other tables, of each.
    removed : iterable of str
        Ids of sessions that were removed before: the history keeps them, so that what is left of their files is not
        taken for sessions that the catalog lost.

    Raises
    ------
    UserError
        If a session comes twice, or another process changes the catalog meanwhile; nothing has changed then.
    """
    number = max(numbers(files), default=0) + 1
    position = _head(files) + 1
    made: list[Fragment] = []
    tables = {name: _Writer(files, name, made) for name in TABLES if name != "sessions"}
    entry = Commit("rebuild", "")
    history: list[dict[str, Any]] = [
        {"_commit": -commit, "_kind": "remove", "_committed_at": entry.committed_at, "session_id": session_id}
        for commit, session_id in enumerate(removed, start=1)
    ]
    with discarded_on_error(files, made):
        for commit, (row, rows) in enumerate(sessions, start=len(history) + 1):
            (session,) = conform("sessions", pa.Table.from_pylist([dict(row)])).to_pylist()
            history.append({"_commit": -commit, "_kind": "add", "_committed_at": entry.committed_at, **session})
            for name, table in rows.items():
                tables[name].add(conform(name, table), -commit)
        if len({row["session_id"] for row in history}) < len(history):
            raise UserError("a session comes twice", "give each session once")
        for writer in tables.values():
            writer.flush()
        written = write_fragment(files, "tables", "history", pa.Table.from_pylist(history, schema=HISTORY_SCHEMA))
        made.append(written)
        try:
            files.create(log_name(position), entry.to_json())
        except FileExistsError:
            raise _busy(files) from None
    named = {name: TableFiles(tuple(writer.files_made)) for name, writer in tables.items()}
    checkpoint = Checkpoint(number, position, position, written, named)
    if not publish_checkpoint(files, checkpoint, made):
        raise _busy(files)
    return checkpoint


def _busy(files: Files) -> UserError:
    return UserError(f"{files.root}: another process changes the catalog", "run it again alone")


def _head(files: Files) -> int:
    """The last position that anything says there is."""
    positions = [0, *Log(files).positions()]
    for number in numbers(files):
        try:
            positions.append(read_checkpoint(files, number).position)
        except (FileNotFoundError, CatalogError):
            continue
    return max(positions)


class _Writer:
    """Rows of one table on their way into files of about `FULL_ROWS`, each sorted by session."""

    def __init__(self, files: Files, table: str, made: list[Fragment]) -> None:
        self._files, self._table, self._made = files, table, made
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self.files_made: list[Fragment] = []

    def add(self, rows: pa.Table, commit: int) -> None:
        self._waiting.append(rows.append_column("_commit", pa.repeat(pa.scalar(commit, pa.int64()), len(rows))))
        self._n_waiting += len(rows)
        if self._n_waiting >= FULL_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._n_waiting:
            with sorting_connection() as connection:
                connection.register("given", pa.concat_tables(self._waiting))
                self.files_made.append(copy_fragment(connection, self._files, self._table, "FROM given"))
                self._made.append(self.files_made[-1])
        self._waiting, self._n_waiting = [], 0
