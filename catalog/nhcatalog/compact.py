"""Make a checkpoint: fold the commits after the last one, and small files, into few large ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from nhcatalog.checkpoint import Checkpoint, TableFiles, file_name, n_to_fold
from nhcatalog.errors import UserError
from nhcatalog.files import Files
from nhcatalog.fragment import Fragment, copy_fragment, read_rows, sorting_connection, write_fragment
from nhcatalog.log import CatalogError
from nhcatalog.schema import TABLES, arrow_schema, conform
from nhcatalog.state import HISTORY_SCHEMA, State, read_history, session_table

FULL_ROWS = 500_000
"""Rows of a full file: it is never written anew to make it larger, and bounds the memory that a compaction needs."""

MAX_DEAD = 1000
"""Ended commits that may stay among a table's current rows before its files are written anew without them."""


def compact(files: Files, state: State, *, full: bool = False) -> Checkpoint | None:
    """Make the next checkpoint of a state at the head of the log.

    Parameters
    ----------
    files : Files
    state : State
    full : bool
        Write every file anew, not only the small ones.

    Returns
    -------
    Checkpoint or None
        None if there was nothing to do, or another process made that checkpoint first.

    Raises
    ------
    CatalogError
        If the rows written are not as many as those read; nothing has changed then.
    """
    if not state.tail and not (full and state.checkpoint.number):
        return None
    made: list[Fragment] = []
    with discarded_on_error(files, made):
        history = write_fragment(files, "tables", "history", _history(state))
        made.append(history)
        tables = {}
        for name in TABLES:
            if name != "sessions":
                tables[name], new = _Folding(files, state, name).run(full)
                made += new
    checkpoint = Checkpoint(state.checkpoint.number + 1, state.position, state.checkpoint.first, history, tables)
    return checkpoint if publish_checkpoint(files, checkpoint, made) else None


def publish_checkpoint(files: Files, checkpoint: Checkpoint, made: Sequence[Fragment]) -> bool:
    """Create a checkpoint's file; if another process has created that checkpoint, delete the new Parquet files.

    After any other error, an interruption among them, the checkpoint may exist: its files stay, and `vacuum` deletes
    them if no checkpoint names them.

    Returns
    -------
    bool
        Whether this checkpoint was created.
    """
    try:
        files.create(file_name(checkpoint.number), checkpoint.to_json())
    except FileExistsError:
        discard(files, made)
        return False
    return True


@contextmanager
def discarded_on_error(files: Files, made: Sequence[Fragment]) -> Iterator[None]:
    """Delete Parquet files that nothing names yet if the block fails."""
    try:
        yield
    except BaseException:
        discard(files, made)
        raise


def discard(files: Files, made: Sequence[Fragment]) -> None:
    """Delete Parquet files that nothing names; those that cannot be deleted are left to `vacuum`."""
    for fragment in made:
        with suppress(OSError, UserError):
            files.delete(fragment.path)


def _history(state: State) -> pa.Table:
    """The history of the checkpoint, and of the tail."""
    before = read_history(state.files, state.checkpoint)
    first = state.checkpoint.position + 1
    sessions = session_table(state.tail)
    columns = {
        "_commit": pa.array(range(first, first + len(state.tail)), pa.int64()),
        "_kind": pa.array([commit.kind for commit in state.tail], pa.string()),
        "_committed_at": pa.array([commit.committed_at for commit in state.tail], pa.string()),
        "_ended": pa.nulls(len(state.tail), pa.int64()),
        **{name: sessions[name] for name in sessions.column_names},
    }
    after = pa.table(columns, schema=HISTORY_SCHEMA)
    changes = after.filter(pc.not_equal(after["_kind"], "rebuild"))
    return _with_ended(pa.concat_tables([before, changes]), state.ended)


def _with_ended(history: pa.Table, ended: dict[int, int]) -> pa.Table:
    if not ended:
        return history
    where = pc.index_in(history["_commit"], pa.array(ended, pa.int64()))
    by = pc.take(pa.array(ended.values(), pa.int64()), where)
    column = pc.if_else(pc.is_null(by), history["_ended"], by)
    return history.set_column(history.column_names.index("_ended"), HISTORY_SCHEMA.field("_ended"), column)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Commits ``first`` to ``last`` and the number of rows that they have."""

    first: int
    last: int
    n_rows: int


class _Folding:
    """The files of one table on their way into the next checkpoint."""

    def __init__(self, files: Files, state: State, table: str) -> None:
        self._files, self._state, self._table = files, state, table
        self._old = state.checkpoint.tables.get(table, TableFiles())

    def run(self, full: bool) -> tuple[TableFiles, list[Fragment]]:
        """The table's files in the next checkpoint, and those of them that are new."""
        tail = self._tail()
        dead = {*self._old.dead, *(commit for commit in self._state.ended if commit <= self._state.checkpoint.position)}
        n = len(self._old.current)
        if not full and len(dead) <= MAX_DEAD:
            n = n_to_fold([file.n_rows or 0 for file in self._old.current], len(tail), FULL_ROWS)
        kept, folded = self._old.current[: len(self._old.current) - n], self._old.current[len(self._old.current) - n :]
        if not len(tail) and not folded:
            return replace(self._old, dead=tuple(sorted(dead))), []
        with sorting_connection() as connection:
            connection.register("tail", tail)
            connection.execute(f"CREATE VIEW input AS {self._input(folded)}")
            counts = dict(connection.execute("SELECT _commit, count(*) FROM input GROUP BY ALL ORDER BY 1").fetchall())
            gone = {commit: rows for commit, rows in counts.items() if commit in dead or commit in self._state.ended}
            alive = {commit: rows for commit, rows in counts.items() if commit not in gone}
            current = list(self._write(connection, alive))
            superseded = list(self._write(connection, gone))
        if sum(file.n_rows or 0 for file in (*current, *superseded)) != len(tail) + sum(f.n_rows or 0 for f in folded):
            raise CatalogError(
                f"{self._files.locate('tables')}: a compaction of {self._table} lost rows",
                "run 'nhdata catalog verify'",
            )
        files = TableFiles(
            (*kept, *current), (*self._old.superseded, *superseded), tuple(sorted(dead - gone.keys())) if kept else ()
        )
        return files, [*current, *superseded]

    def _tail(self) -> pa.Table:
        """The rows of the commits after the checkpoint."""
        schema = arrow_schema(self._table).append(pa.field("_commit", pa.int64()))
        parts = [schema.empty_table()]
        named = [commit.fragments[self._table].path for commit in self._state.tail if self._table in commit.fragments]
        self._files.fetch(named)
        for at, commit in enumerate(self._state.tail, start=self._state.checkpoint.position + 1):
            fragment = commit.fragments.get(self._table)
            if fragment is not None:
                found = read_rows(self._files.read(fragment.path))
                known = [name for name in found.column_names if name in schema.names]
                rows = conform(self._table, found.select(known))
                parts.append(rows.append_column(schema.field("_commit"), pa.array([at] * len(rows), pa.int64())))
        return pa.concat_tables(parts)

    def _input(self, folded: Sequence[Fragment]) -> str:
        columns = [*((column.name, str(column.type)) for column in TABLES[self._table].columns), ("_commit", "BIGINT")]
        if not folded:
            return "FROM tail"
        schema = ", ".join(f"'{name}': {{name: '{name}', type: '{of}', default_value: NULL}}" for name, of in columns)
        self._files.fetch(file.path for file in folded)
        paths = ", ".join("'" + self._files.local(file.path).replace("'", "''") + "'" for file in folded)
        return f"FROM read_parquet([{paths}], schema = MAP {{{schema}}}) UNION ALL BY NAME FROM tail"

    def _write(self, connection: duckdb.DuckDBPyConnection, rows_of: dict[int, int]) -> Iterator[Fragment]:
        """The rows of these commits, in files of at most about `FULL_ROWS`, each sorted by session."""
        for chunk in _chunks(rows_of):
            commits = [commit for commit in rows_of if chunk.first <= commit <= chunk.last]
            connection.register("given", pa.table({"_commit": pa.array(commits, pa.int64())}))
            connection.execute("CREATE OR REPLACE TABLE wanted AS FROM given")
            connection.unregister("given")
            query = "FROM input WHERE _commit IN (SELECT _commit FROM wanted)"
            yield copy_fragment(connection, self._files, self._table, query)


def _chunks(rows_of: dict[int, int]) -> list[_Chunk]:
    """Neighbouring commits together, up to `FULL_ROWS` rows; a commit is never split."""
    chunks: list[_Chunk] = []
    for commit, rows in sorted(rows_of.items()):
        if chunks and chunks[-1].n_rows + rows <= FULL_ROWS:
            chunks[-1] = replace(chunks[-1], last=commit, n_rows=chunks[-1].n_rows + rows)
        else:
            chunks.append(_Chunk(commit, commit, rows))
    return chunks
