"""Make a catalog anew from rows of its sessions, in one step that nobody sees half of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from nhcatalog.checkpoint import Checkpoint, TableFiles, file_name, numbers, read_checkpoint
from nhcatalog.compact import FULL_ROWS
from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.fragment import Fragment, copy_fragment, sorting_connection, write_fragment
from nhcatalog.log import CatalogError, Commit, Log
from nhcatalog.log import file_name as log_name
from nhcatalog.schema import TABLES, conform
from nhcatalog.state import HISTORY_SCHEMA

Session = tuple[Mapping[str, Any], Mapping[str, pa.Table]]


def rebuild(files: Files, sessions: Iterable[Session]) -> Checkpoint:
    """Put these sessions in the place of whatever the catalog says, readable or not.

    A log entry takes the next position, and a checkpoint at that position holds the sessions. Earlier positions can
    no longer be asked for. Nobody may write meanwhile.

    Parameters
    ----------
    files : Files
    sessions : iterable of (mapping, mapping of str to pyarrow.Table)
        The row of ``sessions`` (with ``path`` and ``content_hash``) and the rows of the other tables, of each.

    Raises
    ------
    UserError
        If a session comes twice, or another process changes the catalog meanwhile; nothing has changed then.
    """
    number = max(numbers(files), default=0) + 1
    position = _head(files) + 1
    tables = {name: _Writer(files, name) for name in TABLES if name != "sessions"}
    entry = Commit("rebuild", "")
    history: list[dict[str, Any]] = []
    written = None
    try:
        for commit, (row, rows) in enumerate(sessions, start=1):
            (session,) = conform("sessions", pa.Table.from_pylist([dict(row)])).to_pylist()
            history.append({"_commit": -commit, "_kind": "add", "_committed_at": entry.committed_at, **session})
            for name, table in rows.items():
                tables[name].add(conform(name, table), -commit)
        if len({row["session_id"] for row in history}) < len(history):
            raise UserError("a session comes twice", "give each session once")
        for writer in tables.values():
            writer.flush()
        written = write_fragment(files, "tables", "history", pa.Table.from_pylist(history, schema=HISTORY_SCHEMA))
        named = {name: TableFiles(tuple(writer.made)) for name, writer in tables.items()}
        made = Checkpoint(number, position, position, written, named)
        files.create(log_name(position), entry.to_json())
        files.create(file_name(number), made.to_json())
    except BaseException as error:
        for fragment in [*(one for writer in tables.values() for one in writer.made), *([written] if written else [])]:
            files.delete(fragment.path)
        if isinstance(error, FileExistsError):
            raise UserError(f"{files.root}: another process changes the catalog", "run it again alone") from None
        raise
    return made


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

    def __init__(self, files: Files, table: str) -> None:
        self._files, self._table = files, table
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self.made: list[Fragment] = []

    def add(self, rows: pa.Table, commit: int) -> None:
        self._waiting.append(rows.append_column("_commit", pa.repeat(pa.scalar(commit, pa.int64()), len(rows))))
        self._n_waiting += len(rows)
        if self._n_waiting >= FULL_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._n_waiting:
            with sorting_connection() as connection:
                connection.register("given", pa.concat_tables(self._waiting))
                self.made.append(copy_fragment(connection, self._files, self._table, "FROM given"))
        self._waiting, self._n_waiting = [], 0
