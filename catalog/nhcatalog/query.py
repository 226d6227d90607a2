"""Run one SELECT over the files of a pinned state, in a DuckDB that can do nothing else.

A process keeps the DuckDB of the states it asked last (`engine`): making one costs 20–30 ms, a query in a warm one
as little as 5. Each query has its own cursor, so threads may ask at once. The files' columns are told to DuckDB from
the registry: every view casts to the registry's types, and a column that an older file lacks is NULL.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from nhcatalog.guard import QueryError, TooMuch, as_subquery, one_line, one_select
from nhcatalog.log import RESTORE, MissingFile
from nhcatalog.macros import REGIONS, create_statements
from nhcatalog.schema import TABLES, Column
from nhcatalog.state import State
from nhcatalog.suggest import remedy

MEMORY_LIMIT = "2GB"
SPILL_LIMIT = "16GB"
KEPT_ENGINES = 4
BATCH_ROWS = 65_536

Parameters = Sequence[Any] | Mapping[str, Any]


class Engine:
    """The tables of one state as views of an in-memory DuckDB whose settings are locked.

    Parameters
    ----------
    state : State
    memory_limit : str
        What a query may use, as DuckDB writes it: ``"2GB"``.
    spill : bool
        Whether a query that needs more may use the disk.
    """

    def __init__(self, state: State, memory_limit: str, *, spill: bool = True) -> None:
        self._state = state
        self._memory_limit = memory_limit
        # DuckDB makes the folder when it spills, and takes it away.
        spill_folder = os.path.join(tempfile.gettempdir(), f"nhcatalog-{uuid.uuid4().hex}") if spill else ""
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": memory_limit,
                "temp_directory": spill_folder,
                "max_temp_directory_size": SPILL_LIMIT if spill else "0B",
                "python_enable_replacements": False,
            },
        )
        self.connection.execute("SET parquet_metadata_cache = true")
        files = _create_views(self.connection, state)
        for statement in create_statements():
            self.connection.execute(statement)
        self.connection.execute(f"SET allowed_paths = {_list([*files, str(REGIONS)])}")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def stream(
        self, query: str, params: Parameters | None = None, *, time_s: float | None = None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The result's columns, and its rows batch by batch as they are computed.

        Raises
        ------
        QueryError
            If the SQL is refused by `nhcatalog.guard.one_select`, fails, or takes longer than `time_s`, until the
            last batch; holds DuckDB's own words.
        MissingFile
            If a file that it needs is missing or cut short.
        """
        cursor = self.connection.cursor()
        watch = _Watchdog(cursor, time_s)
        with self._errors(watch):
            statement = one_select(cursor, query)
            reader = cursor.sql(statement, params=params).to_arrow_reader(BATCH_ROWS)
        return reader.schema, self._batches(cursor, reader, watch)

    def columns(self, query: str, params: Parameters | None = None) -> list[str]:
        """Return the names of a query's columns without executing it. Raises QueryError and MissingFile as `stream`."""
        cursor = self.connection.cursor()
        with self._errors(_Watchdog(cursor, None)):
            one_select(cursor, query)
            described = cursor.execute(f"DESCRIBE {as_subquery(query)}", params).fetchall()
        return [str(row[0]) for row in described]

    def _batches(
        self, cursor: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, watch: _Watchdog
    ) -> Iterator[pa.RecordBatch]:
        try:
            while True:
                with self._errors(watch):
                    batch = _next_batch(cursor, reader)
                if batch is None:
                    return
                yield batch
        finally:
            watch.stop()
            reader.close()

    @contextmanager
    def _errors(self, watch: _Watchdog) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as error:
            watch.stop()
            if watch.fired:
                problem = f"the query took longer than {watch.time_s:g} s"
                raise TooMuch(problem, "ask for less, or allow more time") from None
            if type(error) is RuntimeError:
                if str(error) == "Query interrupted":  # what DuckDB makes of a signal
                    raise KeyboardInterrupt from None
                raise
            check_files(self._state)
            # DuckDB stops its other threads when one fails, and sometimes reports that they were stopped
            if isinstance(error, duckdb.InterruptException) or str(error).startswith("INTERRUPT Error"):
                raise QueryError("a row of the query failed, and DuckDB gives no reason", "run it again") from None
            # errors of a later batch pass through Arrow, which keeps their text only
            if isinstance(error, duckdb.OutOfMemoryException) or str(error).startswith("Out of Memory Error"):
                advice = f"ask for fewer rows or columns (the limit is {self._memory_limit})"
                raise TooMuch(one_line(error), advice) from None
            raise QueryError(one_line(error), remedy(str(error))) from None
        except BaseException:
            watch.stop()
            raise


def _next_batch(cursor: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    """Read one batch; None at the end. Ctrl-C interrupts the query, which Arrow alone would not notice."""

    def read() -> pa.RecordBatch | None:
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None

    if threading.current_thread() is not threading.main_thread():
        return read()
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read)
        try:
            return reading.result()
        except KeyboardInterrupt:
            cursor.interrupt()
            raise


class _Watchdog:
    """Interrupts a cursor's query when its time is over."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, time_s: float | None) -> None:
        self.time_s = time_s
        self.fired = False
        self._cursor = cursor
        self._timer = None if time_s is None else threading.Timer(time_s, self._fire)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def _fire(self) -> None:
        self.fired = True
        self._cursor.interrupt()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def check_files(state: State) -> None:
    """Raise MissingFile if a file that the state names is missing or has another size."""
    named = [(f"checkpoint {state.checkpoint.number}", file) for file in state.checkpoint.fragments()]
    for session_id, at in state.live_tail.items():
        named += [(f"session {session_id}", file) for file in state.commit(at).fragments.values()]
    sizes = {**state.files.sizes("fragments"), **state.files.sizes("tables")}
    for owner, file in named:
        if sizes.get(file.path) != file.n_bytes:
            fault = "cut short or changed" if file.path in sizes else "missing"
            with _lock:
                _engines.pop(state.key, None)
            raise MissingFile(
                f"{state.files.locate(file.path)}: {fault}, though the log names it for {owner}",
                RESTORE,
            )


def engine(state: State) -> Engine:
    """The process's warm engine of a state; made if it is not among the last few.

    Raises
    ------
    MissingFile
        If a file of the state is missing.
    """
    key = state.key
    state.files.fetch(file.path for file in state.fragments())
    with _lock:
        found = _engines.pop(key, None)
        if found is not None:
            _engines[key] = found
            return found
    try:
        made = Engine(state, MEMORY_LIMIT)
    except (duckdb.Error, OSError, pa.ArrowException):
        check_files(state)
        raise
    with _lock:
        _engines[key] = made
        while len(_engines) > KEPT_ENGINES:
            _engines.popitem(last=False)
    return made


_engines: OrderedDict[tuple[str, ...], Engine] = OrderedDict()
_lock = threading.Lock()


def _leave_to_parent() -> None:
    """In a forked child: a connection of the parent hangs when used and crashes when closed, so it is kept for ever."""
    global _engines, _lock
    for inherited in _engines.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
    _engines, _lock = OrderedDict(), threading.Lock()


def _close() -> None:
    """At exit: DuckDB reports connections that outlive it on stderr."""
    with _lock:
        _engines.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
atexit.register(_close)


def _create_views(connection: duckdb.DuckDBPyConnection, state: State) -> list[str]:
    """Make the tables of the registry; returns the files that they read."""
    connection.execute("CREATE SCHEMA internal")
    rows = state.session_rows()
    connection.register("given", rows)
    connection.execute("CREATE TABLE internal.recent_sessions AS FROM given")
    connection.unregister("given")
    ended = list(state.ended)
    old = state.position < state.checkpoint.position
    if old:
        connection.register("given", state.alive([]))
        connection.execute("CREATE TABLE internal.alive AS FROM given")
        connection.unregister("given")
    history = [] if state.checkpoint.history is None else [state.files.local(state.checkpoint.history.path)]
    there = f"_kind <> 'remove' AND _commit <= {state.position} AND coalesce(_ended, {2**62}) > {state.position}"
    sessions = _select("sessions", history, [there, *_not_in(ended)])
    connection.execute(f"CREATE VIEW sessions AS {sessions} UNION ALL FROM internal.recent_sessions")
    files = list(history)
    for name in TABLES:
        if name == "sessions":
            continue
        stored = state.checkpoint.tables.get(name)
        names = [file.path for file in stored.current] if stored else []
        where = _not_in([*stored.dead, *ended] if stored else [])
        if old and stored:
            names += [file.path for file in stored.superseded]
            where = ["_commit IN (SELECT _commit FROM internal.alive)"]
        tail = (state.commit(at).fragments.get(name) for at in state.live_tail.values())
        paths = [state.files.local(path) for path in (*names, *(file.path for file in tail if file is not None))]
        connection.execute(f"CREATE VIEW {name} AS {_select(name, paths, where)}")
        files += paths
    return files


_HIDDEN = (
    Column("_commit", "BIGINT", "", "The commit that brought the row; 0 in the file of a single commit"),
    Column("_kind", "VARCHAR", "", "What the commit did"),
    Column("_ended", "BIGINT", "", "Log position at which its session was replaced or removed"),
)


def _select(table: str, files: Sequence[str], where: Sequence[str]) -> str:
    columns = TABLES[table].columns
    if not files:
        nothing = ", ".join(f"NULL::{column.type} AS {column.name}" for column in columns)
        return f"SELECT {nothing} WHERE false"
    hidden = (_HIDDEN if table == "sessions" else _HIDDEN[:1]) if where else ()
    schema = ", ".join(
        f"'{column.name}': {{name: '{column.name}', type: '{column.type}', default_value: {default}}}"
        for columns, default in ((columns, "NULL"), (hidden, "0"))
        for column in columns
    )
    names = ", ".join(column.name for column in columns)
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return f"SELECT {names} FROM read_parquet({_list(files)}, schema = MAP {{{schema}}}){condition}"


def _not_in(commits: Sequence[int]) -> list[str]:
    return [f"_commit NOT IN ({', '.join(map(str, commits))})"] if commits else []


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"
